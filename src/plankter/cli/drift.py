"""The command that compares runs with what a model learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting


@app.command()
def drift(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs by id, name or sample; all where none is given.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name, id or folder of a model.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write an HTML page with charts.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Say whether runs still resemble what a model learnt from: other season, or other instrument."""
    from plankter.workflow.drift import drift as run
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened, progress_bars() as progress:
        emit(run(opened, runs or (), model=model, report=report, progress=progress), as_json, _drift_text)


def _drift_text(found: dict[str, Any]) -> Iterator[str]:
    width = max([len(run["name"]) for run in found["runs"]] + [3])
    if found["runs"]:
        yield f"{'run':<{width}}  {'mmd2':>8}  {'p':>7}  {'mix p':>7}  {'score p':>7}  {'psi':>5}  verdict"
    for run in found["runs"]:
        mmd2 = "-" if run["mmd2"] is None else f"{run['mmd2']:.4f}"
        p = "  ".join(f"{_p(run[name]):>7}" for name in ("mmd_p", "class_mix_p", "confidence_p"))
        yield f"{run['name']:<{width}}  {mmd2:>8}  {p}  {run['psi']:>5.2f}  {run['verdict']}"
    for run in found["runs"]:
        if run["verdict"] != "none" or run["alarm"]:
            yield f"{run['name']}: {run['advice']}"
    for month in found["months"]:
        interval = f"{100 * month['low']:.0f} to {100 * month['high']:.0f} %"
        alarm = ", under what was expected" if month["alarm"] else ""
        yield f"{month['month']}: {100 * month['accuracy']:.0f} % of {month['labels']} labels right ({interval}){alarm}"
    yield from found["warnings"]
    if "report" in found:
        yield f"written to {found['report']}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
