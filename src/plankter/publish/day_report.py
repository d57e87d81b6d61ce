"""What a watched folder brought on one day, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Any

_COLUMNS = ("at", "source", "status", "particles", "predicted", "failures", "reason")
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#1c2430}table{border-collapse:collapse}"
    "td,th{padding:.3rem .7rem;border-bottom:1px solid #d7dde5;text-align:left}td.n{text-align:right}"
)


def day_report(day: date, folder: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One HTML page: a line a run with the time (UTC), what became of it, and a link to its own report.

    Args:
        day: which one.
        folder: what is watched.
        rows: ``at``, ``source``, ``status``, ``particles``, ``predicted``, ``failures``, ``reason``, ``report``; what
            is unknown is None.
    """
    good = [row for row in rows if row.get("status") in ("ingested", "updated")]
    bad = [row for row in rows if row.get("status") in ("refused", "failed")]
    particles = sum(int(row.get("particles") or 0) for row in good)
    failures = sum(int(row.get("failures") or 0) for row in good)
    title = f"{day.isoformat()}: {len(good)} runs, {particles} particles"
    said = f"{len(good)} runs came in with {particles} particles, {failures} of them without a usable image."
    if bad:
        said += f" {len(bad)} could not be taken; the last column says why."
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "\n".join(f"<tr>{''.join(_cell(name, row) for name in _COLUMNS)}</tr>" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n<p>{escape(folder)}. {escape(said)}</p>\n"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n</body></html>\n"
    )


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value = row.get(name)
    text = "" if value is None else escape(str(value))
    if name == "source" and row.get("report"):
        text = f'<a href="{escape(str(row["report"]), quote=True)}">{text}</a>'
    return f'<td class="n">{text}</td>' if isinstance(value, int) else f"<td>{text}</td>"
