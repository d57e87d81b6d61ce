"""What ``plankter predict`` writes: one row an image, with its five best classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import PlankterError
from plankter.publish.csv_files import encodable, escape_cell, write_csv, written_whole

PLACES = 5
PREDICTION_COLUMNS = (
    "file",
    *(f"{column}_{place}" for place in range(1, PLACES + 1) for column in ("class", "score", "aphia_id")),
    "decision", "reason", "failure",
)  # fmt: skip
SUFFIXES = (".csv", ".parquet")


def check_predictions_path(out: Path) -> None:
    """That ``out`` can be written by `write_predictions`, to be asked before hours of work.

    Raises:
        PlankterError: another ending than .csv or .parquet, or a folder of that name.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise PlankterError(f"expected a file that ends in {' or '.join(SUFFIXES)}, got {out.name!r}", path=out)
    if out.is_dir():
        raise PlankterError("expected the name of a file, this is a folder", path=out)


def write_predictions(
    out: Path, files: Sequence[str], class_ids: Sequence[str], names: Mapping[str, str],
    aphia: Mapping[str, int | None], best: npt.NDArray[np.int16], scores: npt.NDArray[np.float32],
    decisions: Sequence[str], reasons: Sequence[str], failures: Sequence[str | None],
) -> int:  # fmt: skip
    """Writes `PREDICTION_COLUMNS` as CSV or Parquet, by the ending of ``out``; whole or not at all.

    Args:
        out: replaced where it exists; its folder is made.
        files: (n,) name of each image.
        class_ids: classes that ``best`` points into; classes are written by their class_id, which is also what the
            folders of a training set are called.
        names: class_id -> name; Parquet carries them and the AphiaIDs in its metadata, under ``plankter.classes``.
        aphia: class_id -> AphiaID, None or absent where the class has none.
        best: int16 (n, 5) positions in ``class_ids``, -1 for what was not predicted.
        scores: float32 (n, 5), NaN where not predicted.
        decisions: (n,) class that was decided for, or none.
        reasons: (n,) why.
        failures: (n,) why an image could not be used, None where it could.

    Returns:
        Rows written.

    Raises:
        PlankterError: another ending, or the file cannot be written.
        ValueError: arguments of different lengths, or ``best`` outside ``class_ids``.
    """
    check_predictions_path(out)
    n = len(files)
    if best.shape != (n, PLACES) or scores.shape != (n, PLACES):
        raise ValueError(f"best and scores must be ({n}, {PLACES}), got {best.shape} and {scores.shape}")
    if not len(decisions) == len(reasons) == len(failures) == n:
        raise ValueError(f"decisions, reasons and failures must have {n} rows")
    if n and not -1 <= best.min() <= best.max() < len(class_ids):
        raise ValueError("best points outside class_ids")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlankterError(f"its folder cannot be made: {error.strerror}", path=out) from error
    ends = (decisions, reasons, failures)
    with written_whole(out) as (part,):
        if out.suffix.lower() == ".csv":
            return write_csv(part, PREDICTION_COLUMNS, _csv_rows(files, class_ids, aphia, best, scores, ends))
        _write_parquet(part, files, class_ids, names, aphia, best, scores, ends)
    return n


def _csv_rows(
    files: Sequence[str], class_ids: Sequence[str], aphia: Mapping[str, int | None], best: npt.NDArray[np.int16],
    scores: npt.NDArray[np.float32], ends: Sequence[Sequence[str | None]],
) -> Iterator[list[str | None]]:  # fmt: skip
    written = [escape_cell(class_id) for class_id in class_ids]
    numbers = ["" if (found := aphia.get(class_id)) is None else str(found) for class_id in class_ids]
    for row, file in enumerate(files):
        cells: list[str | None] = [escape_cell(file)]
        for position, score in zip(best[row].tolist(), scores[row].tolist(), strict=True):
            if position < 0:
                cells += ["", "", ""]
            else:
                cells += [written[position], "" if score != score else f"{score:.6f}", numbers[position]]
        yield [*cells, *(escape_cell(column[row] or "") for column in ends)]


def _write_parquet(
    path: Path, files: Sequence[str], class_ids: Sequence[str], names: Mapping[str, str],
    aphia: Mapping[str, int | None], best: npt.NDArray[np.int16], scores: npt.NDArray[np.float32],
    ends: Sequence[Sequence[str | None]],
) -> None:  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = pa.array([encodable(class_id) for class_id in class_ids], pa.string())
    numbers = pa.array([aphia.get(class_id) for class_id in class_ids], pa.int64())
    columns = [pa.array([encodable(file) for file in files], pa.string())]
    for place in range(PLACES):
        known = best[:, place] >= 0
        positions = pa.array(best[:, place].astype(np.int32), mask=~known)
        score = pa.array(scores[:, place], pa.float32(), mask=~known | np.isnan(scores[:, place]))
        columns += [classes.take(positions), score, numbers.take(positions)]
    columns += [pa.array([encodable(t) if t else None for t in column], pa.string()) for column in ends]
    facts = {c: {"name": names.get(c, c), "aphia_id": aphia.get(c)} for c in class_ids}
    table = pa.table(columns, names=list(PREDICTION_COLUMNS))
    pq.write_table(table.replace_schema_metadata({"plankter.classes": json.dumps(facts)}), path, compression="zstd")
