"""A workspace in one zip, and back: the catalogue as of one moment, every file with its SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from plankter._errors import Conflict, NewerWorkspace, StoreError
from plankter._settings import FILE_NAME, load_settings, with_catalogue
from plankter.store.files import disk_full_said, write_whole
from plankter.store.mongodb_address import masked
from plankter.store.sqlite_connect import Database

MANIFEST = "backup.json"
FORMAT = 1
_BLOCK = 1 << 20
_STORED = (".zip", ".png", ".parquet", ".npy", ".npz")  # not compressed twice


def backup(workspace_dir: Path, to: Path, *, catalogue: Path | None = None) -> None:
    """Writes settings, catalogue, archive and models of a workspace into one zip; labels may be given meanwhile.

    The catalogue is copied first and the archive only grows, so that the copy lacks nothing that the catalogue names.

    Args:
        workspace_dir: the workspace.
        to: the zip; one that is there is replaced when the new one is whole.
        catalogue: an SQLite file to save in the place of a catalogue that lies elsewhere.

    Raises:
        StoreError: the catalogue is not an embedded one within the workspace, or the disk is full.
    """
    settings = load_settings(workspace_dir)
    scheme, _, name = str(settings["workspace.catalogue"]).partition(":")
    archive = str(settings["workspace.archive"])
    source, settings_text = workspace_dir / name, (workspace_dir / FILE_NAME).read_text(encoding="utf-8")
    if catalogue is not None:
        scheme, name, source = "sqlite", "catalogue.sqlite", catalogue
        settings_text = with_catalogue(settings_text, f"sqlite:{name}")
    for place in (name, archive):
        if scheme != "sqlite" or not (workspace_dir / place).resolve().is_relative_to(workspace_dir.resolve()):
            raise StoreError(
                f"only what lies in the workspace can be saved, {masked(f'{scheme}:{place}')} does not",
                path=workspace_dir / FILE_NAME,
            )

    def write(partial: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=to.parent) as scratch:
            copy = Path(scratch) / "catalogue"
            (Path(scratch) / FILE_NAME).write_text(settings_text, encoding="utf-8")
            database = Database(source)
            try:
                database.copy_to(copy)
            finally:
                database.close()
            files = {PurePosixPath(name).as_posix(): copy, FILE_NAME: Path(scratch) / FILE_NAME}
            for path in _files(workspace_dir / archive, workspace_dir / "models"):
                files[path.relative_to(workspace_dir).as_posix()] = path
            _write_zip(partial, files)

    write_whole(to, write)


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            unfinished = any(part.startswith(".") or part.endswith((".lock", ".turn", ".partial")) for part in parts)
            if path.is_file() and not path.is_symlink() and not unfinished:
                yield path


def _write_zip(to: Path, files: dict[str, Path]) -> None:
    listed: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as out:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
            digest, size = hashlib.sha256(), 0
            with path.open("rb") as source, out.open(entry, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
                    target.write(block)
            listed[name] = {"sha256": digest.hexdigest(), "bytes": size}
        out.writestr(MANIFEST, json.dumps({"format": FORMAT, "files": listed}, indent=1, sort_keys=True))


def restore(backup_file: Path, to: Path) -> None:
    """Unpacks a backup into a new or empty folder; the folder appears when every file is verified.

    Args:
        backup_file: a zip that `backup` wrote.
        to: the folder.

    Raises:
        Conflict: the folder holds something.
        NewerWorkspace: written by a later version.
        StoreError: not a backup, or damaged; nothing is left behind.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise Conflict("expected a new or empty folder", path=to)
    to = to.absolute()
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        with disk_full_said(to), zipfile.ZipFile(backup_file) as packed:
            for name, entry in _manifest(packed, backup_file).items():
                _unpack(packed, name, entry, partial / name, backup_file)
        if to.exists():
            to.rmdir()
        partial.rename(to)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise StoreError(f"expected a backup of a workspace: {error}", path=backup_file) from error
    except FileNotFoundError as error:
        raise StoreError(f"cannot be read: {error.strerror}", path=backup_file) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _manifest(packed: zipfile.ZipFile, path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(packed.read(MANIFEST))
        written, files = int(found["format"]), dict(found["files"])
        sizes = [int(entry["bytes"]) + len(entry["sha256"]) for entry in files.values()]
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"expected a backup of a workspace with {MANIFEST}: {error}", path=path) from error
    if written > FORMAT:
        raise NewerWorkspace(f"the backup has format {written}, this plankter knows {FORMAT}", path=path)
    names = set(packed.namelist()) - {MANIFEST}
    if names != set(files) or len(names) != len(packed.infolist()) - 1 or len(sizes) != len(files):
        raise StoreError("members and list of the backup differ", path=path)
    for name in files:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise StoreError(f"the backup names a file outside its folder: {name!r}", path=path)
    return files


def _unpack(packed: zipfile.ZipFile, name: str, entry: dict[str, Any], to: Path, path: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), int(entry["bytes"])
    with packed.open(name) as source, to.open("wb") as target:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:  # more than the list says: stop before the disk is full
                break
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    if left or digest.hexdigest() != entry["sha256"]:
        raise StoreError(f"{name} in the backup is damaged: its SHA-256 is not what was written", path=path)
