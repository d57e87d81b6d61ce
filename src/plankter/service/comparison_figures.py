"""A comparison of two models in words and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALPHA = 0.05
WIDTH, LEFT, RIGHT, ROW = 640.0, 150.0, 20.0, 46.0
FIGURES = (("top1", "right at first guess"), ("macro_f1", "macro F1"))


def p_words(p: float) -> str:
    """A p value as text."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def points(value: float, *, sign: bool = False) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * value:{'+' if sign else ''}.1f}".replace("-", "\N{MINUS SIGN}")


def sentence(found: Mapping[str, Any]) -> dict[str, str]:
    """What the comparison says, with the numbers behind it: ``verdict`` and ``numbers``."""
    first, second = str(found["model"]["name"]), str(found["against"]["name"])
    if first == second:
        first, second = f"{first} (first)", f"{second} (second)"
    gap = found["top1"]
    p, value = float(found["p"]), float(gap["value"])
    if p < ALPHA and value:
        better, worse = (first, second) if value > 0 else (second, first)
        said = f"{better} is better than {worse} by more than chance."
    else:
        said = f"On these images no difference between {first} and {second} can be told from chance."
    more = "more" if value >= 0 else "fewer"
    numbers = (
        f"{first} has {points(abs(value))} percentage points {more} images right at first guess "
        f"(95 % interval {points(gap['low'], sign=True)} to {points(gap['high'], sign=True)}; {p_words(p)}, "
        "McNemar's exact test)."
    )
    return {"verdict": said, "numbers": numbers, "first": first, "second": second}


def verdict(duel: Mapping[str, Any]) -> str:
    """Who won a class: "won" and "lost" of the first model by more than chance, "ahead" and "behind" within it, "level"."""
    gap = int(duel["only_first"]) - int(duel["only_second"])
    if not gap:
        return "level"
    if float(duel["p"]) < ALPHA:
        return "won" if gap > 0 else "lost"
    return "ahead" if gap > 0 else "behind"


def interval_bars(found: Mapping[str, Any]) -> dict[str, Any]:
    """The differences with their intervals on one scale: lines, points, ticks as x positions in px."""
    intervals = [(words, found[name]) for name, words in FIGURES]
    reach = max(0.01, *(abs(float(one[end])) for _, one in intervals for end in ("low", "high", "value"))) * 1.08
    middle = (LEFT + WIDTH - RIGHT) / 2
    half = (WIDTH - RIGHT - LEFT) / 2

    def x(value: float) -> float:
        return round(middle + half * value / reach, 1)

    step = next(s for s in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if reach / s <= 4 or s == 0.5)
    marks = range(-int(reach / step), int(reach / step) + 1)
    rows = [
        {"words": words, "y": ROW * (k + 0.5) + 8, "low": x(one["low"]), "high": x(one["high"]), "value": x(one["value"]),
         "text": f"{points(one['value'], sign=True)} ({points(one['low'], sign=True)} to {points(one['high'], sign=True)})"}
        for k, (words, one) in enumerate(intervals)
    ]  # fmt: skip
    return {
        "width": WIDTH, "height": ROW * len(rows) + 46, "bottom": ROW * len(rows) + 8, "zero": x(0), "rows": rows,
        "ticks": [{"x": x(k * step), "text": points(k * step, sign=True) if k else "0"} for k in marks],
    }  # fmt: skip
