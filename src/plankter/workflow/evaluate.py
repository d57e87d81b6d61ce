"""How good a model is on images whose folders tell the class; as numbers, as a report, beside another model."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, PlankterError, ReadError, SettingsError
from plankter.classify.evaluate import folder_classes
from plankter.classify.predictor import expected_mix
from plankter.classify.splits import judges
from plankter.publish.evaluation_report import render_evaluation_report
from plankter.types import ImageArray, Model
from plankter.vignettes.codec import read_image
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.evaluation_images import keep_images
from plankter.workflow.evaluation_numbers import Scored, all_numbers, compare, in_brief, training_images
from plankter.workflow.predict import context_for, image_files, predict_files
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

log = logging.getLogger(__name__)
HALVES = ("all", "fit", "judge")
AS_IS = "as-is"
MAX_GROUP_BYTES = 200_000_000
MAX_GROUP_COLUMNS = 5
Groups = dict[str, list[str | None]]


def evaluate(
    images: Path,
    *,
    model: str = "flowcam",
    workspace: Workspace | None = None,
    precision: str = "auto",
    class_mix: str | None = None,
    report: Path | None = None,
    mix: str = AS_IS,
    groups: Path | None = None,
    against: str | None = None,
    half: str = "all",
    keep: Path | None = None,
    context: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """How often the model is right on a folder that holds one folder a class.

    Args:
        images: the folder.
        model, against: name, id or folder of a model; ``against`` is compared on the same images.
        class_mix: mix that the scores are made for, as for `predict`.
        report: an HTML file; the same numbers are written beside it as JSON.
        mix: mix that the figures are weighted to: "as-is", "training", "balanced", "validated", or a CSV file with class
            and share or count. The scores stay as they are.
        groups: CSV file with the column ``file`` and a column for each grouping.
        context: CSV with ``file`` and the columns that the model was trained with; a model that takes context and is
            given none is judged as if all of it were missing, and ``context`` of what is returned says so.
        half: "all", or one half of a validation set as `judges` splits it: "fit" or "judge".
        keep: folder into which the answers on each image are written, see `evaluation_images`.

    Returns:
        The object that ``plankter evaluate --json`` prints; an unreadable image counts as a failure, not as an error
        of the model.

    Raises:
        ReadError: no folder of a class that the model knows. NotFound, ModelError: the models.
        SettingsError: a table, a half or a report that cannot be used.
    """
    _check(half, report)
    chosen = find_model(model, workspace)
    other = None if against is None else find_model(against, workspace)
    weights = _mix(mix, chosen, workspace)
    table = None if groups is None else _group_table(groups)
    engines = [load_engine(one, workspace, precision=precision, class_mix=class_mix) for one in (chosen, other) if one]
    if context is not None and not any(engine.context for engine in engines):
        context_for(engines[0], context, [])  # says that no model takes it
    scored = [_score(images, engine, context, half, progress) for engine in engines]
    found = in_brief(scored[0])
    compared = compare(*scored) if other is not None else None
    if keep is not None:
        keep_images(keep, scored, images)
    if report is None and compared is None and weights is None and groups is None:
        return found
    grouped = {} if groups is None or table is None else _groups(groups, scored[0].names, *table)
    numbers = all_numbers(scored[0], workspace, weights, mix, grouped, compared, half, class_mix)
    found |= _asked_for(numbers, compared, grouped)
    if report is not None:
        found |= _write(report, numbers, images)
    return found


def _check(half: str, report: Path | None) -> None:
    if half not in HALVES:
        raise SettingsError(f"expected one of {', '.join(HALVES)} as the half, got {half!r}")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise SettingsError("expected a file that ends in .html", path=report)


def _asked_for(numbers: dict[str, Any], compared: dict[str, Any] | None, grouped: Groups) -> dict[str, Any]:
    """Of all numbers those that an option asked for: the comparison, the figures of another mix, the groups."""
    found: dict[str, Any] = {}
    if compared is not None:
        found["comparison"] = {name: value for name, value in compared.items() if name != "per_class"}
    if numbers["reweighted"] is not None:
        found["reweighted"] = numbers["reweighted"]
    if grouped:
        found["groups"] = numbers["groups"]
    return found


def _score(images: Path, engine: Engine, context: Path | None, half: str, progress: Progress) -> Scored:
    model = engine.model
    files, truth, unknown = _labelled(images, model, half)
    names = [path.relative_to(images).as_posix() for path in files]
    known = context_for(engine, context if engine.context else None, names)
    result, failures, seconds = predict_files(engine, files, len(model.class_ids), progress, known)
    scores = np.zeros(result.scores.shape, np.float32)
    np.put_along_axis(scores, result.best.astype(np.int64), result.scores, axis=1)
    with_context = 0 if known is None else int(np.isfinite(known[result.index]).any(axis=1).sum())
    return Scored(
        engine, [names[k] for k in result.index], np.array(truth, np.int64)[result.index], scores, result.outcome,
        result.index, sorted(unknown), {names[k]: reason for k, reason in sorted(failures.items())}, len(files), len(set(truth)), seconds,
        with_context,
    )  # fmt: skip


def _labelled(images: Path, model: Model, half: str) -> tuple[list[Path], list[int], list[str]]:
    """Files, their true classes, and the folders of no known class."""
    if not images.is_dir():
        raise ReadError("expected a folder that holds one folder a class", path=images)
    matched, unknown = folder_classes(images, model.class_ids)
    position = {class_id: number for number, class_id in enumerate(model.class_ids)}
    files: list[Path] = []
    truth: list[int] = []
    for folder, class_id in sorted(matched.items()):
        try:
            found = image_files(images / folder)
        except PlankterError:
            continue  # an empty class folder says nothing about the model
        kept = [path for path in found if half == "all" or judges(path.name) == (half == "judge")]
        files += kept
        truth += [position[class_id]] * len(kept)
    if not files:
        hint = f"the model knows {', '.join(model.class_ids[:3])}, ..."
        raise ReadError("no folder with images is named as a class of the model", path=images, hint=hint)
    return files, truth, unknown


def _mix(setting: str, model: Model, workspace: Workspace | None) -> npt.NDArray[np.float64] | None:
    if setting == AS_IS:
        return None
    if setting == "training":
        counts = training_images(model)
        if not any(counts):
            raise SettingsError("the model does not say how many images it was fitted on", path=model.folder)
        return np.array(counts, np.float64)
    validated: dict[str, int] = {}
    for count in workspace.catalogue.class_counts() if workspace and setting.startswith("validated") else ():
        validated[count.class_id] = validated.get(count.class_id, 0) + count.validated
    return expected_mix(setting, model.class_ids, validated=validated)


def _group_table(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Columns that group, and the row of each file named."""
    try:
        if path.stat().st_size > MAX_GROUP_BYTES:
            raise SettingsError(f"a table of more than {MAX_GROUP_BYTES:,} bytes is not read", path=path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = [name for name in table.fieldnames or () if name and name.strip().lower() != "file"]
            key = next((name for name in table.fieldnames or () if name and name.strip().lower() == "file"), None)
            if key is None or not columns:
                raise SettingsError("expected the column 'file' and one for each grouping", path=path, row=1)
            rows = {(row[key] or "").replace("\\", "/"): row for row in table}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"expected CSV in UTF-8: {error}", path=path) from error
    if len(columns) > MAX_GROUP_COLUMNS:
        log.warning("%s: only the first %d columns are used", path, MAX_GROUP_COLUMNS)
    return columns[:MAX_GROUP_COLUMNS], rows


