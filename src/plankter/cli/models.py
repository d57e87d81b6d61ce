"""Commands on models and their surroundings: predict, models, taxa, plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting

Images = Annotated[Path, typer.Option("--images", help="Folder of images.")]
ModelName = Annotated[str, typer.Option("--model", help="Name, id or folder of a model.")]
ClassMix = Annotated[
    str | None,
    typer.Option(
        "--class-mix",
        help="Class mix expected: training, balanced, estimated (from the images themselves), validated, or a CSV file (class, share); the last two with a power to find rare classes more often: shares.csv^0.7.",
    ),
]


ContextTable = Annotated[
    Path | None,
    typer.Option("--context", help="For a model trained with context: CSV with file and the same columns."),
]


@app.command()
def predict(
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="CSV or Parquet, by the ending.")],
    model: ModelName = "flowcam",
    class_mix: ClassMix = None,
    context: ContextTable = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Predict every image below a folder; no workspace needed."""
    from plankter.workflow.predict import predict as run
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened, progress_bars() as progress:
        found = run(
            images, out, model=model, workspace=opened, class_mix=class_mix, context=context, progress=progress
        )  # fmt: skip
        emit(found, as_json, _predict_text)


def _predict_text(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{found['predicted']} of {found['files']} images predicted, {found['failures']} failures, "
        f"{found['images_per_s']:.0f} images/s, written to {found['out']}"
    )


@app.command()
def models(
    action: Annotated[str, typer.Argument(help="list, show, export, import or register.")] = "list",
    name: Annotated[str | None, typer.Argument(help="The model: name, id, folder or models:/name/version.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="import: the file that export wrote.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="export: file or folder to write; import: a folder, not the workspace.")
    ] = None,
    registered: Annotated[str | None, typer.Option("--as", help="register: the name in the MLflow registry.")] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """List the models there are, show one's card, hand one on as one file, take one in, or register one in MLflow."""
    from plankter.workflow import models as work
    from plankter.workflow.workspace import maybe_workspace

    _check_models_arguments(action, name, file)
    with reporting(as_json), maybe_workspace(workspace) as opened:
        if action == "import" and file is not None:
            emit(work.import_model(file, opened, out), as_json, _imported_text)
        elif name is None:
            emit(work.list_models(opened), as_json, _models_text)
        elif action == "export":
            emit(work.export_model(name, opened, out), as_json, _exported_text)
        elif action == "register":
            emit(work.register_model(name, opened, registered), as_json, _registered_text)
        else:
            emit(work.show_model(name, opened), as_json, lambda d: iter([d["card"]]))


def _check_models_arguments(action: str, name: str | None, file: Path | None) -> None:
    needs_name = action in ("show", "export", "register")
    if action not in ("list", "show", "export", "import", "register") or needs_name != (name is not None):
        raise typer.BadParameter("expected 'list', 'show NAME', 'export NAME', 'import --file FILE' or 'register NAME'")
    if (action == "import") != (file is not None):
        raise typer.BadParameter("--file names the model to import; expected 'import --file FILE'")


def _imported_text(found: dict[str, Any]) -> Iterator[str]:
    done = "imported to" if found["status"] == "imported" else "is there already:"
    yield f"{found['name']} ({found['model_id']}) {done} {found['path']}"


def _exported_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']} ({found['model_id']}) written to {found['path']}, {found['bytes'] / 1e6:.2f} MB"


def _registered_text(found: dict[str, Any]) -> Iterator[str]:
    done = "registered as" if found["status"] == "registered" else "is registered already as"
    yield f"{found['name']} ({found['model_id']}) {done} {found['address']}"


def _models_text(found: dict[str, Any]) -> Iterator[str]:
    for model in found["models"]:
        top1 = "" if model["top1"] is None else f", top-1 {100 * model['top1']:.1f} %"
        yield f"{model['name']} ({model['model_id']}): {model['classes']} classes, {model['size_mb']} MB{top1}"


@app.command()
def taxa(workspace: WorkspaceDir = HERE, as_json: AsJson = False) -> None:
    """List the classes with their AphiaIDs."""
    from plankter.workflow.models import list_taxa
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened:
        emit(list_taxa(opened), as_json, _taxa_text)


def _taxa_text(found: dict[str, Any]) -> Iterator[str]:
    for taxon in found["taxa"]:
        yield f"{taxon['class_id']:<62}{taxon['aphia_id'] or '-':>9}  {taxon['kind']}"


@app.command()
def plugins(workspace: WorkspaceDir = HERE, as_json: AsJson = False) -> None:
    """List readers, backbones, exporters and catalogues, broken ones with the reason."""
    from plankter.workflow.models import list_plugins

    with reporting(as_json):
        emit(list_plugins(), as_json, _plugins_text)


def _plugins_text(found: dict[str, Any]) -> Iterator[str]:
    for plugin in found["plugins"]:
        yield f"{plugin['group']:<22}{plugin['name']:<14}{plugin['problem'] or plugin['value']}"
