"""Context of a particle: what is known of the sample it came from; and whether a model may use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from plankter.classify.context import DATE_COLUMNS, encode_columns
from plankter.classify.context_verdict import ContextVerdict, check_context
from plankter.classify.lda import fit_lda, gather
from plankter.types import Run, Sample

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
