"""Sampling metadata and environment as numbers beside the image: month, depth, temperature, any column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DATE_COLUMNS = ("month", "date", "sampled_at")
MAX_CONTEXT = 256


class ContextEncoder:
    """Columns of context -> features that join the embedding before the last layer.

    Each column is standardised with the mean and spread of the training images; a missing value becomes 0, and a
    second number for each column says whether it is known. Where ``weight`` and ``bias`` are given (a branch trained
    with the network), these 2c numbers go through one layer with a rectifier.

    Args:
        columns: (c,) names, in the order of the values.
        mean, sd: (c,) of the training images; sd above 0.
        weight, bias: (2c, k) and (k,), both or neither.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or an sd not above 0.
    """

    def __init__(
        self,
        columns: Sequence[str],
        mean: npt.ArrayLike,
        sd: npt.ArrayLike,
        weight: npt.ArrayLike | None = None,
        bias: npt.ArrayLike | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.mean, self.sd = np.asarray(mean, np.float64), np.asarray(sd, np.float64)
        self.weight = None if weight is None else np.asarray(weight, np.float32)
        self.bias = None if bias is None else np.asarray(bias, np.float32)
        c = len(self.columns)
        if not 0 < c <= MAX_CONTEXT or self.mean.shape != (c,) or self.sd.shape != (c,):
            raise ValueError(f"{c} context columns do not fit means {self.mean.shape} and spreads {self.sd.shape}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.sd).all() and (self.sd > 0).all()):
            raise ValueError("means and spreads of the context must be finite, spreads above 0")
        if (self.weight is None) != (self.bias is None):
            raise ValueError("a context layer needs both weight and bias")
        if self.weight is not None and self.bias is not None:
            fits = self.weight.ndim == 2 and len(self.weight) == 2 * c and self.bias.shape == self.weight.shape[1:]
            if not fits or not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
                raise ValueError(f"context layer {self.weight.shape}, {self.bias.shape} does not fit {c} columns")

    @property
    def dim(self) -> int:
        """Numbers that join the embedding."""
        return 2 * len(self.columns) if self.weight is None else int(self.weight.shape[1])

    @staticmethod
    def fit(columns: Sequence[str], values: npt.NDArray[np.floating]) -> ContextEncoder:
        """Mean and spread of each column over the rows that know it; a column without spread gets 1."""
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, values, 0.0).astype(np.float64)
        mean = filled.sum(axis=0) / count
        sd = np.sqrt((np.where(known, filled - mean, 0.0) ** 2).sum(axis=0) / count)
        return ContextEncoder(columns, mean, np.where(sd > 0, sd, 1.0))

    def standardised(self, values: npt.NDArray[np.floating] | None, n: int) -> FloatArray:
        """float (n, c) with NaN where missing (None: nothing is known) -> float32 (n, 2c)."""
        c = len(self.columns)
        if values is None:
            return np.zeros((n, 2 * c), np.float32)
        if values.shape != (n, c):
            raise ValueError(f"expected context ({n}, {c}) for {', '.join(self.columns)}, got {values.shape}")
        known = np.isfinite(values)
        scaled = np.where(known, (np.where(known, values, 0.0) - self.mean) / self.sd, 0.0)
        return np.concatenate((scaled, known), axis=1).astype(np.float32)

    def features(self, values: npt.NDArray[np.floating] | None, n: int) -> FloatArray:
        """What joins the embeddings: float32 (n, `dim`)."""
        inputs = self.standardised(values, n)
        if self.weight is None or self.bias is None:
            return inputs
        return np.asarray(np.maximum(inputs @ self.weight + self.bias, 0.0), dtype=np.float32)


def encode_columns(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Rows of metadata -> columns of numbers, NaN where missing.

    A month (1-12), date or time becomes ``month_sin`` and ``month_cos``, so that December lies beside January.

    Args:
        rows: one mapping an image; values are numbers, texts of numbers, dates, or missing (None, "", NaN).
        columns: which to take; None takes every column of any row, sorted.

    Raises:
        ValueError: a column whose values are neither numbers nor dates; it is named with the first such value.
    """
    names = sorted({name for row in rows for name in row}) if columns is None else list(columns)
    found: list[str] = []
    values: list[npt.NDArray[np.float64]] = []
    for name in names:
        cells = [row.get(name) for row in rows]
        if name in DATE_COLUMNS:
            angle = np.array([_month(name, cell) for cell in cells]) * (2 * math.pi / 12)
            found += ["month_sin", "month_cos"]
            values += [np.sin(angle), np.cos(angle)]
        else:
            found.append(name)
            values.append(np.array([_number(name, cell) for cell in cells], np.float64))
    if len(set(found)) != len(found):
        raise ValueError("more than one column gives the month; name one of them")
    stacked = np.stack(values, axis=1) if values else np.zeros((len(rows), 0))
    return tuple(found), stacked.reshape(len(rows), len(found))


def _missing(cell: object) -> bool:
    return (
        cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))
    )


def _number(name: str, cell: object) -> float:
    if _missing(cell):
        return math.nan
    try:
        value = float(str(cell).strip())
    except ValueError:
        raise ValueError(f"context column {name!r}: expected a number, got {cell!r}") from None
    return value if math.isfinite(value) else math.nan


def _month(name: str, cell: object) -> float:
    """Months since the start of the year with their share of days, 0..12; NaN where missing."""
    if _missing(cell):
        return math.nan
    if isinstance(cell, date):
        when: date = cell
    else:
        text = str(cell).strip()
        try:
            return float(int(text)) - 0.5 if 1 <= int(text) <= 12 else math.nan
        except ValueError:
            pass
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"context column {name!r}: expected a month 1-12 or a date, got {cell!r}") from None
    return when.month - 1 + (when.day - 1) / 31
