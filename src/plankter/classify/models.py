"""Models as folders of plain files: model.json, backbone.onnx, head.npz and CARD.md; no pickle anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plankter._errors import ModelError
from plankter.classify.calibrate import Calibration
from plankter.classify.decide import Thresholds
from plankter.types import Model
from plankter.vignettes.letterbox import LETTERBOX_VERSION

FORMAT_VERSION = 2  # 1: linear heads with a temperature only; read as before
MODEL_JSON, BACKBONE_FILE, HEAD_FILE, CARD_FILE = "model.json", "backbone.onnx", "head.npz", "CARD.md"
REFERENCE_FILE = "reference.npz"
STATISTICS_FILE = "statistics.npz"  # of a discriminant: what a class is added to later
TRAINABLE_FILE = "trainable.onnx"  # of a network in 8 bits: the one it was made from, from which a training can start
HEAD_KINDS = ("linear", "trees")
BACKBONE_KINDS = ("openvino", "onnx")
MAX_JSON_BYTES = 4_000_000
MAX_CLASSES = 32_767  # positions are kept as int16


def built_in_models() -> dict[str, Path]:
    """Name -> folder of the models that ship with the package."""
    root = Path(__file__).parent / "builtin"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{MODEL_JSON}"))}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits.

    Raises:
        ModelError: missing or unreadable.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", path=path, hint="copy the model's folder again"
        ) from error


def model_id_of(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over the sorted (name, SHA-256) of a model's files.

    Only the files a model consists of count: what an operating system leaves in a folder does not change the model.

    Raises:
        ModelError: a file is missing (the card, the reference, the statistics and the network for training may be).
    """
    may_be = (CARD_FILE, REFERENCE_FILE, STATISTICS_FILE, TRAINABLE_FILE)
    optional = [name for name in may_be if (folder / name).is_file()]
    names = [MODEL_JSON, BACKBONE_FILE, HEAD_FILE, *optional]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()[:16]


def read_model_json(folder: Path) -> dict[str, Any]:
    """The object in ``model.json``, its format version checked.

    Raises:
        ModelError: no model here, not JSON, or written by a later version of plankter.
    """
    path = folder / MODEL_JSON
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"larger than {MAX_JSON_BYTES:,} bytes: no model.json of plankter", path=path)
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError("no model here: model.json is missing", path=folder) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"expected JSON: {error}", path=path) from error
    if not isinstance(facts, dict):
        raise ModelError("expected a JSON object", path=path)
    version = facts.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"format_version must be a whole number from 1, got {version!r}", path=path)
    if version > FORMAT_VERSION:
        hint = "update plankter, or use a model of an earlier version"
        raise ModelError(f"format {version} is newer than this plankter knows ({FORMAT_VERSION})", path=path, hint=hint)
    return facts


