"""Class names from outside -> the workspace's class list."""

from __future__ import annotations

import re

from plankter.taxa.classes import match_class
from plankter.types import Taxon
from plankter.workflow.workspace import Workspace


def class_of(workspace: Workspace, name: str) -> str:
    """The class_id of a foreign class name; an unknown name joins the class list without an AphiaID.

    Imported labels are never lost for want of a matching class: a curator can merge the new class later.
    """
    taxa = workspace.catalogue.taxa()
    found = match_class(name, taxa)
    if found is not None:
        return found.class_id
    class_id = re.sub(r"\s+", "_", name.strip()) or "unnamed"
    workspace.catalogue.put_taxa([Taxon(class_id, name.strip() or "unnamed", kind="unknown")])
    return class_id
