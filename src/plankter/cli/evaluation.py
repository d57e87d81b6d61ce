"""Commands that judge a model: evaluate, explain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.models import ClassMix, ContextTable, ModelName
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting

Labelled = Annotated[Path, typer.Option("--images", help="Folder that holds one folder of images a class.")]
Report = Annotated[
    Path | None, typer.Option("--report", help="HTML file to write; the same numbers go beside it as JSON.")
]
Against = Annotated[
    str | None, typer.Option("--against", help="Another model, by name, id or folder, to compare on the same images.")
]
Mix = Annotated[
    str,
    typer.Option(
        "--mix",
        help="Weigh the figures to a class mix: as-is, training, balanced, validated, or a CSV file (class, share or count).",
    ),
]
Groups = Annotated[
    Path | None, typer.Option("--groups", help="CSV file: file, and a column for each grouping (date, station, ...).")
]
Half = Annotated[
    str, typer.Option("--half", help="all, or one half of a validation set by its file names: fit, judge.")
]


@app.command()
def evaluate(
    images: Labelled,
    model: ModelName = "flowcam",
    report: Report = None,
    against: Against = None,
    mix: Mix = "as-is",
    groups: Groups = None,
    half: Half = "all",
    context: ContextTable = None,
    class_mix: ClassMix = None,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Say how often a model is right on a folder that holds one folder a class."""
    from plankter.workflow.evaluate import evaluate as run
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened, progress_bars() as progress:
        found = run(
            images, model=model, workspace=opened, class_mix=class_mix, report=report, mix=mix, groups=groups,
            against=against, half=half, context=context, progress=progress,
        )  # fmt: skip
        emit(found, as_json, _evaluate_text)


def _evaluate_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['images']} images of {found['classes']} classes, {found['failures']} failures"
    for name in ("top1", "top3", "top5", "macro_f1", "weighted_f1", "balanced_accuracy"):
        yield f"  {name:<18}{100 * found[name]:6.2f} %"
    for name in ("log_loss", "ece", "images_per_s"):
        yield f"  {name:<18}{found[name]:8.3f}"
    if "reweighted" in found:
        yield f"re-weighted to the class mix {found['reweighted']['mix']}, with standard errors"
        for name, figure in found["reweighted"]["figures"].items():
            yield (
                f"  {name:<18}{100 * figure['value']:6.2f} % +- {100 * figure['standard_error']:.2f}"
                if (name != "log_loss")
                else f"  {name:<18}{figure['value']:8.3f} +- {figure['standard_error']:.3f}"
            )
    if "comparison" in found:
        yield from _comparison_text(found["comparison"])
    for column, rows in found.get("groups", {}).items():
        yield f"by {column}"
        for row in rows:
            yield f"  {row['group']:<24}{row['images']:>8} images {100 * row['top1']:6.2f} % right"
    if "context" in found:
        known = found["context"]["images_known"]
        lacking = "" if known else "; warning: the model takes it, name its table with --context"
        yield f"  context ({', '.join(found['context']['columns'])}) known of {known} images{lacking}"
    if found["unknown_folders"]:
        yield f"  left out, no class of the model: {', '.join(found['unknown_folders'])}"
    if "report" in found:
        yield f"report: {found['report']}, numbers: {found['numbers']}"


def _comparison_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"beside {found['against']['name']} on {found['images']} images: p = {found['p']:.3g} (exact McNemar test)"
    for name in ("top1", "macro_f1"):
        gap = found[name]
        yield f"  {name:<18}{100 * gap['value']:+6.2f} points ({100 * gap['low']:+.2f} to {100 * gap['high']:+.2f})"


@app.command()
def explain(
    image: Annotated[
        Path, typer.Option("--image", help="The image; in a workspace also RUN:INDEX, one of its particles.")
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")],
    model: ModelName = "flowcam",
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class asked about; without it the one of the highest score.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="occlusion covers it piece by piece, rise by random masks, cam reads the network's last map (coarse, at once).",
        ),
    ] = "occlusion",
    patch: Annotated[
        int | None,
        typer.Option("--patch", help="Of occlusion: side in px of what is covered; a fifth of the longer side."),
    ] = None,
    masks: Annotated[int, typer.Option("--masks", help="Of rise: how many masks are tried.")] = 1000,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Draw which part of an image speaks for a class, and say whether the map beats random ones."""
    from plankter.workflow.explain import explain as run
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened, progress_bars() as progress:
        found = run(
            image, out, model=model, class_name=class_name, method=method, patch_px=patch, masks=masks,
            workspace=opened, progress=progress,
        )  # fmt: skip
        emit(found, as_json, _explain_text)


def _explain_text(found: dict[str, Any]) -> Iterator[str]:
    place = f"x {found['x_px']}, y {found['y_px']} px"
    if "largest_fall" in found:
        most = f"it falls most, by {found['largest_fall']:.2f}, where the image is covered around {place}"
    else:
        most = f"most of it comes from around {place}"
    yield f"{found['class_id']}, score {found['score']:.2f}; {most}; written to {found['out']}"
    check = found["check"]
    yield (
        f"covered in the order of the map the mean score is {check['deletion']:.2f} (random maps "
        f"{check['random_deletion']:.2f}), uncovered {check['insertion']:.2f} (random {check['random_insertion']:.2f})"
    )
    if not check["better_than_random"]:
        yield "warning: the map does no better than random ones; do not rely on it"
