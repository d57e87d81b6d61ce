"""Commands on runs and samples: init, demo, doctor, ingest, remove, sample, classify, status, export, report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, Failed, WorkspaceDir, emit, progress_bars, reporting

Runs = Annotated[list[str] | None, typer.Argument(help="Runs by run_id, name or sample; all where none is given.")]
SampleTable = Annotated[
    Path | None, typer.Option("--sample", help="Sample metadata: CSV, TSV or Excel with a 'run' column.")
]
ModelName = Annotated[str | None, typer.Option("--model", help="Name, id or folder of a model.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to make it.")] = HERE,
    catalogue: Annotated[str, typer.Option(help="Address of the catalogue.")] = "sqlite:catalogue.sqlite",
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a workspace: settings, catalogue, archive."""
    from plankter.workflow.workspace import init_workspace

    with reporting(as_json):
        made = init_workspace(workspace if folder == HERE else folder, catalogue=catalogue)
        emit({"workspace": str(made.absolute())}, as_json, lambda d: iter([f"workspace made in {d['workspace']}"]))


@app.command()
def demo(
    folder: Annotated[Path | None, typer.Argument(help="Where to make it; plankter-demo if not given.")] = None,
    particles: Annotated[int, typer.Option(min=1, help="How many particles to simulate.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 1,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Simulate a FlowCam run and take it through the whole chain."""
    from plankter.workflow.demo import run_demo

    with reporting(as_json), progress_bars() as progress:
        to = folder or (Path("plankter-demo") if workspace == HERE else workspace)
        found = run_demo(to, particles=particles, seed=seed, progress=progress)
    emit(found, as_json, _demo_text)


def _demo_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"Simulated run '{found['run']}': {found['particles']} particles in {found['volume_imaged_ml']:.4f} mL imaged."
    yield ""
    yield f"{'class':<44}{'count':>7}{'per mL':>10}   95 % interval"
    for row in found["classes"]:
        yield (
            f"{row['class_id'][:43]:<44}{row['count']:>7}{row['per_ml']:>10.1f}   "
            f"{row['per_ml_low']:.1f} to {row['per_ml_high']:.1f}"
        )
    yield ""
    yield f"Of {found['known']} pasted real vignettes, {found['right']} were given their own class by the model."
    yield f"Report: {found['report']}"
    yield ""
    yield "What next:"
    for suggestion in found["next"]:
        yield f"  {suggestion}"


@app.command()
def doctor(
    paths: Annotated[list[Path], typer.Argument(help="Runs, zips or folders.")],
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Say which reader takes a path, what is missing or odd, and how much disk it will need."""
    from plankter.workflow.doctor import doctor as examine

    with reporting(as_json):
        found = examine(paths)
        emit(found, as_json, _doctor_text)
        if any(not p["runs"] for p in found["paths"]):
            raise Failed


def _doctor_text(found: dict[str, Any]) -> Iterator[str]:
    for path in found["paths"]:
        yield f"{path['path']}: reader {path['reader'] or 'none'}, {path['runs']} runs, about {path['bytes_needed'] / 1e6:.1f} MB"
        for problem in path["problems"]:
            where = f" [{problem['file']}{'' if problem['row'] is None else ' row ' + str(problem['row'])}]"
            yield f"  {problem['severity']}: {problem['message']}{where if problem['file'] else ''}"


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="A run, a zip, or a folder of runs at any depth.")],
    sample: SampleTable = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Read runs into the workspace; a bad run never stops the others."""
    from plankter.workflow.ingest import as_json as ingest_json
    from plankter.workflow.ingest import ingest as read_in
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        with progress_bars() as progress:
            found, seconds = read_in(opened, paths, samples=sample, progress=progress)
        emit(ingest_json(found, seconds), as_json, _ingest_text)
        if not found or any(run.status == "refused" for run in found):
            raise Failed


def _ingest_text(found: dict[str, Any]) -> Iterator[str]:
    for run in found["runs"]:
        volume = f"{run['volume_imaged_ml']:.4f} mL" if run["volume_imaged_ml"] else "volume unknown"
        head = f"{run['status']:<10}{run['source']}"
        if run["status"] == "refused":
            yield f"{head}: {run['reason']}"
        else:
            yield f"{head}: {run['particles']} particles, {run['vignettes']} vignettes, {run['failures']} failures, {volume}"
    if not found["runs"]:
        yield "no runs found; `plankter doctor PATH` says why"


@app.command()
def remove(
    runs: Annotated[list[str], typer.Argument(help="Runs by run_id, name or sample.")],
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Take runs out again; their labels stay in the journal."""
    from plankter.workflow.samples import remove as take_out
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        found = take_out(opened, runs)
        emit(found, as_json, lambda d: (f"removed {r['name']}: {r['particles']} particles" for r in d["removed"]))


@app.command()
def sample(
    table: Annotated[Path, typer.Argument(help="CSV, TSV or Excel with a 'run' column.")],
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Attach or correct sample metadata."""
    from plankter.workflow.samples import attach_samples
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        found = attach_samples(opened, table)
        emit(found, as_json, _sample_text)
        if found["unknown_runs"]:
            raise Failed


def _sample_text(found: dict[str, Any]) -> Iterator[str]:
    for row in found["attached"]:
        yield f"{row['run_id']} now belongs to sample {row['sample_id']}"
    for name in found["unknown_runs"]:
        yield f"no run {name!r} in the workspace"


@app.command()
def classify(
    runs: Runs = None, model: ModelName = None, workspace: WorkspaceDir = HERE, as_json: AsJson = False
) -> None:
    """Predict the class of every particle and write a report a run."""
    from plankter.workflow.classify import classify as predict_runs
    from plankter.workflow.report import write_report
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        with progress_bars() as progress:
            found = predict_runs(opened, runs or (), model=model, progress=progress)
        for run in found["runs"]:
            run["report"] = str(write_report(opened, run["run_id"]))
        emit(found, as_json, _classify_text)


def _classify_text(found: dict[str, Any]) -> Iterator[str]:
    for run in found["runs"]:
        yield f"{run['run_id']}: {run['predicted']} of {run['particles']} particles predicted, report {run['report']}"
    yield f"model {found['model_id']} in {found['precision']}, {found['seconds']:.1f} s"


@app.command()
def report(runs: Runs = None, workspace: WorkspaceDir = HERE, as_json: AsJson = False) -> None:
    """Write the HTML report of each run."""
    from plankter.workflow.classify import select_runs
    from plankter.workflow.report import write_report
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        records = select_runs(opened, runs or ())
        found = {"reports": [str(write_report(opened, record.run.run_id)) for record in records]}
        emit(found, as_json, lambda d: iter(d["reports"]))


@app.command()
def status(workspace: WorkspaceDir = HERE, as_json: AsJson = False) -> None:
    """Say what the workspace holds."""
    from plankter.workflow.classify import status as summarise
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        emit(summarise(opened), as_json, _status_text)


def _status_text(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{found['runs']} runs, {found['particles']} particles, "
        f"{found['predicted']} predicted, {found['validated']} validated"
    )
    for name, count in sorted(found["by_class"].items(), key=lambda item: -item[1]["predicted"]):
        yield f"  {name:<60}{count['predicted']:>8}{count['validated']:>8}"


@app.command()
def export(
    format: Annotated[str, typer.Argument(help="csv or parquet, or a plugin's format.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the results for others."""
    from plankter.workflow.export import export as write
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        found = write(opened, format, out)
        emit(found, as_json, _export_text)


def _export_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['format']} written to {found['path']}"
    for name, rows in found["rows"].items():
        yield f"  {name}: {rows} rows"
    for warning in found["warnings"]:
        yield f"  warning: {warning}"
