"""The collages of a FlowCam run: what their headers say, and their pixels one after the other."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import ImageError
from plankter.readers.base import Portion
from plankter.readers.flowcam_folder import RunFolder
from plankter.types import Particles, Vignette
from plankter.vignettes.codec import DEFAULT_LIMITS, Picture, image_header, read_picture

log = logging.getLogger(__name__)
KEPT_COLLAGES = 3
PORTION_PARTICLES = 256


@dataclass(frozen=True)
class PageHeader:
    """An image file as its header describes it; ``problem`` says why it must not be decoded."""

    width: int
    height: int
    problem: str | None = None


def hash_and_header(path: Path) -> tuple[str, PageHeader | None]:
    """SHA-256 of a file and, of an image, its header; the file is read once.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size > DEFAULT_LIMITS.max_bytes:
            problem = f"the file is over the limit of {DEFAULT_LIMITS.max_bytes:,} bytes"
            return hashlib.file_digest(file, "sha256").hexdigest(), PageHeader(0, 0, problem)
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
    try:
        _, width, height = image_header(data, path=path.name)
    except ImageError as error:
        return digest, PageHeader(0, 0, error.message)
    if width * height > DEFAULT_LIMITS.max_pixels:
        problem = f"{width} x {height} px is over the limit of {DEFAULT_LIMITS.max_pixels:,} pixels"
        return digest, PageHeader(width, height, problem)
    return digest, PageHeader(width, height)


def outside(box: Sequence[int], width: int, height: int) -> str | None:
    """Why a box (x, y, width, height) cannot be cut out of a collage of that size; None where it can."""
    x, y, w, h = box
    if x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height:
        return None
    return f"the box x={x} y={y} width={w} height={h} lies outside the collage of {width} x {height} px"


@dataclass(frozen=True)
class _Page:
    image: Picture | None
    mask: Picture | None
    problem: str | None


def _decode(folder: RunFolder, name: str) -> _Page:
    return _decode_files(name, folder.find(name), folder.mask(name))


def _decode_files(name: str, path: Path | None, mask: Path | None) -> _Page:
    if path is None:
        return _Page(None, None, f"collage {name} is missing")
    try:
        image = read_picture(path)
    except ImageError as error:
        return _Page(None, None, f"collage {name} cannot be used: {error.message}")
    return _Page(image, _mask(mask, image), None)


def _mask(path: Path | None, image: Picture) -> Picture | None:
    if path is None:
        return None
    try:
        mask = read_picture(path, grey=True)
    except ImageError as error:
        log.warning("mask left out: %s", error)
        return None
    if (mask.width, mask.height) != (image.width, image.height):
        sizes = (path, (mask.width, mask.height), (image.width, image.height))
        log.warning("mask left out: %s has %s px, its collage %s", *sizes)
        return None
    return mask


def _wanted(particles: Particles) -> list[str | None]:
    """The collage that each particle is cut from, None where it is cut from none."""
    return [
        page if page is not None and failure is None else None
        for page, failure in zip(particles.page, particles.failure, strict=True)
    ]


def vignettes(folder: RunFolder, particles: Particles) -> Iterator[Vignette]:
    """One vignette a particle, in order. Collages are decoded one ahead in a thread; three are kept at most."""
    wanted = _wanted(particles)
    order = [page for page in wanted if page is not None]
    order = [page for i, page in enumerate(order) if i == 0 or page != order[i - 1]]
    boxes = particles.box.tolist()
    decoded: OrderedDict[str, Future[_Page]] = OrderedDict()
    step, current = -1, None
    with ThreadPoolExecutor(1, thread_name_prefix="collage") as pool:
        for index, name in enumerate(wanted):
            if name is None:
                yield Vignette(index, None, failure=particles.failure[index])
                continue
            if name != current:
                step, current = step + 1, name
                for ahead in order[step : step + 2]:
                    if ahead not in decoded:
                        decoded[ahead] = pool.submit(_decode, folder, ahead)
                    decoded.move_to_end(ahead)
                while len(decoded) > KEPT_COLLAGES:
                    decoded.popitem(last=False)
            yield _cut(index, boxes[index], decoded[name].result())


def _cut(index: int, box: Sequence[int], page: _Page) -> Vignette:
    if page.image is None:
        return Vignette(index, None, failure=page.problem)
    problem = outside(box, page.image.width, page.image.height)
    if problem:
        return Vignette(index, None, failure=problem)
    x, y, w, h = box
    mask = None if page.mask is None else page.mask.cut(x, y, w, h) > 127
    return Vignette(index, page.image.cut(x, y, w, h), mask)


def portions(folder: RunFolder, particles: Particles) -> list[Portion] | None:
    """Neighbours of one collage together, at most `PORTION_PARTICLES`; particles without one go with those before.

    None where the list jumps between collages so often that they would be decoded again and again.
    """
    wanted = _wanted(particles)
    starts: list[int] = []
    pages: list[str | None] = []
    for index, page in enumerate(wanted):
        full = not starts or index - starts[-1] >= PORTION_PARTICLES
        if full or (page is not None and pages[-1] not in (None, page)):
            starts.append(index)
            pages.append(page)
        elif pages[-1] is None:
            pages[-1] = page
    if len(starts) > 2 * (len(set(pages)) + len(wanted) / PORTION_PARTICLES):
        return None
    boxes = particles.box.tolist()
    found = []
    for start, stop, page in zip(starts, [*starts[1:], len(wanted)], pages, strict=False):
        files = [] if page is None else [folder.find(page), folder.mask(page)]
        facts = {
            "collage": page,
            "files": [None if path is None else str(path) for path in files],
            "box": boxes[start:stop],
            "cut": [name is not None for name in wanted[start:stop]],
            "failure": list(particles.failure[start:stop]),
        }
        found.append(Portion(start, stop, facts))
    return found


def portion_vignettes(portion: Portion) -> list[Vignette]:
    """The vignettes of one portion, in order."""
    facts = portion.facts
    page = _Page(None, None, None)
    if facts["collage"] is not None:
        path, mask = (None if name is None else Path(name) for name in facts["files"])
        page = _decode_files(facts["collage"], path, mask)
    indices = range(portion.start, portion.stop)
    each = zip(indices, facts["box"], facts["cut"], facts["failure"], strict=True)
    return [
        _cut(index, box, page) if cut else Vignette(index, None, failure=failure) for index, box, cut, failure in each
    ]
