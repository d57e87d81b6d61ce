"""Commands that keep a workspace sound: check, rebuild, backup, restore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, Failed, WorkspaceDir, emit, reporting


@app.command()
def check(
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its SHA-256.")] = False,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare catalogue and archive."""
    from plankter.workflow.upkeep import check as compare
    from plankter.workflow.workspace import open_workspace

    with reporting(as_json), open_workspace(workspace) as opened:
        found = compare(opened, deep=deep)
        emit(found, as_json, _check_text)
        if found["problems"]:
            raise Failed


def _check_text(found: dict[str, Any]) -> Iterator[str]:
    yield from found["problems"]
    yield f"{found['runs']} runs checked, {len(found['problems'])} problems"


@app.command()
def rebuild(workspace: WorkspaceDir = HERE, as_json: AsJson = False) -> None:
    """Make a new catalogue from the archive."""
    from plankter.workflow.upkeep import rebuild as make

    with reporting(as_json):
        emit(make(workspace), as_json, lambda d: iter([f"catalogue rebuilt from {d['runs']} runs"]))


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="The zip to write.")],
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the whole workspace into one zip."""
    from plankter.workflow.upkeep import backup as write

    with reporting(as_json):
        found = write(workspace, to)
        emit(found, as_json, lambda d: iter([f"{d['bytes'] / 1e6:.1f} MB written to {d['path']}"]))


@app.command()
def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="BACKUP", help="A zip that `plankter backup` wrote.")],
    folder: Annotated[Path | None, typer.Argument(help="A new or empty folder; else that of -w.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Unpack a backup into a new folder, every file verified."""
    from plankter.workflow.upkeep import restore as unpack

    with reporting(as_json):
        emit(unpack(backup_file, folder or workspace), as_json, lambda d: iter([f"restored to {d['workspace']}"]))
