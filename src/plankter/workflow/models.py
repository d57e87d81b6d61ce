"""What there is: models, classes, plugins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from plankter._plugins import GROUPS
from plankter._plugins import plugins as plugins_of
from plankter.classify.models import built_in_models, load_model
from plankter.taxa.classes import shipped_class_list
from plankter.workflow.workspace import Workspace, find_model, model_facts


def list_models(workspace: Workspace | None) -> dict[str, Any]:
    """The object that ``plankter models --json`` prints: those that ship, then those the workspace used."""
    found = []
    for name, folder in sorted(built_in_models().items()):
        model = load_model(folder)
        found.append({"name": name, "model_id": model.model_id, **model_facts(model), "source": "built-in"})
    known = {entry["model_id"] for entry in found}
    for model_id, facts in sorted(workspace.catalogue.models().items()) if workspace else ():
        if model_id not in known:
            found.append({"model_id": model_id, **facts})
    return {"models": found}


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


def list_taxa(workspace: Workspace | None) -> dict[str, Any]:
    """The workspace's class list, or the one that ships."""
    taxa = workspace.catalogue.taxa() if workspace else shipped_class_list()
    return {"taxa": [asdict(taxon) for taxon in taxa]}


def list_plugins() -> dict[str, Any]:
    """All plugins by group, with the problem of each that cannot be loaded."""
    found = [plugin for group in GROUPS for plugin in plugins_of(group)]
    return {"plugins": [{"group": p.group, "name": p.name, "value": p.value, "problem": p.problem} for p in found]}
