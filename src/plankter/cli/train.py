"""The command that makes models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter._errors import SettingsError
from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting


def _option(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", help=text)


@app.command()
def train(
    images: Annotated[
        Path | None, _option("images", "Folder with one folder a class; without it, the workspace's validated labels.")
    ] = None,
    mode: Annotated[str, _option("mode", "head, finetune or classical.")] = "head",
    finetune: Annotated[bool, _option("finetune", "The same as --mode finetune.")] = False,
    head: Annotated[str, _option("head", "Of mode head: lda or logistic.")] = "lda",
    classifier: Annotated[str, _option("classifier", "Of mode classical: forest or boosting.")] = "forest",
    features: Annotated[str, _option("features", "Of mode classical: embeddings, measures or both.")] = "both",
    model: Annotated[str, _option("model", "The model whose network is used.")] = "flowcam",
    balance: Annotated[str, _option("balance", "auto, none, resample or loss.")] = "auto",
    groups: Annotated[
        Path | None,
        _option("groups", "CSV with file and sample, date, run or group; perhaps split (train, tune, judge)."),
    ] = None,
    context: Annotated[
        Path | None,
        _option("context", "CSV with file and columns of numbers or a date; of a workspace: columns of its samples."),
    ] = None,
    force_context: Annotated[
        bool, _option("force-context", "Use context even where it hurts on groups never seen.")
    ] = False,
    imported: Annotated[bool, _option("imported", "From a workspace: take imported labels too.")] = False,
    network: Annotated[str, _option("network", "Of mode finetune: which network.")] = "efficientnet_lite0",
    epochs: Annotated[int, _option("epochs", "Of mode finetune: how often every image is seen.")] = 20,
    px: Annotated[int, _option("px", "Of mode finetune: side of the square that the network sees.")] = 64,
    start: Annotated[
        Path | None,
        _option(
            "start",
            "Of mode finetune: weights to start from (npz, pth, pt, onnx), or scratch; else --model's or installed ones.",
        ),
    ] = None,
    augmentation: Annotated[
        str,
        _option(
            "augmentation", "Of mode finetune: none, gentle, normal, strong, or settings like scale=0.1,cutout_p=0."
        ),
    ] = "normal",
    seed: Annotated[int, _option("seed", "Same seed, same split and model.")] = 0,
    name: Annotated[str | None, _option("name", "Of the new model.")] = None,
    out: Annotated[Path | None, _option("out", "Where the run folder is made; else 'trainings'.")] = None,
    add_to: Annotated[
        str | None,
        _option(
            "add-to", "Add the classes of --images to this model (of --mode head --head lda), by name, id or folder."
        ),
    ] = None,
    estimate: Annotated[bool, _option("estimate", "Say how long it would take, and stop.")] = False,
    compare: Annotated[bool, _option("compare", "Fit every candidate on the same split and compare them.")] = False,
    candidates: Annotated[
        str | None, _option("candidates", "Of --compare: names, separated by commas; 'all' trains networks too.")
    ] = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Train a model on your own images or labels. A killed training goes on when it is started again."""
    from plankter.workflow.train import train as run
    from plankter.workflow.training_config import TrainConfig
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened, progress_bars() as progress:
        config = TrainConfig(
            "finetune" if finetune else mode, head, classifier, features, model, balance, seed, name, imported,
            network, epochs, px, start, force_context, augmentation,
        )  # fmt: skip
        if add_to is not None:
            if images is None or compare or estimate or config.mode != "head":
                raise SettingsError("--add-to goes with --images and mode head, and without --compare and --estimate")
            from plankter.workflow.train_add import add_images

            found = add_images(
                add_to, images, workspace=opened, table=groups, context=context, out=out, name=name, seed=seed,
                progress=progress,
            )  # fmt: skip
            emit(found, as_json, _added_text)
            return
        if compare:
            from plankter.workflow.compare import compare as run_compare

            found = run_compare(
                config, folder=images, workspace=opened, table=groups, out=out, candidates=candidates, progress=progress
            )
            emit(found, as_json, _compare_text)
            return
        found = run(
            config, folder=images, workspace=opened, table=groups, context=context, out=out, estimate_only=estimate,
            progress=progress,
        )  # fmt: skip
        emit(found, as_json, _estimate_text if estimate else _train_text)


def _problems_text(found: dict[str, Any]) -> Iterator[str]:
    for problem in found["problems"]:
        more = ", ..." if problem["count"] > 3 else ""
        yield f"  {problem['count']} x {problem['message']}: {', '.join(problem['names'][:3])}{more}"


def _estimate_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['images']:,} images of {found['classes']} classes: about {found['estimate_s']:.0f} s"
    yield from _problems_text(found)


def _train_text(found: dict[str, Any]) -> Iterator[str]:
    split, metrics = found["split"], found["evaluation"]
    yield f"model {found['name']} ({found['model_id']}): {found['setting']}"
    kept = f"kept whole by {split['grouped_by']}" if split["grouped_by"] else "image by image"
    yield (
        f"{found['images']:,} images of {found['classes']} classes in {found['seconds']:.1f} s: {split['train']:,} train, "
        f"{split['tune']:,} tune, {split['judge']:,} judge ({kept}); balance: {found['balance']['method']}"
    )
    if metrics.get("images"):
        yield (
            f"on {metrics['images']:,} unseen images: top-1 {100 * metrics['top1']:.1f} %, top-3 "
            f"{100 * metrics['top3']:.1f} %, macro F1 {metrics['macro_f1']:.3f}, calibration error {metrics['ece']:.3f}"
        )
    yield from (f"warning: {text}" for text in found["warnings"])
    yield from _problems_text(found)
    yield f"use it with --model {found['name']} in this workspace, or --model {found['model']}; details in {found['folder']}"


def _added_text(found: dict[str, Any]) -> Iterator[str]:
    added = found["added"]
    new, more = (", ".join(added[key]) or "none" for key in ("classes", "more_of"))
    yield f"{added['images']:,} images joined {added['old_images']:,}: new classes {new}; more images of {more}"
    if added["old_sample"]:
        kept = added["old_sample"]
        yield (
            f"of {kept['images']:,} old images that are kept, {100 * kept['right_after']:.1f} % are right now, "
            f"{100 * kept['right_before']:.1f} % before; {100 * kept['taken_for_new']:.1f} % are taken for a new class"
        )
    yield from _train_text(found)


def _compare_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'candidate':<28}{'top-1 %':>8}{'macro F1':>10}{'parameters':>13}{'MB':>8}{'images/s':>10}{'RAM MB':>8}"
    for row in found["rows"]:
        if row["failure"]:
            yield f"{row['name']:<28}{row['failure']}"
            continue
        top1, macro_f1, memory = (
            "-" if row[key] is None else format(row[key] * by, form)
            for key, by, form in (("top1", 100, ".1f"), ("macro_f1", 1, ".3f"), ("memory_mb", 1, ",.0f"))
        )
        yield (
            f"{row['name']:<28}{top1:>8}{macro_f1:>10}{row['parameters']:>13,}{row['size_mb']:>8.1f}"
            f"{row['images_per_s']:>10,.0f}{memory:>8}"
        )
    yield from (f"warning: {text}" for text in found["warnings"])
    yield f"table and picture: {found['csv']}, {found['picture']}"
