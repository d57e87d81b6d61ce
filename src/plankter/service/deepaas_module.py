"""plankter as a module of a DEEPaaS V2 server: what ``deepaas-run`` and ``deepaas-cli`` find by the entry point
``deepaas.v2.model``. Needs the extra ``plankter[deepaas]``, which is imported only where a server asks.

That server calls each function in a process of its own (spawned, one call at a time), deletes no file that it was sent,
loses the message of what goes wrong, and reads choices once at its start. So files are deleted here, what is wrong is
raised as an answer of HTTP that survives the way between processes, and a model's name is looked up at each call.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plankter._errors import ImageError, NotFound, PlankterError, SettingsError
from plankter._settings import FILE_NAME
from plankter.service.answers import as_deepaas
from plankter.service.predicting import Batcher, Engines
from plankter.taxa.classes import shipped_class_list
from plankter.types import Taxon
from plankter.vignettes.codec import DEFAULT_LIMITS
from plankter.workflow.progress import silent
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace

log = logging.getLogger(__name__)
WORKSPACE_VARIABLE, MODEL_VARIABLE = "PLANKTER_WORKSPACE", "PLANKTER_CLASSIFY_MODEL"
MOST_CLASSES = 1_000
TRAIN_CHOICES = {"mode": ("head", "classical", "finetune"), "balance": ("auto", "none", "resample", "loss")}
NEEDS = {"finetune": "torch", "classical": "sklearn"}
KEPT_OF_A_TRAINING = ("model_id", "name", "mode", "classes", "images", "seconds", "evaluation", "warnings")


def __getattr__(name: str) -> Any:
    if name == "schema":  # asked for by the server; its library is not imported before
        return _schema()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def workspace_folder() -> Path:
    """The workspace that trainings go to and models are looked up in: that of ``PLANKTER_WORKSPACE``, else the current
    folder where it is one, else ``plankter-deepaas`` in it, which the first training makes."""
    named = os.environ.get(WORKSPACE_VARIABLE, "").strip()
    if named:
        return Path(named)
    return Path() if Path(FILE_NAME).is_file() else Path("plankter-deepaas")


@functools.cache
def _opened(folder: Path | None) -> tuple[Workspace | None, Engines]:
    """Workspace and loaded models of this process; they live as long as it does."""
    stack = ExitStack()
    atexit.register(stack.close)
    workspace = stack.enter_context(open_workspace(folder)) if folder else None
    engines = Engines(workspace)
    stack.callback(engines.close)
    return workspace, engines


def _here() -> tuple[Workspace | None, Engines]:
    folder = workspace_folder().absolute()
    return _opened(folder if (folder / FILE_NAME).is_file() else None)


def _batcher(name: str) -> tuple[Batcher, dict[str, Taxon]]:
    workspace, engines = _here()
    default = workspace.settings["classify.model"] if workspace else os.environ.get(MODEL_VARIABLE) or "flowcam"
    if name and (any(sign in name for sign in "/\\\0") or name.startswith(".")):
        raise NotFound(
            f"no model {name[:100]!r}", hint="expected a name or an id"
        )  # no folder, no address from outside
    taxa = workspace.catalogue.taxa() if workspace else shipped_class_list()
    return engines.get(name or str(default)), {taxon.class_id: taxon for taxon in taxa}


def refusal(status: int, message: str) -> Exception:
    """An exception that the server answers with, as JSON; unlike aiohttp's own it can be sent between processes."""
    from aiohttp import web

    class Refusal(web.HTTPException):
        status_code = status

        def __reduce__(self) -> Any:
            return refusal, (status, message)

        def __str__(self) -> str:
            return message

    body = json.dumps({"status": "error", "message": message}, ensure_ascii=False)
    return Refusal(text=body, content_type="application/json")


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except PlankterError as error:
        raise refusal(404 if isinstance(error, NotFound) else 422, str(error)) from error
    except Exception as error:
        log.exception("a prediction failed")
        raise refusal(500, f"{type(error).__name__}: {error}") from error


def get_metadata() -> dict[str, Any]:
    """What the server says of the module: the package's own facts and the models there are."""
    from plankter.workflow.models import list_models

    about = metadata("plankter")
    found = list_models(_here()[0])["models"]
    return {
        "name": "plankter", "summary": about["Summary"], "version": about["Version"], "license": "Apache-2.0",
        "author": about["Author"] or "The plankter developers",
        "description": "Classifies plankton images, gives their AphiaIDs, and trains on your own classes.",
        "models": [{key: model[key] for key in ("name", "model_id", "classes", "top1")} for model in found],
    }  # fmt: skip


def warm() -> None:
    """Loads the model that is used where none is named."""
    _batcher("")


