"""Writes one run's folder: pixels as they come, tables at the end, `run.json` last."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from plankter._errors import Conflict, StoreError
from plankter.store.archived_run import RUN_FILE, RUN_FORMAT, ArchivedRun, read_run_file
from plankter.store.encoding import json_text, run_object
from plankter.store.files import plain_name, sha256_of, sync, write_text
from plankter.store.parquet import feature_table, new_pixels, particle_table, write_table
from plankter.types import ImportedLabel, Particles, Run
from plankter.vignettes.codec import decode_image

_PNG = b"\x89PNG\r\n\x1a\n"
_LOCAL_HEADER_BYTES = 30
_SPILL_BYTES = 1_000_000


class _Unspilled:
    """The file that zipfile writes to, its last members still in memory.

    zipfile goes back to the header after each member; a buffered file writes itself out at every such step, which
    took a sixth of an ingest's time.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._begin, self._at = 0, 0
        self._data = bytearray()

    def tell(self) -> int:
        return self._begin + self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset - self._begin
        if whence != 0 or not 0 <= at <= len(self._data):
            raise OSError(f"cannot go to {offset}: only the last members are still in memory")
        self._at = at
        return offset

    def write(self, data: bytes) -> int:
        self._data[self._at : self._at + len(data)] = data
        self._at += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: `spill` writes."""

    def spill(self) -> None:
        """Writes what is in memory; called between members only."""
        left = memoryview(self._data)
        while left:
            left = left[self._file.write(left) :]
        del left
        self._begin, self._at = self._begin + len(self._data), 0
        self._data = bytearray()

    def size(self) -> int:
        """Bytes in memory."""
        return len(self._data)

    def close(self) -> None:
        self._file.close()


class _Pack:
    """A zip of stored members, written in one pass; tells where each member's bytes begin."""

    def __init__(self, path: Path) -> None:
        self._file = _Unspilled(path)
        self._zip = zipfile.ZipFile(cast(IO[bytes], self._file), "w", zipfile.ZIP_STORED, allowZip64=True)

    def add(self, index: int, data: bytes) -> int:
        """Adds a member and returns the position of its first byte."""
        entry = zipfile.ZipInfo(f"{index:06d}.png")  # without a time: the same run is the same bytes
        self._zip.writestr(entry, data)
        if self._file.size() > _SPILL_BYTES:
            self._file.spill()
        return entry.header_offset + _LOCAL_HEADER_BYTES + len(entry.filename)

    def close(self) -> None:
        """Writes the directory."""
        try:
            self._zip.close()
            self._file.spill()
        finally:
            self._file.close()


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in px by a PNG's header; 0, 0 for anything else."""
    if data[:8] != _PNG or len(data) < 24:
        return 0, 0
    width, height = struct.unpack(">II", data[16:24])
    return width, height


