"""Text, JSON and exit status: what every command does the same way."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter._errors import PlankterError

WorkspaceDir = Annotated[Path, typer.Option("-w", "--workspace", help="Folder of the workspace.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
HERE = Path()


class Failed(Exception):
    """Something of what was asked failed and was reported; the exit status is 1."""


def emit(data: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], Iterator[str]]) -> None:
    """Prints a result as one JSON object or as lines of text."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False, allow_nan=False))
    else:
        for line in text(data):
            print(line)


@contextmanager
def reporting(as_json: bool, *, text: bool = True) -> Iterator[None]:
    """The edge: errors become one clear message (or the JSON error object) and an exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        yield
    except PlankterError as error:
        _fail(error.as_dict(), as_json, str(error))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        raise typer.Exit(1) from None
    except Failed:
        raise typer.Exit(1) from None
    except OSError as error:
        message = error.strerror or str(error)
        found = {"code": "system", "message": message, "path": error.filename, "row": None, "hint": None}
        _fail(found, as_json, f"{error.filename or 'system'}: {message}")


def _fail(error: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print(json.dumps({"error": error}, ensure_ascii=False))
    else:
        print(f"plankter: {text}", file=sys.stderr)
    raise typer.Exit(1) from None


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Progress on standard error with the time left, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield tell
