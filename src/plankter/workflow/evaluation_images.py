"""What a model said of each image of an evaluation, kept as a table: for pages that open single images and thresholds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ReadError
from plankter.classify.evaluation_summary import jsonable
from plankter.classify.models import MODEL_JSON, read_model_json, thresholds_of
from plankter.classify.paired_comparison import compare_models
from plankter.workflow.evaluation_numbers import Scored

PLACES = 5
IMAGES, AGAINST = "images.parquet", "against.parquet"
_KEY = b"plankter"


@dataclass(frozen=True)
class EvaluatedImages:
    """One model's answers on the images of an evaluation that it could read.

    Attributes:
        model, model_id: name and id.
        class_ids: of the model.
        thresholds: the model's own least score of each class, None where it has none.
        names: (n,) path of each image below the folder of the classes.
        digests: (n,) of the file's content, so that two evaluations know whether they saw the same image.
        true: int64 (n,) position of the class of its folder.
        best: int64 (n, 5) positions of the best classes, -1 where there are fewer.
        scores: float32 (n, 5) of these, NaN where there are fewer.
    """

    model: str
    model_id: str
    class_ids: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    names: list[str]
    digests: list[str]
    true: npt.NDArray[np.int64]
    best: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def given(self) -> npt.NDArray[np.int64]:
        """(n,) position of the class with the highest score."""
        return np.asarray(self.best[:, 0])

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """int64 (classes, classes): images by true class (rows) and best class (columns)."""
        n = len(self.class_ids)
        return np.bincount(self.true * n + self.given, minlength=n * n).reshape(n, n)


def images_of(scored: Scored, folder: Path) -> EvaluatedImages:
    """The answers of a model, with the digests of the files in ``folder``."""
    model = scored.model
    k = min(PLACES, len(model.class_ids))
    order = np.argsort(-scored.scores, axis=1, kind="stable")[:, :k]
    best = np.full((len(order), PLACES), -1, np.int64)
    scores = np.full(best.shape, np.nan, np.float32)
    best[:, :k], scores[:, :k] = order, np.take_along_axis(scored.scores, order, axis=1)
    own = thresholds_of(read_model_json(model.folder), model.folder / MODEL_JSON).by_class
    return EvaluatedImages(
        model.name, model.model_id, model.class_ids, tuple(jsonable(own.get(c)) for c in model.class_ids),
        scored.names, [_digest(folder / name) for name in scored.names], scored.true, best, scores,
    )  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write_images(path: Path, found: EvaluatedImages) -> None:
    """Writes the table as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "file": pa.array(found.names, pa.string()), "digest": pa.array(found.digests, pa.string()),
        "true": pa.array(found.true.astype(np.int32)),
    }  # fmt: skip
    for place in range(PLACES):
        columns[f"class_{place + 1}"] = pa.array(found.best[:, place].astype(np.int32))
        columns[f"score_{place + 1}"] = pa.array(found.scores[:, place])
    facts = {
        "model": found.model, "model_id": found.model_id, "class_ids": list(found.class_ids),
        "thresholds": list(found.thresholds),
    }  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    pq.write_table(table, partial)
    partial.replace(path)


