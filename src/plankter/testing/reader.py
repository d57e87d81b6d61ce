"""What every reader must do, said as tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ReadError
from plankter.readers.base import Portion, PortionReader, Reader, RunSource
from plankter.store.files import sha256_of


class ReaderContract:
    """Subclass it, name the subclass ``Test...`` and say which reader, and which run it shall read."""

    def reader(self) -> Reader:
        """The reader, as its entry point makes it."""
        raise NotImplementedError

    def identity_file(self, folder: Path) -> Path:
        """Writes a small run with pixels into the empty ``folder``; returns the file that identifies it."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> RunSource:
        """The run to read."""
        path = self.identity_file(tmp_path)
        return RunSource(self.reader().name, path, str(path))

    def test_it_takes_its_own_file_and_says_why_not_another(self, source: RunSource, tmp_path: Path) -> None:
        """`can_read` gives None for the reader's own file and a reason in words for any other."""
        assert self.reader().can_read(source.path) is None
        other = tmp_path / "other.xyz"
        other.write_bytes(b"\x00\x01 something else")
        refusal = self.reader().can_read(other)
        assert isinstance(refusal, str) and refusal.strip()

    def test_the_run_is_identified_by_its_file(self, source: RunSource) -> None:
        """The run_id is the first 16 hexadecimal digits of the identity file's SHA-256."""
        assert self.reader().read(source).run.run_id == sha256_of(source.path)[:16]

    def test_reading_twice_gives_the_same(self, source: RunSource) -> None:
        """Two readings of one file give equal runs, labels and feature columns."""
        first, second = self.reader().read(source), self.reader().read(source)
        assert first.run == second.run and first.labels == second.labels
        for name, column in first.particles.features.items():
            assert np.array_equal(column, second.particles.features[name], equal_nan=column.dtype.kind == "f")

    def test_every_file_is_hashed(self, source: RunSource) -> None:
        """``run.files`` holds SHA-256 digests, that of the identity file among them."""
        files = self.reader().read(source).run.files
        assert sha256_of(source.path) in files.values()
        assert all(len(digest) == 64 for digest in files.values())

    def test_one_vignette_a_particle_in_order(self, source: RunSource) -> None:
        """Vignettes come one a particle, by index; where the box has a size, the image has it too."""
        particles = self.reader().read(source).particles
        vignettes = list(self.reader().vignettes(source, particles))
        assert [vignette.index for vignette in vignettes] == list(range(len(particles)))
        assert any(vignette.image is not None for vignette in vignettes)
        for vignette in vignettes:
            box = particles.box[vignette.index]
            if vignette.image is not None and box[2] > 0:
                assert vignette.image.shape[:2] == (box[3], box[2])

    def test_portions_give_the_same_vignettes(self, source: RunSource) -> None:
        """Portions follow each other without a gap, survive JSON, and give the pixels that reading in one go gives; skipped
        where the reader or the run knows no portions."""
        reader = self.reader()
        if not isinstance(reader, PortionReader):
            pytest.skip("this reader reads a run in one go")
        particles = reader.read(source).particles
        portions = reader.portions(source, particles)
        if portions is None:
            pytest.skip("this run is read in one go")
        assert [portion.start for portion in portions[1:]] == [portion.stop for portion in portions[:-1]]
        # they go to other processes as JSON
        told = [Portion(p.start, p.stop, json.loads(json.dumps(dict(p.facts)))) for p in portions]
        found = [vignette for portion in told for vignette in reader.portion_vignettes(portion)]
        expected = list(reader.vignettes(source, particles))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one.index, one.failure) == (other.index, other.failure)
            for mine, theirs in ((one.image, other.image), (one.mask, other.mask)):
                assert (mine is None) == (theirs is None)
                assert mine is None or theirs is None or np.array_equal(mine, theirs)

    def test_labels_are_of_particles(self, source: RunSource) -> None:
        """Every label names a class and a particle that exists."""
        read = self.reader().read(source)
        assert all(0 <= label.index < len(read.particles) and label.class_name for label in read.labels)

    def test_a_damaged_file_is_refused_or_flagged(self, source: RunSource) -> None:
        """Half an identity file is a `ReadError` that names the file, or a run with a problem or a flag; never a silent one."""
        data = source.path.read_bytes()
        source.path.write_bytes(data[: len(data) // 2])
        try:
            read = self.reader().read(source)
        except ReadError as error:
            assert error.path is not None
        else:
            assert read.problems or read.run.flags

    def test_nothing_is_written(self, source: RunSource) -> None:
        """Reading leaves every file beside the run as it was, and adds none."""
        before = {path: sha256_of(path) for path in source.path.parent.rglob("*") if path.is_file()}
        read = self.reader().read(source)
        list(self.reader().vignettes(source, read.particles))
        assert before == {path: sha256_of(path) for path in source.path.parent.rglob("*") if path.is_file()}
