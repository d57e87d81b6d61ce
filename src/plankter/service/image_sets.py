"""What was uploaded, made ready for a job: zips unpacked, images under one folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from plankter._errors import ReadError
from plankter.readers.unpack import ZipLimits, extract_zip
from plankter.service.uploads import Upload
from plankter.workflow.predict import IMAGE_SUFFIXES
from plankter.workflow.progress import Progress, silent

LEFT_OUT = (".ds_store", "thumbs.db", "desktop.ini")


def unpacked(upload: Upload, *, max_zip_bytes: int, progress: Progress = silent) -> Path:
    """The folder ``set/`` of an upload: its files, with each zip unpacked; made once, whole or not at all.

    Raises:
        ReadError: a zip that is damaged, over a limit or hostile.
    """
    to = upload.folder / "set"
    if to.is_dir():
        return to
    partial = upload.folder / ".set.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    loose = f"upload-{str(upload.facts()['created_at'])[:16].replace(':', '')}"  # names the sample of a run without a folder
    files = [path for path in sorted(upload.data.rglob("*")) if path.is_file()]
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    limits = ZipLimits(max_bytes=max_zip_bytes)
    for number, path in enumerate(zips):
        progress("unpacking", number, len(zips))
        extract_zip(path, partial / path.stem, limits)
    for path in files:
        if path not in zips and path.name.lower() not in LEFT_OUT:
            name = path.relative_to(upload.data)
            target = partial / (name if len(name.parts) > 1 else Path(loose) / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise ReadError("a zip and a file of the upload bring the same name", path=path.name)
            try:
                target.hardlink_to(path)
            except OSError:
                shutil.copy2(path, target)
    progress("unpacking", len(zips), len(zips) or 1)
    partial.rename(to)
    shutil.rmtree(upload.data, ignore_errors=True)
    upload.data.mkdir(exist_ok=True)
    return to


def class_root(folder: Path) -> Path:
    """The folder that holds one folder a class: a zip or an upload often wraps it in one more."""
    while True:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        inner = entries[0]
        if not any(path.is_dir() for path in inner.iterdir()):
            return folder
        folder = inner


def count_images(folder: Path) -> int:
    """Images below a folder, by their endings."""
    return sum(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*"))
