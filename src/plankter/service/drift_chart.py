"""Runs against the training set of a model as a chart: points with the shape of their verdict, limits as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 1040.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 72.0, 150.0, 14.0, 64.0
MOST_LABELS = 14
LABEL_PX = 15.0

# start of the verdict -> kind, short words, what stands on the tag
KINDS = (
    ("none", "none", "as in training"),
    ("other season", "season", "other season"),
    ("other instrument", "instrument", "other instrument"),
    ("unclear", "unclear", "unclear"),
    ("too few", "few", "too few images"),
)


def kind_of(verdict: str) -> tuple[str, str]:
    """A verdict of `workflow.drift` as a name for shapes and colours, and in short words."""
    return next(((kind, words) for start, kind, words in KINDS if verdict.startswith(start)), ("unclear", verdict))


def difference(run: Mapping[str, Any]) -> float | None:
    """How far the images of a run are from those of the training: the root of the squared discrepancy."""
    value = run.get("mmd2")
    return None if value is None else math.sqrt(max(float(value), 0.0))


def drift_chart(runs: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> dict[str, Any] | None:
    """Points, lines and labels in a field of `WIDTH` x `HEIGHT`; None where no run could be compared."""
    values = [difference(run) for run in runs]
    known = [value for value in values if value is not None]
    if not known:
        return None
    upper, tolerance, centre = limits.get("upper"), float(limits["tolerance"]), limits.get("centre")
    reach = max(tolerance, *known)
    if upper is not None and upper > 1.3 * reach:  # few runs: the limit would flatten all of them
        upper = None
    top = max(reach, upper or 0.0) * 1.12
    span = (WIDTH - LEFT - RIGHT) / max(len(runs), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 1)

    points = []
    for n, (run, value) in enumerate(zip(runs, values, strict=True)):
        if value is not None:
            kind, words = kind_of(str(run["verdict"]))
            when = str(run["started_at"])[:10] if run.get("started_at") else "unknown time"
            points.append(
                {"x": round(LEFT + span * (n + 0.5), 1), "y": y(value), "kind": kind, "alarm": bool(run["alarm"]),
                 "run_id": run["run_id"], "words": f"{run['name']}, {when}: {words}, {value:.3f}"}
            )  # fmt: skip
    lines = [
        ("tolerance", "tolerance", tolerance),
        ("centre", "median of the runs", centre),
        ("upper", "limit of the series", upper),
    ]
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM, "top": TOP,
        "points": points, "path": " ".join(f"{p['x']},{p['y']}" for p in points), "lines": _apart(lines, y),
        "ticks": [{"y": y(value), "text": f"{value:g}"} for value in _round_values(top)],
        "labels": _labels(runs, span), "hidden_limit": limits.get("upper") if upper is None else None,
    }  # fmt: skip


def _apart(lines: Sequence[tuple[str, str, float | None]], y: Any) -> list[dict[str, Any]]:
    """Lines with the places of their words, which must not lie on each other."""
    found: list[dict[str, Any]] = []
    for kind, words, value in sorted((one for one in lines if one[2] is not None), key=lambda one: -float(one[2] or 0)):
        at = y(float(value or 0.0))
        text = at if not found else max(at, found[-1]["text_y"] + LABEL_PX)
        found.append({"kind": kind, "words": words, "y": at, "text_y": text})
    return found


def _round_values(top: float) -> list[float]:
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 1e9) if top / s <= 6)
    return [round(step * n, 4) for n in range(int(top / step) + 1)]


def _labels(runs: Sequence[Mapping[str, Any]], span: float) -> list[dict[str, Any]]:
    """Names under some of the runs, so many that they do not touch: the date where it is known, else the run's name."""
    every = max(1, -(-len(runs) // MOST_LABELS))
    return [
        {"x": round(LEFT + span * (n + 0.5), 1), "text": str(run["started_at"])[:10] if run.get("started_at") else str(run["name"])[:12]}
        for n, run in enumerate(runs)
        if n % every == 0
    ]  # fmt: skip
