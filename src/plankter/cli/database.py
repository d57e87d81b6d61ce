"""Commands on databases and on what fills them by itself: connect, write-back, watch, migrate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, Failed, WorkspaceDir, emit, progress_bars, reporting


@app.command()
def migrate(
    to: Annotated[str, typer.Argument(help="Address of the new catalogue: mongodb://host/database or sqlite:FILE.")],
    keep: Annotated[bool, typer.Option("--keep", help="Copy and compare, but go on with the earlier one.")] = False,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Move the catalogue to another place, compared row by row; may be repeated after a stop."""
    from plankter.workflow.migrate import migrate as move

    with reporting(as_json):
        with progress_bars() as progress:
            found = move(workspace, to, switch=not keep, progress=progress)
        emit(found, as_json, _migrate_text)


def _migrate_text(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{found['runs']} runs, {found['particles']} particles and {found['annotations']} labels copied from "
        f"{found['from']} to {found['to']} and compared row by row: no difference ({found['seconds']:.1f} s)"
    )
    yield "the workspace uses the new catalogue" if found["switched"] else "the workspace goes on with the earlier one"


@app.command()
def connect(
    mapping: Annotated[Path, typer.Argument(help="The mapping file: which field of the documents is what.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at every document, write nothing.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Look at all documents, not only at changed ones.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay connected and take over each change.")] = False,
    propose: Annotated[
        str | None, typer.Option(help="Address of a database: write MAPPING after a look at it.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="With --propose: which collection.")] = None,
    database: Annotated[str | None, typer.Option(help="With --propose: which database.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Read an existing image database: particles, images, labels and samples, as a mapping file says."""
    from plankter.workflow.connect import connect as read_in
    from plankter.workflow.connect import follow
    from plankter.workflow.connect_propose import propose as look_at
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json):
        if propose is not None:
            if collection is None:
                raise typer.BadParameter("--propose needs --collection")
            emit(look_at(propose, collection, mapping, database=database), as_json, _propose_text)
            return
        with open_workspace(workspace) as opened, progress_bars() as progress:
            if watch:
                follow(opened, mapping, progress=progress, told=lambda found: emit(found, as_json, _connect_text))
                return
            found = read_in(opened, mapping, dry_run=dry_run, whole=whole, progress=progress)
        emit(found, as_json, _connect_text)


def _propose_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['mapping']} written after a look at {found['documents']} documents with {len(found['fields'])} fields"
    for what, chosen in found["proposed"].items():
        yield f"  {what}: {chosen or 'nothing found'}"


def _connect_text(found: dict[str, Any]) -> Iterator[str]:
    if found["dry_run"]:
        yield (
            f"{found['documents']} documents would become {found['runs']} runs of {found['groups']} groups: "
            f"{found['images']} images, {found['labels']} labels of {len(found['classes'])} classes; nothing was written"
        )
        unknown = [name for name, entry in found["classes"].items() if entry["class_id"] is None]
        if unknown:
            yield f"classes that the class list does not know: {', '.join(unknown[:20])}"
    else:
        yield (
            f"{found['documents']} documents looked at: {found['new']} new, {found['changed']} changed, "
            f"{found['unchanged']} unchanged; {len(found['runs'])} runs and {found['labels']} labels added, "
            f"{found['images_read']} images read"
        )
    for reason, entry in found["problems"].items():
        yield f"  {entry['count']:>8}  {reason} (such as {'; '.join(entry['examples'][:2])})"


@app.command(name="write-back")
def write_back(
    mapping: Annotated[Path, typer.Argument(help="The mapping file, with a section [results].")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, write nothing.")] = False,
    undo: Annotated[Path | None, typer.Option("--undo", help="Take back what this undo list names.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Write results into the database that the documents came from: our field or our collections only."""
    from plankter.workflow.workspace import open_workspace
    from plankter.workflow.write_back import undo as take_back
    from plankter.workflow.write_back import write_back as write

    with reporting(as_json), open_workspace(workspace) as opened:
        if undo is not None:
            emit(take_back(opened, mapping, undo), as_json, _undo_text)
            return
        with progress_bars() as progress:
            found = write(opened, mapping, dry_run=dry_run, progress=progress)
        emit(found, as_json, _write_back_text)


def _write_back_text(found: dict[str, Any]) -> Iterator[str]:
    would = "would be written" if found["dry_run"] else "written"
    yield (
        f"{found['documents']} documents and {found['quantities']} quantities {would}, {found['unchanged']} stand already"
    )
    for example in found["examples"] if found["dry_run"] else ():
        yield f"  {example['_id']}: {example['before']} -> {example['after']}"
    for reason, entry in found["problems"].items():
        yield f"  {entry['count']:>8}  {reason} (such as {'; '.join(entry['examples'][:2])})"
    if found["undo"]:
        yield f"undo list: {found['undo']}"


def _undo_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['undone']} writes taken back"
    for reason, entry in found["problems"].items():
        yield f"  {entry['count']:>8}  {reason}"


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="What the instrument writes into, at any depth.")],
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds for which a finished run's files stay as they are.")
    ] = 60,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Take what is finished now, then end.")] = False,
    model: Annotated[str | None, typer.Option("--model", help="Name, id or folder of a model.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Ingest, classify and report each run that an instrument has finished writing; one report a day."""
    from plankter.workflow.watch import watch as stay
    from plankter.workflow.workspace import open_workspace

    def told(entry: dict[str, Any]) -> None:
        if not once:  # a line a run, as there is no end
            emit(entry, as_json, _watched_text)
            sys.stdout.flush()

    with reporting(as_json), open_workspace(workspace) as opened:
        if not once:
            print(f"watching {folder}: looking every {every:g} s, until Ctrl-C", file=sys.stderr, flush=True)
        found = stay(opened, folder, settle_s=settle, poll_s=every, once=once, model=model, told=told)
        if once:
            emit(found, as_json, _watch_text)
            if any(entry["status"] == "refused" for entry in found["runs"]):
                raise Failed


def _watched_text(entry: dict[str, Any]) -> Iterator[str]:
    if entry["status"] == "refused":
        yield f"{entry['at']} refused   {entry['source']}: {entry['reason']}"
    else:
        yield f"{entry['at']} {entry['status']:<10}{entry['source']}: {entry['particles']} particles, report {entry['report']}"


def _watch_text(found: dict[str, Any]) -> Iterator[str]:
    for entry in found["runs"]:
        yield from _watched_text(entry)
    for name in found["waiting"]:
        yield f"still being written: {name}"
    if not found["runs"] and not found["waiting"]:
        yield "nothing new"
