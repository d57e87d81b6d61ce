"""Evaluations as the pages show them: which there are, the confusion matrix, the images of a cell, scores for thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import NotFound, ReadError
from plankter.service.analysis import Analysis, images_of
from plankter.service.jobs import DONE, Job
from plankter.service.state import Service
from plankter.types import Taxon
from plankter.workflow.evaluation_images import EvaluatedImages, class_rows, most_confused, read_images, tables_beside

SHOWN_CLASSES = 25  # of the matrix, where not all are asked for
LEVELS = 5
PER_MILLE = 1000
SEED = 0
SECOND = ".against"  # behind the id of a job: its other model


@dataclass(frozen=True)
class Cell:
    """Images of one true class that were given one class. ``level`` 1 to `LEVELS` grows with the share of the row."""

    given: int
    count: int
    level: int


@dataclass(frozen=True)
class MatrixRow:
    """One true class of the matrix; ``errors`` counts those of the classes not shown too."""

    true: int
    images: int
    errors: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Evaluation:
    """One model's answers in an evaluation that was done. ``key`` is its address: id of the job, `SECOND` behind it for
    the answers of the other model."""

    key: str
    job: Job
    result: dict[str, Any]
    images: EvaluatedImages
    taxa: dict[str, Taxon]

    @property
    def address(self) -> str:
        """Path of its page below the server's address."""
        return f"/evaluations/{self.key}"

    def name_of(self, position: int) -> str:
        """A class as the list calls it."""
        class_id = self.images.class_ids[position]
        taxon = self.taxa.get(class_id)
        return taxon.name if taxon else class_id

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Classes, the hardest first, with their names."""
        return [{**row, "name": self.name_of(row["position"])} for row in class_rows(self.images)]

    def matrix(self, everything: bool) -> list[MatrixRow]:
        """The confusion matrix of the classes with the most errors, or of all."""
        confusion = self.images.confusion
        shown = most_confused(confusion, None if everything else SHOWN_CLASSES)
        found = []
        for true in shown:
            row = confusion[true]
            total = int(row.sum())
            cells = tuple(Cell(c, int(row[c]), _level(int(row[c]), total)) if row[c] else None for c in shown)
            found.append(MatrixRow(true, total, total - int(row[true]), cells))
        return found

    def select(self, true: str | None, given: str | None, errors: bool) -> npt.NDArray[np.int64]:
        """Rows of the images of a cell, the surest first; a class left open is any.

        Raises:
            NotFound: the model has no such class.
        """
        chosen = np.ones(len(self.images), bool)
        for class_id, positions in ((true, self.images.true), (given, self.images.given)):
            if class_id is not None:
                chosen &= positions == self.position(class_id)
        if errors:
            chosen &= self.images.true != self.images.given
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-self.images.scores[rows, 0], kind="stable")]

    def position(self, class_id: str) -> int:
        """Where a class stands in the model's list.

        Raises:
            NotFound: it does not.
        """
        try:
            return self.images.class_ids.index(class_id)
        except ValueError:
            raise NotFound(f"the model has no class {class_id[:100]!r}") from None

    def scores(self, start: int, limit: int) -> dict[str, Any]:
        """True class, best class and score (in 1/1000, rounded down) of images in an order drawn at random, so that the
        first pages alone are a fair sample."""
        order = np.random.default_rng(SEED).permutation(len(self.images))[start : start + limit]
        following = start + limit
        return {
            "total": len(self.images), "start": start, "next": following if following < len(self.images) else None,
            "true": self.images.true[order].tolist(), "given": self.images.given[order].tolist(),
            "score": np.floor(self.images.scores[order, 0].astype(np.float64) * PER_MILLE).astype(int).tolist(),
        }  # fmt: skip


def _level(count: int, total: int) -> int:
    """1 for a few images of the row, `LEVELS` for half of them or more."""
    return int(min(LEVELS, 1 + np.floor(LEVELS * 2 * count / total))) if total else 1


@lru_cache(maxsize=8)
def _table(path: Path, _written: int) -> EvaluatedImages:
    return read_images(path)


def find_evaluation(service: Service, key: str) -> Evaluation:
    """An evaluation by the id of its job, with `SECOND` behind it for the answers of the other model.

    Raises:
        NotFound: there is none, or it was made before images were kept.
    """
    job_id, dot, side = key.partition(".")
    folder = service.jobs.folder(job_id)
    job, result = folder.read(), folder.result()
    if job.kind != "evaluate" or job.state != DONE or result is None or (dot and dot + side != SECOND):
        raise NotFound("this is no evaluation that was done", hint="its job says how far it is")
    path = tables_beside(folder.folder)["against" if side else "first"]
    try:
        table = _table(path, path.stat().st_mtime_ns)
    except (OSError, ReadError) as error:
        hint = "evaluate again: evaluations keep what was said of each image since this version"
        raise NotFound("this evaluation did not keep its images", hint=hint) from error
    return Evaluation(key, job, result, table, service.taxa())


def evaluations(service: Service, most: int = 100) -> list[dict[str, str]]:
    """Evaluations that are kept, with their images, the newest first: ``key``, ``title``, ``model`` (name or id) and ``at``."""
    found: list[dict[str, str]] = []
    for job in service.jobs.all():
        if job.kind != "evaluate" or job.state != DONE or not job.kept or len(found) >= most:
            continue
        folder = service.jobs.folder(job.id).folder
        for side, path in tables_beside(folder).items():
            if path.is_file():
                model = str(job.arguments.get("model" if side == "first" else "against"))
                key = job.id + (SECOND if side == "against" else "")
                found.append({"key": key, "title": job.title, "model": model, "at": job.created_at})
    return found


def as_analysis(service: Service, key: str) -> Analysis:
    """An evaluation as the pages of results show images, with what their folders say as the reason.

    Raises:
        NotFound: as `find_evaluation`.
    """
    found = find_evaluation(service, key)
    images, read = found.images, images_of(service, str(found.result.get("images_root", "")))
    said = [images.class_ids[c] for c in images.given.tolist()]
    reasons = [f"its folder says {found.name_of(c)}" for c in images.true.tolist()]
    return Analysis(
        "evaluation", key, found.job.title, images.model, images.model_id, images.class_ids, images.names,
        images.best.astype(np.int16), images.scores, said, reasons, [None] * len(images),
        lambda number: read(images.names[number]), None, None, found.taxa,
    )  # fmt: skip