def get_predict_args() -> dict[str, Any]:
    """Fields of a prediction."""
    from webargs import fields, validate

    return {
        # `Field` itself: the command line of DEEPaaS takes no other type for a file
        "image": fields.Field(
            required=True,
            metadata={
                "type": "file", "location": "form", "description": "an image of one particle (JPEG, PNG, TIFF or BMP)",
            },
        ),
        "topk": fields.Int(
            load_default=5, validate=validate.Range(1, MOST_CLASSES), metadata={"description": "how many classes are given"}
        ),
        "model": fields.Str(
            load_default="", metadata={"description": "name or id of a model; the default model where empty"}
        ),
    }  # fmt: skip


def predict(*, image: Any, topk: int = 5, model: str = "", **_: Any) -> dict[str, Any]:
    """One image's best classes.

    Args:
        image: DEEPaaS's ``UploadedFile``; the file is deleted, as the server leaves that to the module.
        topk: classes given, 1 to 1000.
        model: name or id; empty for the default model.

    Returns:
        ``labels`` and ``probabilities``, best first, with ``aphia_ids``, ``decision``, ``reason``, ``model``, ``model_id``.

    Raises:
        HTTPException: 422 for an image or a value that cannot be used, 404 for a model that is not there.
    """
    with _answered():
        data = _taken(Path(image.filename))
        if not isinstance(topk, int) or not 1 <= topk <= MOST_CLASSES:  # the command line checks nothing
            raise SettingsError(f"topk: expected a whole number from 1 to {MOST_CLASSES}, got {topk!r}")
        batcher, taxa = _batcher(model or "")
        found = batcher.submit(data).result()
        if found.failure is not None:
            raise ImageError(found.failure)
        return as_deepaas(found, batcher, taxa, topk)


def _taken(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > DEFAULT_LIMITS.max_bytes:
            raise ImageError(f"the image has {size:,} bytes, over the limit of {DEFAULT_LIMITS.max_bytes:,}")
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _schema() -> dict[str, Any]:
    """The answer's fields; the platform's page draws ``labels`` and ``probabilities`` of a dictionary of this kind."""
    from webargs import fields

    return {
        "status": fields.Str(required=True),
        "labels": fields.List(fields.Str(), required=True),
        "probabilities": fields.List(fields.Float(), required=True),
        "aphia_ids": fields.List(fields.Int(allow_none=True)),
        "decision": fields.Str(allow_none=True),
        "reason": fields.Str(allow_none=True),
        "model": fields.Str(),
        "model_id": fields.Str(),
    }


def get_train_args() -> dict[str, Any]:
    """Fields of a training. Images are named, not sent: the server cannot hand a file over to a training."""
    from webargs import fields, validate

    installed = [mode for mode in TRAIN_CHOICES["mode"] if mode not in NEEDS or find_spec(NEEDS[mode])]
    return {
        "images": fields.Str(
            required=True,
            metadata={
                "description": "folder or zip on the storage with one folder of images a class, or remote:path of rclone"
            },
        ),
        "mode": fields.Str(load_default="head", validate=validate.OneOf(installed)),
        "balance": fields.Str(load_default="auto", validate=validate.OneOf(TRAIN_CHOICES["balance"])),
        "name": fields.Str(load_default="", metadata={"description": "of the new model; made up where empty"}),
        "model": fields.Str(
            load_default="", metadata={"description": "whose network is used; the default where empty"}
        ),
        "epochs": fields.Int(
            load_default=20, validate=validate.Range(1, 1_000), metadata={"description": "for mode finetune"}
        ),
    }


def train(
    *,
    images: str,
    mode: str = "head",
    balance: str = "auto",
    name: str = "",
    model: str = "",
    epochs: int = 20,
    **_: Any,
) -> dict[str, Any]:
    """Trains a model and keeps it in the workspace, where the next prediction finds it by its name. One that was killed
    goes on when it is asked for again with the same values.

    Args:
        images: folder or zip below ``PLANKTER_DATA`` or ``/storage``, or ``remote:path``.
        mode, balance, epochs: as for ``plankter train``.
        name: of the new model; empty makes one up.
        model: whose network is used; empty for the default model.

    Returns:
        ``model_id``, ``name``, ``mode``, ``classes``, ``images``, ``seconds``, ``evaluation``, ``warnings``.

    Raises:
        PlankterError: nothing to train on, or values that cannot be used; the server shows the message.
    """
    from plankter.service.platform_files import training_images
    from plankter.workflow.train import train as run
    from plankter.workflow.training_config import TrainConfig

    folder = workspace_folder()
    if not (folder / FILE_NAME).is_file():
        init_workspace(folder)
    with open_workspace(folder) as workspace:
        base = model or str(workspace.settings["classify.model"])
        config = TrainConfig(mode=mode, balance=balance, name=name or None, model=base, epochs=int(epochs))
        cache = workspace.folder / "cache" / "training"
        cache.mkdir(parents=True, exist_ok=True)
        with training_images(images, workspace, silent) as root:
            found = run(config, folder=root, workspace=workspace, cache=cache)
    return {key: found[key] for key in KEPT_OF_A_TRAINING if key in found}
