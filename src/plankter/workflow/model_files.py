"""A model as one file, to hand on: a zip of its plain files with a manifest; and back, believing nothing in it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plankter._errors import ModelError
from plankter.classify.models import (
    BACKBONE_FILE,
    CARD_FILE,
    HEAD_FILE,
    MAX_JSON_BYTES,
    MODEL_JSON,
    REFERENCE_FILE,
    STATISTICS_FILE,
    TRAINABLE_FILE,
    file_sha256,
    load_model,
)
from plankter.classify.predictor import load_predictor
from plankter.features.onnx_check import MAX_NETWORK_BYTES, check_network_file
from plankter.readers.unpack import ZipLimits, extract_zip
from plankter.types import Model

SUFFIX = ".plankter-model.zip"
MANIFEST = "plankter-model.json"
PACKAGE_VERSION = 1
MAX_CARD_BYTES = 4_000_000
MAX_ARRAY_BYTES = 512_000_000
# the files a model consists of, and how large each may be
FILE_LIMITS = {
    MODEL_JSON: MAX_JSON_BYTES,
    BACKBONE_FILE: MAX_NETWORK_BYTES,
    TRAINABLE_FILE: MAX_NETWORK_BYTES,
    HEAD_FILE: MAX_ARRAY_BYTES,
    REFERENCE_FILE: MAX_ARRAY_BYTES,
    STATISTICS_FILE: MAX_ARRAY_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
OPTIONAL = (REFERENCE_FILE, STATISTICS_FILE, CARD_FILE, TRAINABLE_FILE)
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip knows: a date would make each export another file


def model_file_name(model: Model) -> str:
    """``NAME-<model_id>.plankter-model.zip``, whatever characters the name is made of."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", model.name).strip("._") or "model"
    return f"{name[:80]}-{model.model_id}{SUFFIX}"


def model_parts(folder: Path) -> list[Path]:
    """The files of a model, sorted by name; whatever else lies in its folder is none of it."""
    return [folder / name for name in sorted(FILE_LIMITS) if name not in OPTIONAL or (folder / name).is_file()]


def write_model_file(model: Model, out: Path) -> Path:
    """Writes a model as one zip: stored, in a fixed order, without dates, so that a model gives the same file always.

    Args:
        model: as `load_model` gives it.
        out: a file, replaced where it exists, or a folder, where the file is named by `model_file_name`.

    Returns:
        The file written.

    Raises:
        ModelError: the model's files changed since it was loaded, or the file cannot be written.
    """
    if load_model(model.folder).model_id != model.model_id:
        raise ModelError("changed since it was loaded", path=model.folder, hint="try again")
    parts = model_parts(model.folder)
    files = {part.name: {"sha256": file_sha256(part), "bytes": part.stat().st_size} for part in parts}
    manifest = {"package_version": PACKAGE_VERSION, "name": model.name, "model_id": model.model_id, "files": files}
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    target = out / model_file_name(model) if out.is_dir() else out
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_entry(MANIFEST), text.encode())
            for part in parts:
                with part.open("rb") as source, archive.open(_entry(part.name), "w", force_zip64=True) as member:
                    shutil.copyfileobj(source, member, 1 << 20)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ModelError(f"cannot be written: {error.strerror}", path=target) from error
    return target


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _OLDEST)
    info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every system
    return info


@contextmanager
def unpacked_model(file: Path, scratch: Path | None = None) -> Iterator[Model]:
    """The model in a file that `write_model_file` wrote, checked in every respect, in a folder that lives as long as
    the context.

    Args:
        file: from anywhere.
        scratch: an existing folder that the temporary one is made in.

    Raises:
        ModelError: another kind of file, files that do not belong to a model, of another version, changed, or whose
            network or head cannot be used.
        ReadError: no zip, damaged, or one that claims more than is allowed.
    """
    manifest = _manifest(file)
    limits = ZipLimits(len(FILE_LIMITS) + 1, sum(FILE_LIMITS.values()), max_ratio=20.0, ratio_from_bytes=10_000_000)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=scratch) as folder:
        for path in extract_zip(file, Path(folder), limits):
            if path.name == MANIFEST:
                path.unlink()
        try:
            model = checked_model(Path(folder), expected_id=manifest["model_id"])
        except ModelError as error:
            raise _in_file(error, file) from error
        yield model


def checked_model(folder: Path, *, expected_id: str | None) -> Model:
    """A model that came from elsewhere, its network and head looked into.

    Raises:
        ModelError: not loadable, not the model it is said to be, or a network that is not whole.
    """
    model = load_model(folder)
    if expected_id is not None and model.model_id != expected_id:
        raise ModelError(
            f"this is model {model.model_id}, {expected_id} was announced: its files were changed or mixed up",
            path=folder, hint="fetch it again from where it was made",
        )  # fmt: skip
    for name in (BACKBONE_FILE, TRAINABLE_FILE):
        if (folder / name).is_file() or name not in OPTIONAL:
            check_network_file(folder / name)
    load_predictor(model)
    return model


def _in_file(error: ModelError, file: Path) -> ModelError:
    inside = Path(error.path).name if error.path else ""
    where = f"{inside}: " if inside in FILE_LIMITS else ""
    return ModelError(f"{where}{error.message}", path=file, hint=error.hint)


def _manifest(file: Path) -> dict[str, Any]:
    """The manifest, after a look at what else is in the zip: nothing is unpacked that does not belong to a model."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            _check_members(infos, file)
            with archive.open(MANIFEST) as member:
                text = member.read(MAX_JSON_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        hint = "expected a file that `plankter models export` wrote"
        raise ModelError(f"no model file: {error}", path=file, hint=hint) from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", path=file) from error
    try:
        facts = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{MANIFEST}: expected JSON: {error}", path=file) from error
    version = facts.get("package_version") if isinstance(facts, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"{MANIFEST}: package_version must be a whole number from 1, got {version!r}", path=file)
    if version > PACKAGE_VERSION:
        hint = "update plankter, or ask for an export of an earlier version"
        raise ModelError(f"package version {version} is newer than this plankter knows", path=file, hint=hint)
    files, model_id = facts.get("files"), facts.get("model_id")
    if not isinstance(files, dict) or sorted([*files, MANIFEST]) != sorted(names):
        raise ModelError(f"{MANIFEST} lists other files than the zip holds", path=file)
    if not isinstance(model_id, str):
        raise ModelError(f"{MANIFEST}: model_id must be a text, got {model_id!r}", path=file)
    return facts


def _check_members(infos: list[zipfile.ZipInfo], file: Path) -> None:
    if len(infos) > len(FILE_LIMITS) + 1:
        raise ModelError(f"holds {len(infos):,} files; a model has {len(FILE_LIMITS)} at most", path=file)
    for info in infos:
        allowed = FILE_LIMITS.get(info.filename, MAX_JSON_BYTES if info.filename == MANIFEST else -1)
        if allowed < 0:
            raise ModelError(f"holds {info.filename!r}, which is no file of a model", path=file)
        if info.file_size > allowed:
            raise ModelError(f"{info.filename} has {info.file_size:,} bytes, over the limit of {allowed:,}", path=file)
