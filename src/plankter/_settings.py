"""Settings of a workspace: one table of name, default and meaning; plankter.toml and the environment fill it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import NewerWorkspace, SettingsError

FILE_NAME = "plankter.toml"
WORKSPACE_FORMAT = 1
Value = str | int


@dataclass(frozen=True)
class Setting:
    """One setting; its type is that of its default."""

    name: str
    default: Value
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return "PLANKTER_" + self.name.upper().replace(".", "_")


SETTINGS = (
    Setting("workspace.format", WORKSPACE_FORMAT, "Version of the workspace's layout; written by `plankter init`."),
    Setting("workspace.catalogue", "sqlite:catalogue.sqlite", "Where the catalogue is; a relative path starts here."),
    Setting("workspace.archive", "archive", "Folder of the archive; a relative path starts at the workspace."),
    Setting("classify.model", "flowcam", "Model that `plankter classify` uses where --model is not given."),
    Setting("classify.precision", "auto", "auto, f32 or bf16; auto takes bf16 where the processor computes in it."),
    Setting(
        "classify.class_mix",
        "training",
        "Class mix expected: training, balanced, estimated (each run's own), validated (the workspace's labels), or a CSV file; the last two "
        "with a power to find rare classes more often, as shares.csv^0.7.",
    ),
    Setting("compute.threads", 0, "Worker threads; 0 takes all cores."),
    Setting("limits.max_zip_gb", 64, "Largest unpacked size of a zip that is read, in GB."),
)


def load_settings(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Value]:
    """All settings of the workspace in ``folder``, by dotted name.

    Raises:
        SettingsError: the file is missing, is no TOML, or holds an unknown name or a value of the wrong type.
        NewerWorkspace: the workspace was written by a later version.
    """
    path = folder / FILE_NAME
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "make one with `plankter init`, or name another folder with -w DIR"
        raise SettingsError("this folder is no workspace: expected plankter.toml", path=path, hint=hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"expected TOML: {error}", path=path) from error
    written = _format_of(tables, path)
    if written > WORKSPACE_FORMAT:
        raise NewerWorkspace(
            f"the workspace has format {written}, this plankter knows {WORKSPACE_FORMAT}",
            path=path,
            hint="update plankter; nothing was changed",
        )
    known = {setting.name: setting for setting in SETTINGS}
    values: dict[str, Value] = {setting.name: setting.default for setting in SETTINGS}
    for section, entries in tables.items():
        for key, value in (entries if isinstance(entries, dict) else {"": entries}).items():
            name = f"{section}.{key}"
            if name not in known:
                raise SettingsError(f"unknown setting {name!r}; known: {', '.join(known)}", path=path)
            values[name] = _typed(known[name], value, str(path))
    for setting in SETTINGS:
        if setting.variable in environment:
            values[setting.name] = _typed(setting, environment[setting.variable], setting.variable)
    return values


def _format_of(tables: Mapping[str, object], path: Path) -> int:
    workspace = tables.get("workspace")
    written = workspace.get("format") if isinstance(workspace, dict) else None
    if not isinstance(written, int):
        raise SettingsError("expected a whole number in [workspace] format", path=path)
    return written


def _typed(setting: Setting, value: object, where: str) -> Value:
    if isinstance(setting.default, int):
        try:
            return int(str(value))
        except ValueError as error:
            raise SettingsError(f"{setting.name}: expected a whole number, got {value!r}", path=where) from error
    if not isinstance(value, str):
        raise SettingsError(f"{setting.name}: expected text, got {value!r}", path=where)
    return value


def settings_text(catalogue: str) -> str:
    """A new plankter.toml."""
    lines = ["# Settings of this plankter workspace; all of them are described in docs/reference/settings.md", ""]
    lines += [
        "[workspace]",
        f"format = {WORKSPACE_FORMAT}",
        f"catalogue = {_quoted(catalogue)}",
        'archive = "archive"',
        "",
    ]
    lines += ["[classify]", 'model = "flowcam"', ""]
    return "\n".join(lines)


def with_catalogue(text: str, address: str) -> str:
    """The text of a plankter.toml with another catalogue, all else left as it is."""
    line = f"catalogue = {_quoted(address)}"
    changed, count = re.subn(r"^catalogue\s*=.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    if count:
        return changed
    return re.sub(r"^\[workspace\].*$", lambda found: f"{found.group()}\n{line}", text, count=1, flags=re.MULTILINE)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
