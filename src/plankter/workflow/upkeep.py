"""A workspace kept sound: compared, rebuilt, saved and brought back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from plankter._errors import SettingsError
from plankter._settings import FILE_NAME, load_settings
from plankter.store.archive import Archive
from plankter.store.backup import backup as write_backup
from plankter.store.backup import restore as unpack_backup
from plankter.store.maintenance import check as compare
from plankter.store.maintenance import level, rebuild_sqlite
from plankter.store.maintenance import rebuild as refill
from plankter.store.mongodb_address import is_mongodb
from plankter.taxa.classes import shipped_class_list
from plankter.workflow.migrate import migrate
from plankter.workflow.workspace import Workspace, open_workspace


def check(workspace: Workspace, *, deep: bool = False) -> dict[str, Any]:
    """Problems between catalogue and archive, in plain words; ``deep`` reads every file."""
    problems = compare(workspace.catalogue, workspace.archive, deep=deep)
    return {"runs": len(workspace.catalogue.runs()), "problems": problems}


def rebuild(folder: Path) -> dict[str, Any]:
    """A new catalogue made from the archive, put in the old one's place when it is whole.

    One in a MongoDB is filled in its place, run by run: what only the archive's journal knows is added, and runs that
    the archive does not have go.

    Raises:
        SettingsError: no workspace, or a catalogue of another kind.
    """
    settings = load_settings(folder)
    if is_mongodb(str(settings["workspace.catalogue"])):
        return _refill(folder)
    scheme, _, name = str(settings["workspace.catalogue"]).partition(":")
    if scheme != "sqlite":
        raise SettingsError(f"only sqlite and mongodb can be rebuilt, this is {scheme}", path=folder / FILE_NAME)
    archive = Archive(folder / str(settings["workspace.archive"]))
    rebuild_sqlite(archive, folder / name, taxa=shipped_class_list())
    with open_workspace(folder) as workspace:
        return {"runs": len(workspace.catalogue.runs()), "problems": check(workspace)["problems"]}


def _refill(folder: Path) -> dict[str, Any]:
    with open_workspace(folder) as workspace:
        level(workspace.catalogue, workspace.journal)
        there = set(workspace.archive.run_ids())
        for record in workspace.catalogue.runs():
            if record.run.run_id not in there:
                workspace.catalogue.remove_run(record.run.run_id)
        refill(workspace.archive, workspace.catalogue, taxa=workspace.catalogue.taxa())
        return {"runs": len(workspace.catalogue.runs()), "problems": check(workspace)["problems"]}


def backup(folder: Path, to: Path) -> dict[str, Any]:
    """The whole workspace in one zip, the catalogue as of one moment; one in a MongoDB becomes an embedded one.

    Raises:
        SettingsError: no workspace.
    """
    if is_mongodb(str(load_settings(folder)["workspace.catalogue"])):  # saved as an embedded one
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=folder) as scratch:
            copy = Path(scratch) / "catalogue.sqlite"
            migrate(folder, f"sqlite:{copy.absolute()}", switch=False)
            write_backup(folder, to, catalogue=copy)
    else:
        write_backup(folder, to)
    return {"path": str(to), "bytes": to.stat().st_size}


def restore(backup_file: Path, folder: Path) -> dict[str, Any]:
    """A backup unpacked into a new or empty folder, every file verified."""
    unpack_backup(backup_file, folder)
    load_settings(folder)
    return {"workspace": str(folder)}
