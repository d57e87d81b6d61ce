"""Models in an MLflow registry and trainings as MLflow runs; everything here needs the extra ``plankter[mlflow]``.

A registered model is its folder of plain files under the run's artifacts (``model/``), not one of MLflow's flavours:
those are Python pickles. Server and account come from the environment, by MLflow's own names: MLFLOW_TRACKING_URI,
MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), MLFLOW_EXPERIMENT_NAME, and MLFLOW_RUN for
the run's name.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from plankter._errors import ModelError, NotFound, PlankterError
from plankter.types import Model
from plankter.workflow.model_files import FILE_LIMITS, OPTIONAL, checked_model, model_parts

log = logging.getLogger(__name__)
SCHEME = "models:/"
EXPERIMENT = "plankter"
ARTIFACTS = "model"
ID_TAG = "plankter.model_id"
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
PARAM_CHARACTERS = 500
# of a training's run folder; the checkpoint stays where it is: large, and a pickle
RUN_FILES = ("config.json", "splits.csv", "curves.csv", "environment.json", "evaluation.json", "log.txt")
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Server:
    """An MLflow server and a client for it; made by `connect`."""

    client: Any
    uri: str  # without an account


def tracking_uri() -> str | None:
    """The server that the environment names, None where it names none."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or None


def without_account(text: str) -> str:
    """A text, with what could be an account or a password of the server taken out."""
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r"://[^/@\s]*@", "://", text)


@contextmanager
def connect() -> Iterator[Server]:
    """The server of the environment. What MLflow raises inside comes out as `PlankterError`, accounts taken out.

    Raises:
        PlankterError: no server named, MLflow not installed, or the server refuses or cannot be reached.
    """
    uri = tracking_uri()
    if uri is None:
        raise PlankterError("no MLflow server is named", hint="set MLFLOW_TRACKING_URI")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report each use to its makers
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is the command's own
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 by default: minutes where a server is down
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise PlankterError("MLflow is not installed", hint="pip install 'plankter[mlflow]'") from error
    try:
        yield Server(MlflowClient(tracking_uri=uri, registry_uri=uri), without_account(uri))
    except MlflowException as error:
        text = without_account(str(error))
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"MLflow at {without_account(uri)}: {text}") from None
        raise PlankterError(f"MLflow at {without_account(uri)}: {text}", hint="is the server up, the account right?") \
            from None  # fmt: skip


def is_address(name: str) -> bool:
    """Whether a model's name is one of a registry: ``models:/name/version`` or ``models:/name@alias``."""
    return name.startswith(SCHEME)


def register_model(model: Model, *, name: str | None = None) -> dict[str, Any]:
    """Puts a model into the registry, with its card's figures; a model that is there already is left as it is.

    Args:
        model: as `load_model` gives it.
        name: in the registry; None takes the model's own.

    Returns:
        The object that ``plankter models register --json`` prints.

    Raises:
        PlankterError: no server, or it refuses.
        ModelError: the name cannot stand in an address.
    """
    registered = name or model.name
    if not _ADDRESS.fullmatch(f"{SCHEME}{registered}/1"):
        hint = "name it with --as"
        raise ModelError(f"a model named {registered!r} has no address: '/' and '@' are not allowed", hint=hint)
    with connect() as server:
        version, status = _version_with_id(server.client, registered, model.model_id), "unchanged"
        if version is None:
            run_id = _new_run(server.client, f"register {registered}")
            _log(server.client, run_id, _facts_of(model), _numbers(model.card.get("metrics", {})))
            _log_model(server.client, run_id, model)
            server.client.set_terminated(run_id)
            version, status = _new_version(server.client, registered, run_id, model), "registered"
        return {
            "name": registered, "version": str(version), "model_id": model.model_id, "status": status,
            "address": f"{SCHEME}{registered}/{version}", "server": server.uri,
        }  # fmt: skip


def _version_with_id(client: Any, name: str, model_id: str) -> str | None:
    quoted = name.replace("'", "''")
    for version in client.search_model_versions(f"name='{quoted}'"):
        if version.tags.get(ID_TAG) == model_id and version.status == "READY":
            return str(version.version)
    return None


def _new_version(client: Any, name: str, run_id: str, model: Model) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {ID_TAG: model.model_id}
    made = client.create_model_version(
        name, source=f"runs:/{run_id}/{ARTIFACTS}", run_id=run_id, tags=tags, await_creation_for=0
    )
    return str(made.version)


def _new_run(client: Any, name: str) -> str:
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or EXPERIMENT
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else client.create_experiment(experiment)
    run_name = os.environ.get("MLFLOW_RUN", "").strip() or name
    return str(client.create_run(experiment_id, run_name=run_name).info.run_id)


def _facts_of(model: Model) -> dict[str, str]:
    facts = {"model_id": model.model_id, "backbone": model.backbone, "input_px": model.input_px}
    facts |= {"classes": len(model.class_ids), "preprocessing": model.preprocessing}
    texts = {key: value for key, value in model.card.items() if isinstance(value, str | int | float)}
    return {key: str(value) for key, value in (texts | facts).items()}


