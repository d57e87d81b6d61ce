"""CARD.md of a trained model: what it learnt from, how good it is, and what it must not be trusted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = {
    "top1": "first class right",
    "top3": "right class among the first three",
    "macro_f1": "F1, mean over the classes",
    "weighted_f1": "F1, mean over the images",
    "balanced_accuracy": "recall, mean over the classes",
    "ece": "expected calibration error",
}


def model_card(
    name: str,
    facts: Mapping[str, str],
    metrics: Mapping[str, float | int | None],
    classes: Sequence[Mapping[str, Any]],
    *,
    warnings: Sequence[str] = (),
    problems: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card's text.

    Args:
        name: of the model.
        facts: what to say first, in order.
        metrics: on the judging part; "images" says how many.
        classes: for each class class_id, aphia_id, train, tune, judge, precision, recall and f1, None where unknown; the
            last three with a ``..._interval`` (low, high) where there is one.
        warnings: what the figures do not tell.
        problems: what was left out: problem, count, message.
    """
    lines = [f"# {_cell(name)}", ""]
    lines += [f"- {_cell(key)}: {_cell(value)}" for key, value in facts.items()]
    lines += ["", "## How good it is", ""]
    if metrics.get("images"):
        lines += [f"On {metrics['images']:,} images that neither training nor calibration saw:", ""]
        lines += ["| measure | value |", "| --- | --- |"]
        lines += [f"| {text} | {_number(metrics.get(key))} |" for key, text in METRICS.items()]
    else:
        lines += ["No image was left to judge it by."]
    if warnings:
        lines += ["", "## What these figures do not tell", "", *(f"- {_cell(text)}" for text in warnings)]
    if problems:
        lines += ["", "## Images that were left out or are odd", ""]
        lines += [f"- {p['count']:,} x {_cell(str(p['message']))}" for p in problems]
    lines += ["", "## Classes", ""]
    if any(c.get("recall_interval") for c in classes):
        lines += [
            "In brackets: 95 % intervals (Wilson's of precision and recall, F1 by resampling within the classes).",
            "",
        ]
    lines += ["| class | AphiaID | train | tune | judge | precision | recall | F1 |", "| --- " * 8 + "|"]
    for c in classes:
        numbers = " | ".join(_with_interval(c, key) for key in ("precision", "recall", "f1"))
        counts = " | ".join(str(c[key]) for key in ("train", "tune", "judge"))
        lines.append(f"| {_cell(str(c['class_id']))} | {c.get('aphia_id') or '-'} | {counts} | {numbers} |")
    return "\n".join(lines) + "\n"


def _with_interval(quality: Mapping[str, Any], key: str) -> str:
    text, interval = _number(quality.get(key)), quality.get(f"{key}_interval")
    return text if interval is None or text == "-" else f"{text} ({interval[0]:.2f} to {interval[1]:.2f})"


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) and value == value else "-"


def _cell(text: str) -> str:
    """A text that cannot break out of its line or cell."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
