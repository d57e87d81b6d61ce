"""What runs in an OSCAR service: files in, one JSON file out for each, with an exit status that can be believed.

OSCAR sets ``INPUT_FILE_PATH`` (a file that was put into the bucket, or the body of a request) and ``TMP_OUTPUT_DIR`` (whose
files go to the bucket of results, and back to whoever sent a request), and keeps what is written as the log. An input is

- an image, or a zip of images;
- a request in JSON: ``{"oscar-files": [{"key": "image", "file_format": "jpg", "data": BASE64}], "topk": 5}``, with as many
  files as one likes; ``{"help": ""}`` is answered with the arguments;
- a folder of these.

The model is loaded once for all. Exit status: 0 done; 1 an input gave nothing at all (its JSON says why, the others are
done); 2 wrong arguments. An image that cannot be used among others is a `failure` in the answer, not one of the start.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plankter._errors import NotFound, PlankterError, ReadError, SettingsError
from plankter.service.answers import in_order, many_as_object
from plankter.service.predicting import Batcher, Engines
from plankter.store.files import write_text
from plankter.taxa.classes import shipped_class_list

log = logging.getLogger(__name__)
MODEL_VARIABLE = "PLANKTER_CLASSIFY_MODEL"
MAX_INPUT_BYTES, MAX_BYTES, MAX_IMAGES = 1_000_000_000, 2_000_000_000, 10_000
SCRIPT = "script.sh"  # which OSCAR puts beside the input
ARGUMENTS = {
    "oscar-files": "list of {key, file_format, data}: images or zips of images in base64",
    "topk": "how many classes are given, 1 to 1000; 5 where not given",
    "scores": "true: the scores of all classes, too",
    "model": "name of a model; the service's own where not given",
    "help": "prints this",
}


@dataclass(frozen=True)
class Request:
    """What one input asks: names with their bytes or why they cannot be read, and how the answer shall be."""

    images: list[tuple[str, bytes | str]] = field(default_factory=list)
    topk: int = 5
    scores: bool = False
    model: str | None = None


def read_request(path: Path) -> Request | None:
    """One input, whatever kind it is; None where help is asked for.

    Raises:
        ReadError: nothing that could be an image, or over a limit. SettingsError: an argument that cannot be used.
    """
    try:
        size = path.stat().st_size
        if size > MAX_INPUT_BYTES:
            raise ReadError(f"{size:,} bytes, over the limit of {MAX_INPUT_BYTES:,}", path=path.name)
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror}", path=path.name) from error
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        found = Request()
        _add(found, path.name, data)
        return found
    try:
        asked = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ReadError(f"expected JSON: {error}", path=path.name) from error
    return None if "help" in asked else _asked(asked, path.name)


def _add(request: Request, name: str, data: bytes) -> None:
    """An image or a zip of images; which of them is told by its bytes."""
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        from plankter.service.api_predict import images_of_zip
        from plankter.service.problems import Problem

        try:
            request.images.extend(images_of_zip(data, MAX_IMAGES, MAX_BYTES))
        except Problem as problem:
            raise ReadError(problem.detail, path=name) from problem
    else:
        request.images.append((name, data))
    if len(request.images) > MAX_IMAGES:
        raise ReadError(f"more than {MAX_IMAGES:,} images in one request", path=name, hint="send them in parts")


def _asked(asked: dict[str, Any], name: str) -> Request:
    if unknown := sorted(set(asked) - set(ARGUMENTS)):
        raise SettingsError(f"no argument {unknown[0][:40]!r}; known: {', '.join(ARGUMENTS)}", path=name)
    topk = asked.get("topk", 5)
    if isinstance(topk, bool) or not re.fullmatch(r"[0-9]{1,4}", str(topk)) or not 1 <= int(topk) <= 1_000:
        raise SettingsError(f"topk: expected a whole number from 1 to 1000, got {str(topk)[:20]!r}", path=name)
    model, scores = asked.get("model"), asked.get("scores", False)
    if model is not None and (not isinstance(model, str) or any(sign in model for sign in "/\\\0") or model[:1] == "."):
        raise NotFound(f"no model {str(model)[:100]!r}", hint="expected a name or an id")
    found = Request(topk=int(topk), scores=scores in (True, "true", "True"), model=model or None)
    files = asked.get("oscar-files")
    if isinstance(files, dict):  # the earlier form: name to base64
        files = [{"key": key, "data": data} for key, data in files.items()]
    if not isinstance(files, list) or not files:
        raise SettingsError("oscar-files: expected a list with at least one file", path=name)
    for number, file in enumerate(files, start=1):
        if not isinstance(file, dict) or not isinstance(file.get("data"), str):
            raise SettingsError(f"oscar-files: file {number}: expected an object with data in base64", path=name)
        ending = str(file.get("file_format") or "").strip(".")
        label = str(file.get("key") or number) + (f".{ending}" if ending else "")
        if len(files) > 1:
            label = f"{number}-{label}"  # keys need not differ
        try:
            _add(found, label, base64.b64decode("".join(file["data"].split()), validate=True))
        except (binascii.Error, ValueError) as error:
            found.images.append((label, f"expected base64: {error}"))
    return found


def inputs_of(environment: Mapping[str, str], named: Sequence[str] = ()) -> list[Path]:
    """The files to work on: those named, else that of ``INPUT_FILE_PATH``, else all in ``TMP_INPUT_DIR``.

    Raises:
        SettingsError: none of these.
    """
    places = [
        Path(name) for name in named or [environment.get("INPUT_FILE_PATH") or environment.get("TMP_INPUT_DIR", "")]
    ]
    found: list[Path] = []
    for place in places:
        if place.is_dir() and place != Path():
            found += [path for path in sorted(place.rglob("*")) if path.is_file() and path.name != SCRIPT]
        elif place.is_file():
            found.append(place)
        else:
            raise SettingsError("no input", path=str(place), hint="OSCAR names it in INPUT_FILE_PATH")
    if not found:
        raise SettingsError("no input: the folder is empty", path=str(places[0]))
    return found


def answer_all(
    inputs: Sequence[Path], out: Path, batcher_of: Callable[[str | None], Batcher]
) -> tuple[list[dict[str, Any]], int]:
    """One JSON file in ``out`` for each input, named like it.

    Args:
        inputs: files, as for `read_request`.
        out: an existing folder.
        batcher_of: the loaded model of a name, that of the service for None.

    Returns:
        The answers in the order of the inputs, and how many inputs gave nothing at all.
    """
    taxa = {taxon.class_id: taxon for taxon in shipped_class_list()}
    answers: list[dict[str, Any]] = []
    refused, taken = 0, set[str]()
    for path in inputs:
        try:
            request = read_request(path)
            if request is None:
                found: dict[str, Any] = {"help": ARGUMENTS}
            else:
                batcher = batcher_of(request.model)
                waiting = [batcher.submit(data, patient=True) for _, data in request.images if isinstance(data, bytes)]
                predicted = in_order(request.images, [future.result() for future in waiting])
                found = many_as_object(batcher, predicted, taxa, request.topk, request.scores)
                refused += all(image["failure"] is not None for image in found["images"])
        except PlankterError as error:
            refused += 1
            found = {"error": error.as_dict()}
        for image in found.get("images", ()):
            if image["failure"] is not None:
                log.warning("%s: %s: %s", path.name, image["file"], image["failure"])
        name = path.stem if path.stem not in taken else path.name
        name = name if name not in taken else f"{name}-{len(answers)}"
        taken.add(name)
        write_text(out / f"{name}.json", json.dumps(found) + "\n")
        answers.append(found)
    return answers, refused


def main(named: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """One start of the service; the answer of a single input, or a line on many, goes to standard output.

    Args:
        named: inputs instead of those of the environment.
        environment: as OSCAR sets it.

    Returns:
        The exit status.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        inputs = inputs_of(environment, named)
        out = Path(environment.get("TMP_OUTPUT_DIR") or environment.get("STORAGE_OUTPUT_DIR") or ".")
        out.mkdir(parents=True, exist_ok=True)
        engines = Engines(None)
        try:
            default = environment.get(MODEL_VARIABLE) or "flowcam"
            answers, refused = answer_all(inputs, out, lambda name: engines.get(name or default))
        finally:
            engines.close()
    except (PlankterError, OSError) as error:
        facts = error.as_dict() if isinstance(error, PlankterError) else {"code": "system", "message": str(error)}
        sys.stdout.write(json.dumps({"error": facts}) + "\n")
        return 2
    summary = {"inputs": len(inputs), "refused": refused, "images": sum(len(a.get("images", ())) for a in answers)}
    sys.stdout.write(json.dumps(answers[0] if len(answers) == 1 else summary) + "\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
