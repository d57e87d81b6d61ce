"""Images for a training that lie on a platform's storage: a mounted folder, a zip, or a remote of rclone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from plankter._errors import ReadError, SettingsError
from plankter.service.image_sets import class_root, unpacked
from plankter.service.uploads import Upload, UploadLimits, UploadStore
from plankter.workflow.progress import Progress
from plankter.workflow.workspace import Workspace

DATA_VARIABLE = "PLANKTER_DATA"
MOUNT = Path("/storage")  # where the platform mounts the user's own storage
_REMOTE = re.compile(r"(?P<remote>[A-Za-z0-9_]+):(?P<path>[^\0\n]*)")
RCLONE_SECONDS = 6 * 3600


def data_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders that a training may read: those of ``PLANKTER_DATA`` (with the system's separator between), else the
    platform's ``/storage``, where there is one, and the current folder."""
    named = [Path(text) for text in environment.get(DATA_VARIABLE, "").split(os.pathsep) if text]
    usual = [folder for folder in (MOUNT, Path()) if folder.is_dir()]
    return [folder.resolve() for folder in named or usual]


@contextmanager
def training_images(asked: str, workspace: Workspace, progress: Progress) -> Iterator[Path]:
    """The folder with one folder a class that a platform's user means.

    Args:
        asked: a folder or a zip below one of `data_folders`, or ``remote:path`` of a remote that rclone knows
            (``rshare`` where the platform set RCLONE_CONFIG_RSHARE_...).
        workspace: copies are made there, and cleared away at the end.

    Raises:
        ReadError: nothing there, outside the folders, or a zip that is refused.
        SettingsError: a remote, but no rclone, or one that rclone cannot read.
    """
    remote = _REMOTE.fullmatch(asked)
    path = None if remote else _inside(asked)
    if path is not None and path.is_dir():
        yield class_root(path)
        return
    upload = UploadStore(workspace.folder / "uploads", UploadLimits()).create("train")
    try:
        if path is None:
            _fetch(asked, upload, progress)
        else:
            shutil.copyfile(path, upload.data / "images.zip")
        gb = int(workspace.settings["limits.max_zip_gb"])
        yield class_root(unpacked(upload, max_zip_bytes=gb * 1_000_000_000, progress=progress))
    finally:
        shutil.rmtree(upload.folder, ignore_errors=True)


def _inside(asked: str) -> Path:
    folders = data_folders()
    paths = [(folder / asked).resolve() for folder in folders]  # an absolute one stays what it is
    path = next((path for path in paths if path.exists()), paths[0])
    if not any(path.is_relative_to(folder) for folder in folders):
        known = ", ".join(map(str, folders))
        hint = f"put the images below one of them, or name more in {DATA_VARIABLE}"
        raise ReadError(f"outside the folders that a training may read: {known}", path=asked, hint=hint)
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".zip"):
        raise ReadError("expected a folder or a zip with one folder of images a class", path=path)
    return path


def _fetch(remote: str, upload: Upload, progress: Progress) -> None:
    """Copies a remote's folder, or its one file, into an upload. Remote and account are rclone's own settings."""
    program = shutil.which("rclone")
    if program is None:
        raise SettingsError(f"{remote}: rclone is not installed", hint="install it, or name a mounted folder")
    progress(f"copying {remote}", 0, None)
    command = [program, "copy", "--", remote, str(upload.data)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RCLONE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"{remote}: rclone was not done after {RCLONE_SECONDS // 3600} hours") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise SettingsError(f"{remote}: rclone says: {lines[-1][:300]}", hint="are RCLONE_CONFIG_... set?")
    progress(f"copying {remote}", 1, 1)
