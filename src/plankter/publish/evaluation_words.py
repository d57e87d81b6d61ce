"""What the figures of an evaluation mean, in words for people who know plankton rather than statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# key, name, meaning
FIGURE_WORDS = (
    ("top1", "Right at first choice (top-1)", "Of all images, the share whose best class is the true one."),
    (
        "top3",
        "Among the first three (top-3)",
        "The true class is one of the three best: what a list of suggestions holds.",
    ),
    ("top5", "Among the first five (top-5)", "The same for five."),
    (
        "balanced_accuracy",
        "Recall, mean of the classes (balanced accuracy)",
        "Of the images of a class, the share that was found; every class counts the same, rare or common.",
    ),
    (
        "macro_precision",
        "Precision, mean of the classes",
        "Of the images given a class, the share that belongs to it; every class counts the same.",
    ),
    (
        "macro_f1",
        "F1, mean of the classes (macro F1)",
        "Recall and precision in one number for each class, then the mean. It falls when rare classes are done badly.",
    ),
    ("weighted_precision", "Precision, by images", "As above, but a class counts by its number of images."),
    ("weighted_f1", "F1, by images (weighted F1)", "As above, but a class counts by its number of images."),
    (
        "log_loss",
        "Log loss",
        "Punishes scores that were sure and wrong; 0 is perfect, smaller is better. For comparing models.",
    ),
    (
        "ece",
        "Calibration error (ECE)",
        "How far scores and shares right lie apart on average. Near 0, a score of 0.8 means right 8 times in 10.",
    ),
)
SIZE_WORDS = {
    "training": "images the model learnt from",
    "evaluation": "images in this evaluation",
    "mix": "images in the table of the class mix",
}
WEAK_F1, GOOD_F1 = 0.6, 0.9


def percent(share: float | None, digits: int = 1) -> str:
    """A share as people read it.

    >>> percent(0.82505), percent(None)
    ('82.5\\xa0%', 'unknown')
    """
    return "unknown" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def score(value: float | None, digits: int = 2) -> str:
    """A score or another plain number; a dash where there is none.

    >>> score(0.5), score(None)
    ('0.50', '\\u2013')
    """
    return "\u2013" if value is None else f"{value:.{digits}f}"


def signed(share: float | None) -> str:
    """A difference of shares in points.

    >>> signed(0.0123), signed(-0.002)
    ('+1.23', '\\u22120.20')
    """
    if share is None:
        return "unknown"
    return f"{100 * share:+.2f}".replace("-", "\u2212")


def p_value(p: float) -> str:
    """A p value in a table, no smaller than anyone needs.

    >>> p_value(0.0312), p_value(1e-9), p_value(1.0)
    ('0.031', '<\\xa00.0001', '1')
    """
    return "<\u00a00.0001" if p < 0.0001 else f"{p:.2g}"


def p_words(p: float) -> str:
    """A p value in a sentence.

    >>> p_words(0.0312), p_words(1e-9)
    ('p = 0.031', 'p <\\xa00.0001')
    """
    return f"p {p_value(p)}" if p < 0.0001 else f"p = {p_value(p)}"


def in_short(numbers: Mapping[str, Any]) -> list[str]:
    """The evaluation in a few sentences."""
    figures = numbers["figures"]
    top1 = figures["top1"]
    found = [
        f"The first choice of the model was right for {percent(top1['value'])} of {numbers['images']:,} images "
        f"(95\u00a0% interval {percent(top1['low'])} to {percent(top1['high'])}); the right class was among its first three "
        f"for {percent(figures['top3']['value'])}.",
        *_mix_words(numbers),
        *_class_words(numbers),
        *_trust_words(numbers),
        *_pair_words(numbers),
        *_rival_words(numbers),
    ]
    return found


def _mix_words(numbers: Mapping[str, Any]) -> list[str]:
    other = numbers["reweighted"]
    if other is None:
        return []
    top1, f1 = other["figures"]["top1"], other["figures"]["macro_f1"]
    return [
        f"Were the classes as common as in {other['mix']}, it would be right for {percent(top1['value'])} "
        f"(standard error {100 * top1['standard_error']:.1f} points), with a macro F1 of {percent(f1['value'])} "
        f"(standard error {100 * f1['standard_error']:.1f} points)."
    ]


def _class_words(numbers: Mapping[str, Any]) -> list[str]:
    there = sorted((c for c in numbers["per_class"] if c["f1"] is not None), key=lambda c: c["f1"])
    good, weak = sum(c["f1"] >= GOOD_F1 for c in there), [c for c in there if c["f1"] < WEAK_F1]
    text = f"Of {len(there)} classes, {good} reach an F1 of {GOOD_F1:g} or more and {len(weak)} stay below {WEAK_F1:g}"
    if weak:
        lowest = [f"{c['name']} ({c['f1']:.2f})" for c in weak[:3]]
        text += f", lowest {_listed(lowest)}"
    return [text + "."]


def _trust_words(numbers: Mapping[str, Any]) -> list[str]:
    gap = numbers["mean_score"] - numbers["figures"]["top1"]["value"]
    if abs(gap) < 0.01:
        trust = "Its scores can be taken at their word: on average they promise what is kept"
    elif gap > 0:
        trust = f"It is too sure of itself: its scores promise {100 * gap:.1f} points more than it keeps"
    else:
        trust = f"It is too modest: it is right {-100 * gap:.1f} points more often than its scores promise"
    sure = next((p for p in numbers["coverage"] if p["threshold"] == 0.9 and p["precision"] is not None), None)
    more = "" if sure is None else (
        f" Images with a score of 0.9 or more, {percent(sure['coverage'], 0)} of all, are right for "
        f"{percent(sure['precision'])}."
    )  # fmt: skip
    return [f"{trust}.{more}"]


def _pair_words(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["pairs"]:
        return []
    first, names = numbers["pairs"][0], {c["class_id"]: c["name"] for c in numbers["per_class"]}
    n = first["first_as_second"] + first["second_as_first"]
    return [
        f"Most often taken for each other: {names[first['first']]} and {names[first['second']]} "
        f"({n} {'image' if n == 1 else 'images'})."
    ]


def _rival_words(numbers: Mapping[str, Any]) -> list[str]:
    rival = numbers["comparison"]
    if rival is None:
        return []
    gap, p = rival["top1"], rival["p"]
    name = rival["against"]["name"]
    if p >= 0.05:
        return [f"Beside {name} it is right equally often, as far as these images can tell ({p_words(p)})."]
    more = "more" if gap["value"] > 0 else "less"
    return [
        f"It is right {more} often than {name} by {100 * abs(gap['value']):.1f} points on the same "
        f"{rival['images']:,} images; chance does not explain that ({p_words(p)})."
    ]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
