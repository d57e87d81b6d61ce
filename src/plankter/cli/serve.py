"""The command that opens the workspace in a browser and for scripts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, reporting


@app.command()
def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; only this computer by default.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--allow-root", help="A folder of this computer that pages may read from; repeatable, none by default."
        ),
    ] = None,
    allow_remote: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-remote",
            help="A host that sets may be fetched from (WebDAV, Nextcloud, S3): HOST[:PORT]; repeatable, none by default. "
            "A private address must be named beside it, and http:// where it is not encrypted.",
        ),
    ] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Open the workspace in a browser: analyse, train, transform; and as an API for scripts."""
    from plankter._settings import FILE_NAME
    from plankter.service.server import Address, run_server
    from plankter.service.state import Limits
    from plankter.workflow.workspace import init_workspace

    def announce(found: Address) -> None:
        facts: dict[str, Any] = {
            "url": found.url,
            "workspace": str(workspace.absolute()),
            "api_token_file": found.token_file,
        }
        emit(facts, as_json, lambda d: iter(_lines(d)))

    with reporting(as_json):
        if not (workspace / FILE_NAME).exists():
            init_workspace(workspace)
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)  # requests go to the log file only
        limits = Limits(roots=tuple(allow_root or ()), remote=tuple(allow_remote or ()))
        run_server(workspace, host=host, port=port, announce=announce, limits=limits)


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"plankter serves {facts['workspace']}", f"  open {facts['url']}", "  stop it with Ctrl-C; jobs go on"]
    if facts["api_token_file"]:
        lines.insert(
            2,
            f"  (each address works once, the next one is printed then; scripts take the token in {facts['api_token_file']})",
        )
    return lines
