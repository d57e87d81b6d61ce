"""The command that makes a set of images comparable with another, augments or balances it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from plankter.cli import app
from plankter.cli.output import HERE, AsJson, WorkspaceDir, emit, progress_bars, reporting


@app.command()
def transform(
    images: Annotated[Path, typer.Option("--images", help="Folder of images, one folder a class or flat.")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the copy.")],
    like: Annotated[
        str | None, typer.Option("--like", help="Folder of reference images, or a model, that they shall look like.")
    ] = None,
    augment: Annotated[int, typer.Option("--augment", min=0, help="Augmented copies beside every image.")] = 0,
    balance: Annotated[
        int | None, typer.Option("--balance", min=1, help="Images a class: some of the many, copies of the few.")
    ] = None,
    um_per_px: Annotated[float | None, typer.Option("--um-per-px", help="Pixel size of the images, µm.")] = None,
    like_um_per_px: Annotated[
        float | None, typer.Option("--like-um-per-px", help="Pixel size of the reference, µm.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Picture before and after; else preview.png in the copy.")
    ] = None,
    keep_jpeg: Annotated[bool, typer.Option("--keep-jpeg", help="JPEG where the source is one, else PNG.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed chooses and varies the same.")] = 0,
    workspace: WorkspaceDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Copy images so that they look like a reference set, with augmented copies or balanced classes."""
    from plankter.workflow.transform import transform as run
    from plankter.workflow.workspace import maybe_workspace

    with reporting(as_json), maybe_workspace(workspace) as opened, progress_bars() as progress:
        found = run(
            images, out, like=like, copies=augment, balance=balance, um_per_px=um_per_px,
            like_um_per_px=like_um_per_px, preview=preview, keep_jpeg=keep_jpeg, seed=seed, workspace=opened,
            progress=progress,
        )  # fmt: skip
        emit(found, as_json, _transform_text)


def _transform_text(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['written']} images written to {found['out']} from {found['images']}, {len(found['failures'])} failures"
    for failure in found["failures"]:
        yield f"  left out {failure['file']}: {failure['reason']}"
    if found["matching"]:
        yield f"  {', '.join(_matching_words(found['matching'])) or 'the two sets look the same: nothing to match'}"
    yield f"  what was done with each: {found['manifest']}"
    yield f"  before and after: {found['preview']}"


def _matching_words(plan: dict[str, Any]) -> Iterator[str]:
    of, like = plan["of"], plan["like"]
    for name, words in (
        ("scale_bars", "scale bars removed"), ("frames", "frames removed"), ("grey", "colour dropped"),
        ("invert", "polarity turned"),
    ):  # fmt: skip
        if plan[name]:
            yield words
    if plan["margin"] is not None:
        yield f"margins cut to {like['widest_margin']:.2f} of the particle"
    if of["background"] != like["background"]:
        yield f"background grey {of['background']:.0f} to {like['background']:.0f}"
    if plan["gain"] != 1:
        yield f"contrast x {plan['gain']:.2f}"
    if plan["zoom"] != 1:
        yield f"size x {plan['zoom']:.3g}"
