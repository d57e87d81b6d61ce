"""Writes commands.md, settings.md and tables.md of docs/reference from the program: python docs/make_commands.py"""

from __future__ import annotations

from pathlib import Path

import typer

from plankter._settings import SETTINGS
from plankter.cli import app
from plankter.workflow.export import PARTICLE_COLUMNS, RUN_COLUMNS, SAMPLE_COLUMNS

HERE = Path(__file__).parent / "reference"


def commands_page() -> str:
    """Every command with its arguments and options."""
    group = typer.main.get_command(app)
    lines = ["# Commands", "", "Made from the program by `docs/make_commands.py`.", ""]
    lines += [
        "Exit status: 0 done, 1 something failed or was refused (the rest was done and is reported), 2 wrong arguments."
    ]
    lines += [
        "With `--json` a command prints one JSON object and nothing else on standard output; progress and",
        "messages go to standard error.",
        "",
    ]
    for name, command in sorted(group.commands.items()):
        lines += [f"## `plankter {name}`", "", str(command.help).strip(), ""]
        for parameter in command.params:
            shown = ", ".join(f"`{option}`" for option in parameter.opts)
            if parameter.param_type_name == "argument":
                shown = f"`{(parameter.metavar or parameter.name or '').upper()}`"
            lines.append(f"- {shown}: {getattr(parameter, 'help', '') or ''}")
        lines.append("")
    return "\n".join(lines)


def settings_page() -> str:
    """Every setting with its default, its environment variable and its meaning."""
    lines = [
        "# Settings",
        "",
        "They stand in `plankter.toml` of a workspace; an environment variable overrides one.",
        "",
    ]
    lines += ["| setting | default | environment | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{s.name}` | `{s.default}` | `{s.variable}` | {s.help} |" for s in SETTINGS]
    return "\n".join([*lines, ""])


def tables_page() -> str:
    """Every column of the exported tables."""
    lines = ["# Tables of `plankter export csv` and `plankter export parquet`", ""]
    lines += ["The particle table goes on with the measures of [measures.md](measures.md), a column each.", ""]
    for title, columns in (("particles", PARTICLE_COLUMNS), ("runs", RUN_COLUMNS), ("samples", SAMPLE_COLUMNS)):
        lines += [f"## {title}", "", "| column | type | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in columns]
        lines.append("")
    return "\n".join(lines)


PAGES = {"commands.md": commands_page, "settings.md": settings_page, "tables.md": tables_page}

if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
