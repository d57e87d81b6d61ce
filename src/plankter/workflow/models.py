"""What there is: models, classes, plugins."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from plankter._errors import Conflict, NotFound
from plankter._plugins import GROUPS
from plankter._plugins import plugins as plugins_of
from plankter.classify.models import built_in_models, load_model
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model
from plankter.workflow.mlflow_registry import fetched_model
from plankter.workflow.mlflow_registry import register_model as register
from plankter.workflow.model_files import unpacked_model, write_model_file
from plankter.workflow.workspace import Workspace, find_model, keep_model, model_facts


def list_models(workspace: Workspace | None) -> dict[str, Any]:
    """The object that ``plankter models --json`` prints: those that ship, then those the workspace used."""
    found = [dict(entry) for entry in _built_in()]
    known = {entry["model_id"] for entry in found}
    for model_id, facts in sorted(workspace.catalogue.models().items()) if workspace else ():
        if model_id not in known:
            found.append({"model_id": model_id, **facts})
    return {"models": found}


@cache
def _built_in() -> tuple[dict[str, Any], ...]:
    """Read once: their files are hashed for it, and the package does not change while it runs."""
    loaded = ((name, load_model(folder)) for name, folder in sorted(built_in_models().items()))
    return tuple(
        {"name": name, "model_id": model.model_id, **model_facts(model), "source": "built-in"} for name, model in loaded
    )


def show_model(name: str, workspace: Workspace | None) -> dict[str, Any]:
    """One model's facts and card.

    Raises:
        NotFound: no such model.
    """
    model = find_model(name, workspace)
    card = model.folder / "CARD.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else "this model has no card"
    facts = model_facts(model)
    return {"name": model.name, "model_id": model.model_id, **facts, "class_ids": list(model.class_ids), "card": text}


def export_model(name: str, workspace: Workspace | None, out: Path | None = None) -> dict[str, Any]:
    """One model as one file.

    Args:
        name: of the model, or its id, folder or address.
        workspace: where it is looked for beside the built-in ones.
        out: a file, or a folder where the file gets the model's name and id; None takes the current folder.

    Returns:
        The object that ``plankter models export --json`` prints.
    """
    model = find_model(name, workspace)
    path = write_model_file(model, out or Path())
    return {"name": model.name, "model_id": model.model_id, "path": str(path), "bytes": path.stat().st_size}


def import_model(file: Path, workspace: Workspace | None, out: Path | None = None) -> dict[str, Any]:
    """A model from a file that `export_model` wrote, into the workspace; a model that is there already stays as it is.

    Args:
        file: from anywhere, checked in every respect.
        workspace: where the model goes; None where ``out`` says so.
        out: a new folder for the model, instead of the workspace.

    Returns:
        The object that ``plankter models import --json`` prints.

    Raises:
        ModelError, ReadError: a file that is refused.
        NotFound: neither a workspace nor ``out``.
        Conflict: ``out`` holds something else.
    """
    if workspace is None and out is None:
        raise NotFound("no workspace to import into", hint="name one with -w, or a folder for the model with --out")
    with unpacked_model(file) as model:
        if out is not None:
            kept, fresh = _put(model, out)
        elif workspace is not None:
            fresh = model.model_id not in workspace.catalogue.models()
            kept = keep_model(workspace, model).folder
        status = "imported" if fresh else "unchanged"
        return {"name": model.name, "model_id": model.model_id, "path": str(kept), "status": status}


def _put(model: Model, folder: Path) -> tuple[Path, bool]:
    if folder.exists():
        if (folder / "model.json").is_file() and load_model(folder).model_id == model.model_id:
            return folder, False
        raise Conflict("there is something else already", path=folder, hint="choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.copytree(model.folder, partial)
    try:
        partial.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(partial, ignore_errors=True)
    return folder, True


def register_model(name: str, workspace: Workspace | None, registered: str | None = None) -> dict[str, Any]:
    """One model into the MLflow registry of the environment, as ``registered`` or by its own name.

    Returns:
        The object that ``plankter models register --json`` prints.
    """
    return register(find_model(name, workspace), name=registered)


def fetch_model(address: str, workspace: Workspace | None) -> Model:
    """A model of the MLflow registry, kept in the workspace or, without one, in the user's cache.

    Raises:
        ModelError: no model of plankter, or changed since it was registered. NotFound: no such version.
        PlankterError: the registry cannot be asked.
    """
    with fetched_model(address) as model:
        if workspace is not None:
            return keep_model(workspace, model)
        folder, _ = _put(model, model_cache() / model.model_id)
    return load_model(folder)


def model_cache() -> Path:
    """Where models of a registry are kept outside any workspace."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "plankter" / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plankter" / "models"


def list_taxa(workspace: Workspace | None) -> dict[str, Any]:
    """The workspace's class list, or the one that ships."""
    taxa = workspace.catalogue.taxa() if workspace else shipped_class_list()
    return {"taxa": [asdict(taxon) for taxon in taxa]}


def list_plugins() -> dict[str, Any]:
    """All plugins by group, with the problem of each that cannot be loaded."""
    found = [plugin for group in GROUPS for plugin in plugins_of(group)]
    return {"plugins": [{"group": p.group, "name": p.name, "value": p.value, "problem": p.problem} for p in found]}