class RunWriter:
    """Takes a run's particles one by one, then its tables; made by `Archive.create`.

    Args:
        partial: folder to write in.
        folder: the run's folder; may exist, then it is written anew.
    """

    def __init__(self, partial: Path, folder: Path) -> None:
        self._partial, self._folder = partial, folder
        self._packs = {kind: _Pack(partial / f"{kind}s.zip") for kind in ("vignette", "mask")}
        self._pixels = new_pixels()
        self._closed = False

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, ValueError):  # the folder is thrown away; what matters is the first error
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            first, second = self._packs.values()
            try:
                first.close()
            finally:
                second.close()

    def _fill(self, count: int) -> None:
        while len(self._pixels["sha256"]) < count:
            for name, values in self._pixels.items():
                values.append(None if name == "sha256" else 0 if name.endswith("_px") else -1)

    def add(self, index: int, vignette_png: bytes | None, mask_png: bytes | None) -> None:
        """Adds a particle's pixels, by rising index; particles without any may be left out.

        Raises:
            StoreError: not by rising index.
        """
        pixels = self._pixels
        if index < len(pixels["sha256"]):
            raise StoreError(f"particle {index} came after particle {len(pixels['sha256']) - 1}")
        self._fill(index + 1)
        for kind, data in (("vignette", vignette_png), ("mask", mask_png)):
            if data is not None:
                pixels[f"{kind}_offset"][index] = self._packs[kind].add(index, data)
                pixels[f"{kind}_length"][index] = len(data)
        if vignette_png is not None:
            pixels["sha256"][index] = hashlib.sha256(vignette_png).hexdigest()
            pixels["vignette_width_px"][index], pixels["vignette_height_px"][index] = png_size(vignette_png)

    def commit(
        self,
        run: Run,
        particles: Particles,
        labels: Sequence[ImportedLabel],
        feature_set: str,
        feature_version: str,
        feature_columns: Sequence[str],
        feature_values: npt.NDArray[np.float32],
        fringe_px: float,
    ) -> None:
        """Writes the tables and puts the run in its place.

        Args:
            run: its facts.
            particles: all of them.
            labels: classes given in the instrument's software.
            feature_set: name of the measures.
            feature_version: their version.
            feature_columns: their names.
            feature_values: float32 (n, k).
            fringe_px: the instrument's fringe correction.

        Raises:
            StoreError: the run_id is not the one that was asked for, or the tables do not fit together.
            Conflict: pixels, or the number of particles, differ from what is in the archive.
        """  # fmt: skip
        n = len(particles)
        if run.run_id != self._folder.name:
            raise StoreError(f"run {run.run_id} was written as {self._folder.name}")
        if len(self._pixels["sha256"]) > n or np.shape(feature_values) != (n, len(feature_columns)):
            shape = f"{len(self._pixels['sha256'])} pixels and features of shape {np.shape(feature_values)}"
            raise StoreError(f"run {run.run_id} has {n} particles, but {shape}")
        self._fill(n)
        self._close()
        old = ArchivedRun(self._folder) if (self._folder / RUN_FILE).exists() else None
        if old is not None:
            self._compare(old, n)
        features = f"features/{plain_name(feature_set)}-{plain_name(feature_version)}.parquet"
        files = {"vignettes": "vignettes.zip", "masks": "masks.zip", "instrument": "instrument.parquet"}
        files |= {"labels": "labels.json", "features": features}
        (self._partial / "features").mkdir()
        write_table(
            particle_table(particles, self._pixels), self._partial / files["instrument"], {"run_id": run.run_id}
        )
        facts = {"name": feature_set, "version": feature_version}
        write_table(feature_table(feature_columns, feature_values), self._partial / features, facts)
        listed = [[label.index, label.class_name, label.classification] for label in labels]
        (self._partial / files["labels"]).write_text(json_text(listed) + "\n", encoding="utf-8")
        offsets = {kind: np.array(self._pixels[f"{kind}_offset"], np.int64) for kind in self._packs}
        counts = {f"{kind}s": int((at >= 0).sum()) for kind, at in offsets.items()}
        counts |= {"particles": n, "failures": sum(failure is not None for failure in particles.failure)}
        head = {"format": RUN_FORMAT, "run": run_object(run), "fringe_px": float(fringe_px), "counts": counts}
        self._place(files, head, old)

    def _compare(self, old: ArchivedRun, n: int) -> None:
        """Refuses to take away or change pixels that are in the archive."""
        run_id, hint = old.run.run_id, "remove the run first to read it anew; nothing was changed"
        if len(old) != n:
            raise Conflict(f"run {run_id} has {len(old)} particles in the archive, now {n}", hint=hint)
        for index, (before, now) in enumerate(zip(old.vignette_sha256(), self._pixels["sha256"], strict=True)):
            if before is None or before == now:
                continue
            if now is None:
                raise Conflict(f"run {run_id}: particle {index} has a vignette in the archive, now none", hint=hint)
            # another encoder may have packed the same pixels differently
            if not np.array_equal(decode_image(old.vignette_png(index) or b""), decode_image(self._vignette(index))):
                raise Conflict(f"run {run_id}: the pixels of particle {index} are not those in the archive", hint=hint)

    def _vignette(self, index: int) -> bytes:
        with (self._partial / "vignettes.zip").open("rb") as file:
            file.seek(self._pixels["vignette_offset"][index])
            return file.read(self._pixels["vignette_length"][index])

    def _place(self, files: dict[str, str], head: dict[str, Any], old: ArchivedRun | None) -> None:
        """A new folder is moved whole; into one that exists new files go under new names, then `run.json` changes."""
        entries: dict[str, dict[str, Any]] = {}
        for role, name in files.items():
            path = self._partial / name
            entries[role] = {"name": name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
        if old is None:
            for name in files.values():
                sync(self._partial / name)
            sync(self._partial / "features")
            write_text(self._partial / RUN_FILE, _text({**head, "files": entries}))
            if self._folder.exists():  # left by a kill before its commit
                _remove_tree(self._folder)
            self._partial.rename(self._folder)
            sync(self._folder.parent)
            return
        for role, entry in entries.items():
            known = old.facts["files"][role]
            if known["sha256"] == entry["sha256"]:
                entry["name"] = known["name"]
                continue
            source = self._partial / str(entry["name"])
            sync(source)
            entry["name"] = _free_name(self._folder, str(entry["name"]))
            (self._folder / entry["name"]).parent.mkdir(exist_ok=True)
            source.rename(self._folder / entry["name"])
            sync((self._folder / entry["name"]).parent)
        write_text(self._folder / RUN_FILE, _text({**head, "files": entries}))
        for path in self.leftovers(self._folder):
            path.unlink()

    @staticmethod
    def leftovers(folder: Path) -> list[Path]:
        """Files of earlier commits, or of killed ones, that `run.json` does not name; what was added later is none."""
        entries = read_run_file(folder)["files"].values()
        named = {folder / entry["name"] for entry in entries}
        roots = {re.sub(r"(~\d+)?(\.\w+)$", "", entry["name"]) for entry in entries}
        found = []
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            ours = re.sub(r"(~\d+)?(\.\w+)$", "", name) in roots
            if path.is_file() and path not in named and (ours or path.name.endswith(".partial")):
                found.append(path)
        return found


def _text(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True, indent=1) + "\n"


def _free_name(folder: Path, name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    number = 2
    while (folder / name).exists():
        name, number = f"{stem}~{number}{dot}{ending}", number + 1
    return name


def _remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    folder.rmdir()
