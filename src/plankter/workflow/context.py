"""Context of a particle: what is known of the sample it came from; and whether a model may use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import SettingsError
from plankter.classify.context import DATE_COLUMNS, encode_columns
from plankter.classify.context_verdict import ContextVerdict, check_context
from plankter.classify.lda import fit_lda, gather
from plankter.types import Run, Sample
from plankter.workflow.training_table import read_training_table

COLUMNS = ("sampled_at", "latitude_deg", "longitude_deg", "depth_min_m", "depth_max_m")


def sample_row(sample: Sample, run: Run) -> dict[str, object]:
    """A sample's values by column: `COLUMNS` and everything of its environment. Where the sample has no time, the run's
    start takes its place."""
    known = {name: getattr(sample, name) for name in COLUMNS} | dict(sample.environment)
    known["sampled_at"] = sample.sampled_at or run.started_at
    return known


@dataclass(frozen=True)
class SampleColumn:
    """A column of the workspace's samples that can be context: ``kind`` number or date, and how many samples know it."""

    name: str
    kind: str
    known: int


def known_columns(samples: Sequence[Sample]) -> list[SampleColumn]:
    """What of `COLUMNS` and of the environment any sample knows as a number or date."""
    known: Counter[str] = Counter()
    for sample in samples:
        for name, value in ({name: getattr(sample, name) for name in COLUMNS} | dict(sample.environment)).items():
            if isinstance(value, int | float | datetime):
                known[name] += 1
    return [SampleColumn(name, "date" if name in DATE_COLUMNS else "number", count) for name, count in known.items()]


def context_of(sample: Sample, run: Run, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """One row of numbers in the order that a model names them, NaN where the sample does not say.

    Raises:
        ValueError: a column of the sample that should be a number is none.
    """
    plain = [column for column in columns if not column.startswith("month_")]
    row = sample_row(sample, run)
    names, values = encode_columns([row], ["sampled_at", *plain])
    return np.array([[values[0, names.index(c)] if c in names else np.nan for c in columns]])


def table_context(path: Path, names: Sequence[str], columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """What a table says of images, in the order that a model names its context: (n, columns), NaN where it does not say.

    Args:
        path: CSV with ``file`` and the columns that the model was trained with; any of month, date or sampled_at gives
            the month.
        names: of the images, as paths inside their folder with ``/``.
        columns: as the model names them.

    Raises:
        ReadError: no table, or none of the images in it.
        SettingsError: a column that the table lacks, or that holds something else than numbers or dates.
    """
    found = images_context(read_training_table(path, names).columns, columns, path)
    return np.full((len(names), 0), np.nan) if found is None else found


def images_context(
    rows: Sequence[Mapping[str, str]] | None, columns: Sequence[str], path: Path | None
) -> npt.NDArray[np.float64] | None:
    """Rows of a table -> (n, columns) as a model names its context, NaN where a row does not say; None without rows, or
    for a model without context.

    Raises:
        SettingsError: a column that is missing, or that holds something else than numbers or dates; context for a
            model that takes none.
    """
    if rows is None:
        return None
    if not columns:
        raise SettingsError("the model takes no context", path=path, hint="leave the context out")
    header = list(dict.fromkeys(name for row in rows for name in row))
    plain = [column for column in columns if not column.startswith("month_")]
    dates = [name for name in header if name in DATE_COLUMNS][:1] if len(plain) < len(columns) else []
    absent = [name for name in plain if name not in header]
    if len(plain) < len(columns) and not dates:
        absent.append("date (or month)")
    if absent:
        hint = f"the model was trained with {', '.join(columns)}; leave a cell empty where a value is not known"
        raise SettingsError(f"the context table lacks {', '.join(absent)}", path=path, hint=hint)
    try:
        found, values = encode_columns(rows, [*dates, *plain])
    except ValueError as error:
        raise SettingsError(str(error), path=path) from error
    return values[:, [found.index(column) for column in columns]]


def asked_columns(text: str) -> list[str]:
    """Names of columns separated by commas; ``month`` and ``date`` mean the time of sampling."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return list(dict.fromkeys("sampled_at" if name in DATE_COLUMNS else name for name in names))


def judged_context(
    embeddings: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    class_ids: tuple[str, ...],
    context: tuple[tuple[str, ...], npt.NDArray[np.float64]],
    groups: Sequence[str] | None,
    *,
    seed: int,
    force: bool,
) -> tuple[ContextVerdict | None, str]:
    """Whether context helps on groups never seen: discriminants with and without it, on both kinds of folds.

    Returns:
        The verdict and its words; None where no groups are known.

    Raises:
        ModelError: it hurts there, and was not forced.
    """
    if groups is None or len(set(groups)) < 2:
        return None, "whether the context helps on dates never seen could not be judged: name them with --groups"

    def fit_and_name(
        seen: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], unseen: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        found = fit_lda(gather(seen, truth, class_ids), None)
        return np.asarray((unseen @ found.weight + found.bias).argmax(axis=1), dtype=np.int64)

    verdict = check_context(embeddings, labels, *context, groups, fit_and_name, seed=seed, force=force)
    verdict.require()
    return verdict, f"context {verdict.reason.removeprefix('context ')}"
