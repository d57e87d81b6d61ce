"""The command line: arguments in, workflow calls, text out."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="plankter",
    help="From plankton imaging instruments to validated, publishable biodiversity data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(version("plankter"))
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Entry point of the ``plankter`` command."""
    app()


from plankter.cli import (  # noqa: E402 - each module registers its commands
    data,  # noqa: F401
    database,  # noqa: F401
    drift,  # noqa: F401
    evaluation,  # noqa: F401
    models,  # noqa: F401
    serve,  # noqa: F401
    train,  # noqa: F401
    transform,  # noqa: F401
    upkeep,  # noqa: F401
)
