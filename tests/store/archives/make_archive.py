"""Writes the golden archive and catalogue of a version, which later versions must open: python make_archive.py v0.1

Run once before a release, never again for a version that was released.
"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from plankter.store.archive import Archive
from plankter.store.encoding import annotation_object, run_object, sample_object
from plankter.store.journal import Journal
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import example_fact, example_particles, example_predictions, example_run, run_id_of
from plankter.types import ImportedLabel, Sample, Source, Taxon
from plankter.vignettes.codec import encode_mask, encode_vignette

N = 5
COLUMNS = ("esd_um", "abd_area_um2")


def make(folder: Path) -> None:
    """Makes ``archive/``, ``catalogue.sqlite`` and ``expected.json`` in a new folder."""
    folder.mkdir()
    archive, run = Archive(folder / "archive"), example_run()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (N, 6, 7), dtype=np.uint8)
    values = np.arange(2 * N, dtype=np.float32).reshape(N, 2) / 4
    with archive.create(run.run_id) as writer:
        for index in range(N - 1):
            writer.add(index, encode_vignette(pixels[index]), encode_mask(pixels[index] > 99) if index % 2 else None)
        writer.commit(
            run, example_particles(N), (ImportedLabel(1, "Copepoda", "auto"),), "morphology", "1", COLUMNS, values, 0.25
        )
    predictions = example_predictions(indices=(0, 1, 3))
    archived = archive.open(run.run_id)
    archived.put_predictions(predictions)
    archived.put_embeddings("b1", values)
    sample = Sample("station 2", "Station", latitude_deg=51.5, environment={"temperature_degC": 12.1})
    archive.put_sample(sample)
    archive.attach(run.run_id, "station 2")
    facts = [example_fact(index=1, source=Source.IMPORT), example_fact(index=0, class_id="detritus", seconds=2)]
    Journal(archive.root).append(facts)
    _catalogue(folder / "catalogue.sqlite", archive, sample, facts)
    expected = {
        "run": run_object(archive.open(run.run_id).run),
        "sample": sample_object(sample),
        "pixels": pixels[: N - 1].tolist(),
        "masks": [index for index in range(N - 1) if index % 2],
        "esd_um": values[:, 0].tolist(),
        "embeddings": values.tolist(),
        "facts": [annotation_object(fact) for fact in facts],
        "predictions": {"index": predictions.index.tolist(), "best": predictions.best.tolist(),
                        "scores": predictions.scores.tolist(), "class_ids": list(predictions.class_ids)},
        "labels": {"0": "detritus", "1": "Copepoda"},
        "statuses": ["validated", "imported", "unlabelled", "unlabelled", "unlabelled"],
    }  # fmt: skip
    (folder / "expected.json").write_text(json.dumps(expected, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(archive.root / ".locks")
    for path in [*folder.rglob("*.lock"), *folder.rglob("*.turn")]:
        path.unlink()


def _catalogue(path: Path, archive: Archive, sample: Sample, facts: list) -> None:
    working = path.with_name("working.sqlite")
    catalogue = SqliteCatalogue(working, clock=lambda: datetime(2026, 11, 25, tzinfo=UTC))
    catalogue.put_taxa([Taxon("Copepoda", "Copepoda", 1080), Taxon("detritus", "detritus", kind="non-living")])
    catalogue.put_sample(sample)
    archived = archive.open(run_id_of("a"))
    catalogue.put_run(archived.run, archived.rows())
    catalogue.put_predictions(archived.predictions("m1"))
    catalogue.annotate(facts)
    catalogue.put_model("m1", "first", {"top1": 0.5})
    catalogue.database.copy_to(path)
    catalogue.close()
    for left in path.parent.glob("working.sqlite*"):
        left.unlink()


if __name__ == "__main__":
    make(Path(__file__).parent / sys.argv[1])
