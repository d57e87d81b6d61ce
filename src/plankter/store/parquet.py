"""The archive's tables: Parquet with page checksums, readable by any tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from plankter._errors import StoreError
from plankter.types import Array, Particles, Predictions

OWN = "instrument."
_TAG = b"plankter"
_NUMBERS = (
    "vignette_width_px",
    "vignette_height_px",
    "vignette_offset",
    "vignette_length",
    "mask_offset",
    "mask_length",
)
Pixels = dict[str, list[Any]]


def new_pixels() -> Pixels:
    """Where each particle's pixels are; -1 where there are none."""
    return {**{name: [] for name in _NUMBERS}, "sha256": []}


def write_table(table: pa.Table, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes a table; the same table and facts give the same bytes."""
    table = table.replace_schema_metadata({_TAG: json.dumps(dict(facts), sort_keys=True)})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_table(path: Path, columns: Sequence[str] | None = None, *, verify: bool = False) -> pa.Table:
    """Reads a table.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        # no memory map: a file that is replaced meanwhile must not change under the reader
        return pq.read_table(
            path, columns=columns, memory_map=False, partitioning=None, page_checksum_verification=verify
        )
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"cannot be read: {error}", path=path, hint="`plankter check --deep` lists the damage"
        ) from error


def facts_of(path: Path) -> dict[str, Any]:
    """The facts a table was written with.

    Raises:
        StoreError: damaged, or not a table of an archive.
    """
    try:
        found = (pq.read_schema(path).metadata or {}).get(_TAG)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot be read: {error}", path=path) from error
    if found is None:
        raise StoreError("not a table of a plankter archive", path=path)
    return dict(json.loads(found))


def particle_table(particles: Particles, pixels: Pixels) -> pa.Table:
    """`instrument.parquet`: what the instrument's list says, and where the pixels are."""
    columns: dict[str, Any] = {
        "index": pa.array(particles.index, pa.int64()),
        "label": pa.array(particles.label, pa.string()),
        "page": pa.array(particles.page, pa.string()),
    }
    for position, name in enumerate(("box_x", "box_y", "box_w", "box_h")):
        columns[name] = pa.array(np.ascontiguousarray(particles.box[:, position]), pa.int32())
    columns["failure"] = pa.array(particles.failure, pa.string())
    columns |= {name: pa.array(pixels[name], pa.int64()) for name in _NUMBERS}
    columns["sha256"] = pa.array(pixels["sha256"], pa.string())
    for name, values in particles.features.items():
        columns[OWN + name] = pa.array(values.tolist(), pa.string()) if values.dtype.kind in "UO" else pa.array(values)
    return pa.table(columns)


def particles_of(table: pa.Table) -> Particles:
    """The particles that `particle_table` was made from; text columns come back as text arrays."""

    def texts(name: str) -> tuple[str | None, ...]:
        return tuple(table[name].to_pylist())

    box = [table[name].to_numpy() for name in ("box_x", "box_y", "box_w", "box_h")]
    features = {name[len(OWN) :]: _array(table[name]) for name in table.column_names if name.startswith(OWN)}
    return Particles(
        index=table["index"].to_numpy().astype(np.int64),
        label=tuple(str(label) for label in texts("label")),
        page=texts("page"),
        box=np.stack(box, axis=1).astype(np.int32).reshape(-1, 4),
        features=features,
        failure=texts("failure"),
    )


def _array(column: pa.ChunkedArray) -> Array:
    if not pa.types.is_string(column.type):
        return np.array(column.to_numpy())
    values = column.to_pylist()
    return np.array(values, dtype=object if None in values else np.str_)


def feature_table(columns: Sequence[str], values: npt.NDArray[np.float32]) -> pa.Table:
    """A feature set, one float32 column a measure."""
    rows = np.asarray(values, np.float32)
    return pa.table({name: np.ascontiguousarray(rows[:, position]) for position, name in enumerate(columns)})


def features_of(table: pa.Table) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Columns and float32 (n, k) values of `feature_table`."""
    values = np.empty((table.num_rows, table.num_columns), np.float32)
    for position, name in enumerate(table.column_names):
        values[:, position] = table[name].to_numpy()
    return tuple(table.column_names), values


def prediction_table(predictions: Predictions) -> pa.Table:
    """index, then class and score of each rank: class_1, score_1, ..."""
    classes = pa.array(predictions.class_ids, pa.string())
    columns: dict[str, Any] = {"index": pa.array(predictions.index, pa.int64())}
    for rank in range(predictions.best.shape[1]):
        at = pa.array(np.ascontiguousarray(predictions.best[:, rank]), pa.int16())
        columns[f"class_{rank + 1}"] = pa.DictionaryArray.from_arrays(at, classes)
        columns[f"score_{rank + 1}"] = pa.array(np.ascontiguousarray(predictions.scores[:, rank]), pa.float32())
    return pa.table(columns)


def predictions_of(table: pa.Table, facts: Mapping[str, Any]) -> Predictions:
    """The predictions that `prediction_table` was made from."""
    n, k = table.num_rows, (table.num_columns - 1) // 2
    class_ids = tuple(facts["class_ids"])
    position = {class_id: number for number, class_id in enumerate(class_ids)}
    best, scores = np.empty((n, k), np.int16), np.empty((n, k), np.float32)
    for rank in range(k):
        best[:, rank] = [position[str(class_id)] for class_id in table[f"class_{rank + 1}"].to_pylist()]
        scores[:, rank] = table[f"score_{rank + 1}"].to_numpy()
    index = np.array(table["index"].to_numpy(), np.int64)
    return Predictions(facts["model_id"], facts["run_id"], facts["precision"], index, class_ids, best, scores)
