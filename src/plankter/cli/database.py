"""Commands on databases: migrate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting


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
