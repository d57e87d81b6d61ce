"""A workspace: a folder with settings, a catalogue, an archive and the models that were used."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import Conflict, NotFound
from plankter._settings import FILE_NAME, Value, load_settings, settings_text
from plankter.classify.models import built_in_models, load_model
from plankter.store.archive import Archive
from plankter.store.base import Catalogue
from plankter.store.journal import Journal
from plankter.store.locate import open_catalogue
from plankter.store.mongodb_address import has_password, is_mongodb
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model
from plankter.workflow.workers import Workers


@dataclass(frozen=True)
class Workspace:
    """Everything a step works on; made by `open_workspace`. ``workers`` are processes that ingest starts when a run is
    worth it; they end with the workspace."""

    folder: Path
    settings: dict[str, Value]
    catalogue: Catalogue
    archive: Archive
    journal: Journal
    workers: Workers

    @property
    def models_folder(self) -> Path:
        """Models of this workspace, one folder each."""
        return self.folder / "models"

    @property
    def reports_folder(self) -> Path:
        """Reports of this workspace."""
        return self.folder / "reports"

    @property
    def threads(self) -> int:
        """Threads that a computation may take: the setting, or all processors."""
        return int(self.settings["compute.threads"]) or os.cpu_count() or 1


def init_workspace(folder: Path, *, catalogue: str = "sqlite:catalogue.sqlite") -> Path:
    """Makes a workspace in ``folder``; its class list starts with the 95 classes of the North Sea FlowCam set.

    Raises:
        Conflict: there is a workspace already.
        StoreError: the catalogue's server cannot be used; nothing is made then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / FILE_NAME
    secret = has_password(catalogue)
    if settings.exists():
        raise Conflict("there is a workspace already", path=settings, hint="use it with -w, or choose another folder")
    if is_mongodb(catalogue):  # no workspace is left behind where there is no such server
        open_catalogue(catalogue, base=folder).close()
    partial = settings.with_suffix(".partial")
    partial.touch(mode=0o600 if secret else 0o666)
    partial.write_text(settings_text(catalogue), encoding="utf-8")
    (folder / "archive").mkdir(exist_ok=True)
    partial.replace(settings)
    with open_workspace(folder) as workspace:
        workspace.catalogue.put_taxa(shipped_class_list())
    return folder


@contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """The workspace in ``folder``, closed at the end.

    Raises:
        SettingsError: no workspace, or settings that cannot be read.
        NewerWorkspace: written by a later version.
    """
    folder = folder.absolute()
    settings = load_settings(folder)
    archive_root = folder / str(settings["workspace.archive"])
    catalogue = open_catalogue(str(settings["workspace.catalogue"]), base=folder)
    try:
        if not catalogue.taxa():  # a kill between the two steps of init leaves the list empty
            catalogue.put_taxa(shipped_class_list())
        threads = int(settings["compute.threads"]) or os.cpu_count() or 1
        with contextlib.closing(Workers(threads - 1)) as workers:
            yield Workspace(folder, settings, catalogue, Archive(archive_root), Journal(archive_root), workers)
    finally:
        catalogue.close()


def find_model(name: str, workspace: Workspace | None = None) -> Model:
    """A model by built-in name, by name or id in the workspace, by the path of its folder, or by its address in the MLflow
    registry (``models:/name/version``, ``models:/name@alias``), which brings it here.

    Raises:
        NotFound: none of these; the message lists the names there are.
        ModelError: found but not loadable.
        PlankterError: the registry cannot be asked.
    """
    if name.startswith("models:/"):
        from plankter.workflow.models import fetch_model

        return fetch_model(name, workspace)
    built_in = built_in_models()
    if name in built_in:
        return load_model(built_in[name])
    kept = workspace.catalogue.models() if workspace else {}
    for model_id, facts in kept.items():
        if workspace and name in (model_id, facts["name"]):
            return load_model(workspace.models_folder / model_id)
    if (Path(name) / "model.json").is_file():
        return load_model(Path(name))
    names = ", ".join(sorted(built_in) + sorted(str(facts["name"]) for facts in kept.values()))
    raise NotFound(f"no model {name!r}; there are: {names}", hint="or name the folder of a model")


def keep_model(workspace: Workspace, model: Model) -> Model:
    """Copies a model into the workspace, so that an upgrade of the package cannot take it away."""
    to = workspace.models_folder / model.model_id
    if not to.exists():
        partial = workspace.models_folder / f".{model.model_id}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(model.folder, partial)
        try:
            partial.rename(to)
        except OSError:  # another process was first
            shutil.rmtree(partial, ignore_errors=True)
    workspace.catalogue.put_model(model.model_id, model.name, model_facts(model))
    return load_model(to)


def model_facts(model: Model) -> dict[str, object]:
    """What a listing shows of a model."""
    size = sum(path.stat().st_size for path in model.folder.rglob("*") if path.is_file())
    metrics = dict(model.card.get("metrics", {}))
    return {
        "classes": len(model.class_ids),
        "backbone": model.backbone,
        "input_px": model.input_px,
        "size_mb": round(size / 1e6, 2),
        "source": str(model.card.get("source", "workspace")),
        "top1": metrics.get("top1"),
        "macro_f1": metrics.get("macro_f1"),
    }


@contextmanager
def maybe_workspace(folder: Path) -> Iterator[Workspace | None]:
    """The workspace in ``folder``, or None where there is none: for steps that need no workspace."""
    if not (folder / FILE_NAME).exists():
        yield None
        return
    with open_workspace(folder) as workspace:
        yield workspace