def _groups(path: Path, names: Sequence[str], columns: Sequence[str], rows: Mapping[str, Any]) -> Groups:
    """Column -> group of each image. Images are found by their path below the folder, else by their file name alone."""
    found: dict[str, list[str | None]] = {name: [] for name in columns}
    hits = 0
    for name in names:
        row = rows.get(name) or rows.get(name.rsplit("/", 1)[-1]) or {}
        hits += bool(row)
        for column, groups in found.items():
            groups.append((row.get(column) or "").strip() or None)
    if not hits:
        hint = f"'file' holds names as {names[0]!r}, or the part after the last /"
        raise SettingsError("no image of the folder stands in the table", path=path, hint=hint)
    return found


def _write(report: Path, numbers: dict[str, Any], images: Path) -> dict[str, Any]:
    beside = report.with_suffix(".json")
    report.parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (beside, json.dumps(numbers, ensure_ascii=False, allow_nan=False) + "\n"),
        (report, render_evaluation_report(numbers, _pictures(images))),
    ):
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return {"report": str(report), "numbers": str(beside)}


def _pictures(images: Path) -> Callable[[str], ImageArray | None]:
    def read(name: str) -> ImageArray | None:
        try:
            return read_image(images / name)
        except (ImageError, OSError) as error:
            log.warning("%s: no picture in the report: %s", name, error)
            return None

    return read