def _field(facts: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    value = facts.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(f"{name!r} must be {kind.__name__}, got {type(value).__name__}", path=path)
    return value


def _class_ids(facts: dict[str, Any], path: Path) -> tuple[str, ...]:
    class_ids = _field(facts, "class_ids", list, path)
    if not all(isinstance(c, str) and c for c in class_ids) or not 0 < len(class_ids) <= MAX_CLASSES:
        raise ModelError(f"'class_ids' must be 1 to {MAX_CLASSES:,} texts", path=path)
    if len(set(class_ids)) != len(class_ids):
        raise ModelError("'class_ids' names a class twice", path=path)
    return tuple(class_ids)


def load_model(folder: Path) -> Model:
    """The model in ``folder``, its files checked against the hashes noted when it was made.

    Raises:
        ModelError: no model, damaged or changed files, a newer format, or a preprocessing that is not known here.
    """
    facts = read_model_json(folder)
    path = folder / MODEL_JSON
    backbone = _field(facts, "backbone", dict, path)
    head = _field(facts, "head", dict, path)
    parts = [(backbone, BACKBONE_FILE), (head, HEAD_FILE)]
    for name, file in (("reference", REFERENCE_FILE), ("statistics", STATISTICS_FILE), ("trainable", TRAINABLE_FILE)):
        if name in facts or (folder / file).exists():
            parts.append((_field(facts, name, dict, path), file))
    for part, expected in parts:
        if part.get("file") != expected:
            raise ModelError(f"expected the file {expected!r}, got {part.get('file')!r}", path=path)
        noted, found = part.get("sha256"), file_sha256(folder / expected)
        if noted != found:
            hint = "copy or import the model again"
            raise ModelError(
                f"changed since the model was made (SHA-256 {found[:16]}...)", path=folder / expected, hint=hint
            )
    kind = _field(backbone, "kind", str, path)
    if kind not in BACKBONE_KINDS:
        raise ModelError(f"backbone kind {kind!r} is not known; expected one of {BACKBONE_KINDS}", path=path)
    if head.get("kind", "linear") not in HEAD_KINDS:
        raise ModelError(f"head kind {head.get('kind')!r} is not known; expected one of {HEAD_KINDS}", path=path)
    preprocessing = _field(facts, "preprocessing", str, path)
    if preprocessing != LETTERBOX_VERSION:
        raise ModelError(
            f"fitted on preprocessing {preprocessing!r}, this plankter makes {LETTERBOX_VERSION!r}",
            path=path, hint="use the version of plankter that the model was made with",
        )  # fmt: skip
    dim, input_px = _field(backbone, "dim", int, path), _field(backbone, "input_px", int, path)
    if not (0 < dim <= 65_536 and 8 <= input_px <= 4096):
        raise ModelError(f"dim {dim} or input_px {input_px} is out of range", path=path)
    return Model(
        model_id=model_id_of(folder),
        name=_field(facts, "name", str, path),
        folder=folder,
        backbone=str(backbone.get("name", kind)),
        backbone_hash=str(backbone["sha256"]),
        preprocessing=preprocessing,
        input_px=input_px,
        class_ids=_class_ids(facts, path),
        card=dict(_field(facts, "card", dict, path)) if "card" in facts else {},
    )


def write_model_json(
    folder: Path,
    *,
    name: str,
    backbone_name: str,
    dim: int,
    input_px: int,
    class_ids: tuple[str, ...],
    class_counts: tuple[int, ...],
    temperature: float,
    card: Mapping[str, Any],
    kind: str = "openvino",
    head_kind: str = "linear",
    inputs: Mapping[str, Sequence[str]] | None = None,
    calibration: Calibration | None = None,
    thresholds: Thresholds | None = None,
    threshold_target: str | None = None,
    discriminant: Mapping[str, Any] | None = None,
) -> None:
    """Seals a model's folder that already holds ``backbone.onnx``, ``head.npz`` and, if any, ``reference.npz``,
    ``statistics.npz`` and ``trainable.onnx``; written last.

    Args:
        class_counts: training images of each class, in the order of ``class_ids``.
        temperature: scores are softmax(logits / temperature); a ``calibration`` takes its place.
        head_kind: one of `HEAD_KINDS`.
        inputs: what the head takes beside the embedding: names of "measures" and of "context" columns.
        thresholds: from where on something is said.
        threshold_target: what they were fitted for, in words.
        discriminant: how the head came from ``statistics.npz``, see `plankter.classify.add_class.Recipe`.
        card: facts for people: data, metrics, licence, ...

    Raises:
        ModelError: a file is missing.
        ValueError: counts that do not fit the classes, or a temperature not above 0.
    """
    if len(class_counts) != len(class_ids) or not temperature > 0:
        raise ValueError(f"{len(class_counts)} counts for {len(class_ids)} classes, temperature {temperature}")
    facts = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "backbone": {
            "name": backbone_name, "file": BACKBONE_FILE, "sha256": file_sha256(folder / BACKBONE_FILE), "kind": kind,
            "dim": dim, "input_px": input_px,
        },
        "head": {"file": HEAD_FILE, "sha256": file_sha256(folder / HEAD_FILE), "kind": head_kind},
        "preprocessing": LETTERBOX_VERSION,
        "temperature": calibration.temperature if calibration else temperature,
        **_optional_parts(folder, inputs, calibration, thresholds, threshold_target, discriminant),
        "class_ids": list(class_ids),
        "training_class_counts": dict(zip(class_ids, class_counts, strict=True)),
        "card": dict(card),
    }  # fmt: skip
    partial = folder / f"{MODEL_JSON}.partial"
    partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / MODEL_JSON)


def _optional_parts(
    folder: Path,
    inputs: Mapping[str, Sequence[str]] | None,
    calibration: Calibration | None,
    thresholds: Thresholds | None,
    target: str | None,
    discriminant: Mapping[str, Any] | None,
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if inputs:
        parts["inputs"] = {name: list(columns) for name, columns in inputs.items()}
    if calibration is not None:
        parts["calibration"] = asdict(calibration)
    if thresholds is not None:
        parts["thresholds"] = {**asdict(thresholds), "target": target}
    if (folder / REFERENCE_FILE).is_file():
        parts["reference"] = {"file": REFERENCE_FILE, "sha256": file_sha256(folder / REFERENCE_FILE)}
    if (folder / STATISTICS_FILE).is_file():
        noted = {"file": STATISTICS_FILE, "sha256": file_sha256(folder / STATISTICS_FILE)}
        parts["statistics"] = {**(discriminant or {}), **noted}
    if (folder / TRAINABLE_FILE).is_file():
        parts["trainable"] = {"file": TRAINABLE_FILE, "sha256": file_sha256(folder / TRAINABLE_FILE)}
    return parts


def thresholds_of(facts: Mapping[str, Any], path: Path) -> Thresholds:
    """The thresholds in ``model.json``; a model without any says the class of the highest score, always.

    Raises:
        ModelError: not of the form that `write_model_json` writes.
    """
    kept = facts.get("thresholds")
    if kept is None:
        return Thresholds()
    try:
        by_class = {str(c): float(t) for c, t in kept["by_class"].items()}
        distance = None if kept["distance"] is None else float(kept["distance"])
        return Thresholds(by_class, float(kept["group"]), distance)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ModelError(f"'thresholds' cannot be read: {error!r}", path=path) from error
