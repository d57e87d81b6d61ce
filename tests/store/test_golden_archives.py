"""Archives and catalogues written by earlier versions open, say the same, and can be rebuilt from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plankter.store import maintenance
from plankter.store.archive import Archive
from plankter.store.base import ParticleFilter
from plankter.store.encoding import annotation_object, run_object, sample_object
from plankter.store.journal import Journal
from plankter.store.sqlite import SqliteCatalogue
from plankter.vignettes.codec import decode_image

ARCHIVES = Path(__file__).parent / "archives"
VERSIONS = sorted(path.name for path in ARCHIVES.iterdir() if path.name.startswith("v"))


@pytest.fixture(params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a version's folder, and what it must say."""
    folder = tmp_path / "kept"
    shutil.copytree(ARCHIVES / request.param, folder)
    return folder, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def test_there_is_one_of_this_version() -> None:
    assert "v0.1" in VERSIONS


def test_an_old_archive_opens(kept: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = kept
    archive = Archive(folder / "archive")
    (run_id,) = archive.run_ids()
    found = archive.open(run_id)
    assert run_object(found.run) == expected["run"] and found.problems(deep=True) == []
    n = len(expected["statuses"])
    for index in range(n):
        png = found.vignette_png(index)
        if index < len(expected["pixels"]):
            assert decode_image(png or b"").tolist() == expected["pixels"][index]
        else:
            assert png is None
        assert (found.mask_png(index) is not None) == (index in expected["masks"])
    columns, values = found.features("morphology")
    assert values[:, columns.index("esd_um")].tolist() == expected["esd_um"]
    assert np.array_equal(found.embeddings("b1"), np.array(expected["embeddings"], np.float16))
    (model_id,) = found.prediction_model_ids()
    for name, value in expected["predictions"].items():
        assert np.array_equal(getattr(found.predictions(model_id), name), value), name
    assert [annotation_object(fact) for fact in Journal(archive.root).read()] == expected["facts"]
    assert [sample_object(sample) for sample in archive.samples()] == [expected["sample"]]


def test_an_old_catalogue_opens_and_is_what_a_rebuild_makes(kept: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = kept
    archive, path = Archive(folder / "archive"), folder / "catalogue.sqlite"
    for _ in range(2):
        catalogue = SqliteCatalogue(path)
        rows, _ = catalogue.page(ParticleFilter())
        assert [row.status for row in rows] == expected["statuses"]
        assert {str(row.index): row.label for row in rows if row.label} == expected["labels"]
        assert [annotation_object(fact) for _, fact in catalogue.annotations()] == expected["facts"]
        (record,) = catalogue.runs()
        assert run_object(record.run) == expected["run"] and record.predicted == 3
        assert maintenance.check(catalogue, archive, deep=True) == []
        catalogue.close()
        maintenance.rebuild_sqlite(archive, path)
