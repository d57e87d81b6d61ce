"""How the images of a folder look, what they shall look like, and the step between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import ImageError, ModelError, PlankterError, ReadError
from plankter.types import ImageArray
from plankter.vignettes.codec import read_image
from plankter.vignettes.match import CARD_KEY, ImageStatistics, Matching, measure_statistics, plan_matching
from plankter.workflow.predict import image_files
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

MEASURED_AT_MOST = 2_000  # images describe a set; more change nothing
SHOWN = 12


@dataclass(frozen=True)
class Reference:
    """What images shall look like, None where nothing is to be matched; and a few of the reference's own, to show."""

    statistics: ImageStatistics | None
    shown: list[ImageArray]


def find_reference(
    like: str | None, workspace: Workspace | None, *, seed: int = 0, progress: Progress = silent
) -> Reference:
    """What the images are to look like: a folder of images, or what a model's card says of its training images.

    Raises:
        ReadError: a folder without images. NotFound: no such model. ModelError: its card does not say.
    """
    if like is None:
        return Reference(None, [])
    folder = Path(like)
    if folder.is_dir() and not (folder / "model.json").is_file():
        statistics, shown = measure_folder(folder, seed=seed, progress=progress)
        return Reference(statistics, shown)
    model = find_model(like, workspace)
    found = model.card.get(CARD_KEY)
    if not isinstance(found, dict):
        hint = "give a folder of its training images instead"
        raise ModelError(f"the card of {model.name!r} does not say how its training images look", hint=hint)
    try:
        return Reference(ImageStatistics.from_dict(found), [])
    except ValueError as error:
        raise ModelError(f"{CARD_KEY} in the card: {error}", path=model.folder / "model.json") from error


def measure_folder(
    folder: Path, *, um_per_px: float | None = None, seed: int = 0, progress: Progress = silent
) -> tuple[ImageStatistics, list[ImageArray]]:
    """How the images below a folder look, by at most `MEASURED_AT_MOST` of them; and a few of them to show.

    Raises:
        ReadError: no images, or none that can be read.
    """
    return _measured(image_files(folder), folder, um_per_px, seed, progress)


def _measured(
    files: Sequence[Path], where: Path, um_per_px: float | None, seed: int, progress: Progress
) -> tuple[ImageStatistics, list[ImageArray]]:
    chosen = list(files)
    if len(chosen) > MEASURED_AT_MOST:
        picked = np.random.default_rng(seed).choice(len(chosen), MEASURED_AT_MOST, replace=False)
        chosen = [chosen[k] for k in sorted(picked)]
    shown: list[ImageArray] = []
    every = max(1, len(chosen) // SHOWN)

    def readable() -> Iterator[ImageArray]:
        for number, path in enumerate(chosen):
            try:
                image = grey_or_colour(read_image(path), path=path)
            except ImageError:
                continue  # named when it is its turn to be written
            if number % every == 0 and len(shown) < SHOWN:
                shown.append(image)
            progress(f"measuring {where.name}", number + 1, len(chosen))
            yield image

    try:
        return measure_statistics(readable(), um_per_px=um_per_px), shown
    except ValueError as error:
        raise ReadError(f"none of {len(files)} images can be read", path=where) from error


def grey_or_colour(image: ImageArray, *, path: Path | str) -> ImageArray:
    """The image itself where it has one channel or three.

    Raises:
        ImageError: another number of channels, as a TIFF may have.
    """
    if image.ndim != 2 and image.shape[2] != 3:
        raise ImageError(f"expected 1 or 3 channels, got {image.shape[2]}", path=path)
    return image


def plan_for(
    files: Sequence[Path],
    folder: Path,
    reference: Reference,
    um_per_px: float | None = None,
    like_um_per_px: float | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Matching | None:
    """The step that makes ``files`` of a folder look like the reference; None where there is no reference.

    Raises:
        ReadError: none of the files can be read. PlankterError: one pixel size without the other, or not above 0.
    """
    like = reference.statistics
    if like is None:
        return None
    for size in (um_per_px, like_um_per_px):
        if size is not None and not 0 < size < math.inf:
            raise PlankterError(f"expected a pixel size above 0 µm, got {size}")
    like = replace(like, um_per_px=like_um_per_px or like.um_per_px)
    if (um_per_px is None) != (like.um_per_px is None) and (um_per_px or like_um_per_px):
        raise PlankterError(
            "the pixel size of one set alone resamples nothing",
            hint="give those of the images and of the reference, or neither",
        )
    of, _ = _measured(files, folder, um_per_px, seed, progress)
    return plan_matching(of, like)


def plan_facts(plan: Matching) -> dict[str, Any]:
    """The step as a JSON object."""
    names = ("scale_bars", "frames", "margin", "grey", "invert", "density", "gain", "keep", "zoom")
    facts = {name: getattr(plan, name) for name in names}
    return {**facts, "of": plan.of.to_dict(), "like": plan.like.to_dict()}