def read_images(path: Path) -> EvaluatedImages:
    """The table that `write_images` wrote.

    Raises:
        ReadError: there is none, or it is no such table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        facts = json.loads((table.schema.metadata or {})[_KEY])
        found = EvaluatedImages(
            str(facts["model"]), str(facts["model_id"]), tuple(facts["class_ids"]), tuple(facts["thresholds"]),
            table["file"].to_pylist(), table["digest"].to_pylist(), table["true"].to_numpy().astype(np.int64),
            np.stack([table[f"class_{p + 1}"].to_numpy() for p in range(PLACES)], axis=1).astype(np.int64),
            np.stack([table[f"score_{p + 1}"].to_numpy() for p in range(PLACES)], axis=1),
        )  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ReadError(f"expected the table of an evaluation's images: {error}", path=path) from error
    classes = len(found.class_ids)
    if len(found) and not (
        0 <= found.true.min() <= found.true.max() < classes and -1 <= found.best.min() <= found.best.max() < classes
    ):
        raise ReadError("the table of an evaluation's images names classes that it does not have", path=path)
    return found


def compare_images(first: EvaluatedImages, second: EvaluatedImages) -> dict[str, Any]:
    """Both models on the images that both evaluations hold: the same path, the same content and the same class.

    Returns:
        The object that `evaluation_numbers.compare` makes, with ``model``, ``left_out`` (images of one evaluation alone)
        and ``other_content`` (images of the same path with another content or class).

    Raises:
        ReadError: they share no image.
    """
    there = {name: row for row, name in enumerate(second.names)}
    rows, rows_2, other = [], [], 0
    for row, name in enumerate(first.names):
        match = there.get(name)
        if match is None:
            continue
        same_class = first.class_ids[first.true[row]] == second.class_ids[second.true[match]]
        if first.digests[row] == second.digests[match] and same_class:
            rows.append(row)
            rows_2.append(match)
        else:
            other += 1
    if not rows:
        hint = "evaluate both models on the same test set"
        raise ReadError("the two evaluations have no image in common", hint=hint)
    ids = [*first.class_ids, *(c for c in second.class_ids if c not in set(first.class_ids))]
    place = {class_id: number for number, class_id in enumerate(ids)}
    moved = np.array([place[c] for c in second.class_ids], np.int64)
    said = first.given[rows], moved[second.given[rows_2]]
    found = asdict(compare_models(first.true[rows], *said, len(ids)))
    duels = [{"class_id": ids[duel.pop("position")], **duel} for duel in found.pop("classes")]
    p = found.pop("p")
    return {
        "model": _named(first), "against": _named(second), **jsonable(found), "p": p,
        "per_class": [{**jsonable(duel), "p": duel["p"]} for duel in duels],
        "left_out": len(first) + len(second) - 2 * (len(rows) + other), "other_content": other,
    }  # fmt: skip


def _named(found: EvaluatedImages) -> dict[str, str]:
    return {"name": found.model, "model_id": found.model_id}


def class_rows(found: EvaluatedImages) -> list[dict[str, Any]]:
    """Each class with images or predictions, the hardest (least F1) first: position, images, given, right, precision,
    recall, f1, and the class that its images are most often taken for with how often."""
    confusion = found.confusion
    support, given, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    rows = []
    for c in np.flatnonzero(support + given).tolist():
        wrong = confusion[c].copy()
        wrong[c] = 0
        rows.append(
            {
                "position": c, "class_id": found.class_ids[c], "images": int(support[c]), "given": int(given[c]),
                "right": int(right[c]), "precision": _share(right[c], given[c]), "recall": _share(right[c], support[c]),
                "f1": _share(2 * right[c], support[c] + given[c]),
                "taken_for": int(wrong.argmax()) if wrong.any() else None, "taken_for_images": int(wrong.max()),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (not row["images"], row["f1"], -row["images"]))


def _share(part: np.integer[Any], of: np.integer[Any]) -> float | None:
    return float(part) / float(of) if of else None


def most_confused(confusion: npt.NDArray[np.int64], most: int | None) -> list[int]:
    """Positions of the classes with the most errors, at most so many; such that are taken for each other stand together."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    both = wrong + wrong.T
    errors, there = both.sum(axis=0), confusion.sum(axis=0) + confusion.sum(axis=1)
    left: list[int] = [int(c) for c in np.argsort(-errors, kind="stable") if there[c] and (most is None or errors[c])]
    left = left[:most]
    ordered: list[int] = []
    while left:
        # the next is the one most confused with what stands before it, near ones counting more
        weights = {c: sum(both[c, o] / (n + 1) for n, o in enumerate(reversed(ordered[-4:]))) for c in left}
        chosen = max(left, key=lambda c: (weights[c], errors[c]))
        ordered.append(chosen)
        left.remove(chosen)
    return ordered


def tables_beside(report_folder: Path) -> Mapping[str, Path]:
    """Where an evaluation that keeps its images in ``report_folder`` puts the tables: of the model, of the other one."""
    return {"first": report_folder / IMAGES, "against": report_folder / AGAINST}


def keep_images(keep: Path, scored: Sequence[Scored], folder: Path) -> None:
    """Writes the tables of one or two models' answers on the images of ``folder`` into ``keep``."""
    for path, one in zip(tables_beside(keep).values(), scored, strict=False):
        write_images(path, images_of(one, folder))