def _numbers(values: object, prefix: str = "", depth: int = 0) -> dict[str, float]:
    """All finite numbers in nested objects, by their path; lists and texts are left to the artifacts."""
    if isinstance(values, int | float) and not isinstance(values, bool):
        return {prefix: float(values)} if prefix and abs(values) < float("inf") else {}
    if not isinstance(values, Mapping) or depth > 3:
        return {}
    found: dict[str, float] = {}
    for key, value in values.items():
        name = re.sub(r"[^\w\-. /]", "_", str(key))
        found |= _numbers(value, f"{prefix}/{name}" if prefix else name, depth + 1)
    return found


def _log(client: Any, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float], step: int = 0) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    shown = [Param(re.sub(r"[^\w\-. /]", "_", key), value[:PARAM_CHARACTERS]) for key, value in params.items()]
    numbers = [Metric(key, value, now, step) for key, value in metrics.items()]
    for start in range(0, len(shown), 100):  # as many as the server takes at once
        client.log_batch(run_id, params=shown[start : start + 100])
    for start in range(0, len(numbers), 900):
        client.log_batch(run_id, metrics=numbers[start : start + 900])


def _log_model(client: Any, run_id: str, model: Model) -> None:
    for part in model_parts(model.folder):
        client.log_artifact(run_id, str(part), ARTIFACTS)


@contextmanager
def fetched_model(address: str, scratch: Path | None = None) -> Iterator[Model]:
    """A model of the registry, downloaded and checked, in a folder that lives as long as the context.

    Args:
        address: ``models:/name/version`` or ``models:/name@alias``.
        scratch: an existing folder that the temporary one is made in.

    Raises:
        ModelError: an address of another form, or a version that is no model of plankter, or one that was changed.
        NotFound: no such name, version or alias.
        PlankterError: no server, or it refuses.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise ModelError(f"expected models:/name/version or models:/name@alias, got {address!r}")
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=scratch) as folder:
        with connect() as server:
            version = _find_version(server.client, parts)
            _download(server.client, version, Path(folder), address)
        try:
            model = checked_model(Path(folder), expected_id=version.tags.get(ID_TAG))
        except ModelError as error:
            raise ModelError(f"{address}: {error.message}", path=error.path and Path(error.path).name) from error
        yield model


def _find_version(client: Any, parts: re.Match[str]) -> Any:
    if parts["version"]:
        return client.get_model_version(parts["name"], parts["version"])
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(parts["name"], parts["alias"])
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":  # what the server says to an alias that it does not know
            raise NotFound(f"the registry has no {parts[0]!r}") from None
        raise


def _download(client: Any, version: Any, folder: Path, address: str) -> None:
    """The model's files, one by one and none other; their sizes are judged before they are fetched."""
    prefix = f"runs:/{version.run_id}/"
    place = str(version.source).removeprefix(prefix)
    if not version.run_id or place == version.source or ".." in PurePosixPath(place).parts:
        hint = "register it with `plankter models register`"
        raise ModelError(f"{address} was not registered by plankter", hint=hint)
    sizes = {PurePosixPath(f.path).name: int(f.file_size or 0) for f in client.list_artifacts(version.run_id, place)}
    for name, limit in FILE_LIMITS.items():
        if name not in sizes:
            if name not in OPTIONAL:
                raise ModelError(f"{address}: {name} is missing, no model of plankter")
            continue
        if sizes[name] > limit:
            raise ModelError(f"{address}: {name} has {sizes[name]:,} bytes, over the limit of {limit:,}")
        got = Path(client.download_artifacts(version.run_id, f"{place}/{name}", str(folder)))
        if got != folder / name:
            got.replace(folder / name)
    for left in folder.iterdir():
        if left.is_dir():
            left.rmdir()


def log_training(folder: Path, *, name: str | None = None) -> str | None:
    """Logs a training's run folder to the server of the environment: parameters, curves, figures, files and model.

    A server that is down or refuses costs a warning, never a training.

    Args:
        folder: as ``plankter train`` writes it: config.json, splits.csv, curves.csv, environment.json, evaluation.json,
            log.txt and model/; what is missing is left out.
        name: of the run where MLFLOW_RUN names none; None takes the folder's name.

    Returns:
        MLflow's id of the run, None where the environment names no server or logging failed.
    """
    if tracking_uri() is None:
        return None
    try:
        with connect() as server:
            run_id = _new_run(server.client, name or folder.name)
            _log_run_folder(server.client, run_id, folder)
            server.client.set_terminated(run_id)
            return run_id
    except (PlankterError, OSError, ValueError) as error:
        log.warning(
            "the training was not logged to MLflow, its folder holds everything: %s", without_account(str(error))
        )
        return None


def _log_run_folder(client: Any, run_id: str, folder: Path) -> None:
    _log(client, run_id, dict(_texts(_json_object(folder / "config.json"))), {})
    for step, row in _curves(folder / "curves.csv"):
        _log(client, run_id, {}, row, step)
    _log(client, run_id, {}, _numbers(_json_object(folder / "evaluation.json")))
    for file in RUN_FILES:
        if (folder / file).is_file():
            client.log_artifact(run_id, str(folder / file))
    if (folder / ARTIFACTS).is_dir():
        for part in sorted((folder / ARTIFACTS).iterdir()):
            if part.name in FILE_LIMITS:
                client.log_artifact(run_id, str(part), ARTIFACTS)


def _json_object(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _texts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", str(value)


def _curves(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            numbers: dict[str, float] = {}
            for key, text in row.items():
                try:
                    numbers |= _numbers({f"curve {key}": float(text)})
                except (TypeError, ValueError):
                    continue  # a column of words
            yield int(numbers.pop("curve epoch", number)), numbers
