"""A made-up FlowCam run in VisualSpreadsheet's own files, with the truth known."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plankter._errors import PlankterError
from plankter.formats.flowcam_cla import write_cla
from plankter.formats.flowcam_ctx import write_ctx
from plankter.formats.flowcam_lst import write_lst
from plankter.formats.flowcam_summary import write_run_summary
from plankter.synthetic import context, real
from plankter.synthetic.canvas import UInt8Array
from plankter.synthetic.collage import Place, pack, write_pages, write_tiff
from plankter.synthetic.context import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Capture
from plankter.synthetic.drawings import KINDS, background_frame, draw, draw_length_um, expose
from plankter.synthetic.measures import FRINGE_PX, calibrated, raw_measures

DEFAULT_START = datetime(2024, 6, 4, 8, 30, tzinfo=UTC)
MIN_FRAMES = 60
FORBIDDEN = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class SyntheticRun:
    """What was written, and the truth about it.

    Attributes:
        folder: the run's folder; the list is ``folder / f"{name}.lst"``.
        classes: true class of each particle in list order: a kind of `KINDS`, or the publisher's name of a real one.
        is_real: bool (n,), True for pasted real vignettes.
        counts: true class -> number of particles.
        area_px: int64 (n,), pixels of each particle's mask (the list's raw_area).
        true_length_um: float64 (n,), the length drawn; NaN for real ones.
        pages: number of collages.
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    is_real: npt.NDArray[np.bool_]
    counts: Mapping[str, int]
    area_px: npt.NDArray[np.int64]
    true_length_um: npt.NDArray[np.float64]
    um_per_px: float
    volume_imaged_ml: float
    started_at: datetime
    pages: int

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class _Particle:
    class_name: str
    length_um: float
    image: UInt8Array
    mask: npt.NDArray[np.bool_]
    src: tuple[int, int]


def simulate_flowcam_run(
    to: Path,
    *,
    name: str = "demo_10x",
    particles: int = 600,
    seed: int = 1,
    real_share: float = 0.5,
    um_per_px: float = 0.5479,
    particles_per_image: float = 0.6,
    started_at: datetime = DEFAULT_START,
    local_offset_h: float = 2.0,
    kind_shares: Mapping[str, float] | None = None,
    classified: bool = False,
) -> SyntheticRun:
    """Writes one run as VisualSpreadsheet 4.19 leaves it, in the folder ``to / name``.

    The same arguments give the same bytes. The scale chooses the objective (4X, 10X or 20X), and with it flow cell,
    pump speed and frame rate. Real vignettes keep their pixels: they were taken at 4X, so their size in um is right
    only for a scale of about 1.38 um/px.

    Args:
        to: folder that will hold the run's folder; made where it is missing.
        name: the run's name, which all its files begin with.
        particles: how many, at least 1.
        seed: of the random numbers, not negative.
        real_share: share of pasted real vignettes, 0..1; the rest is drawn.
        um_per_px: scale; rounded to the four decimals that the files hold.
        particles_per_image: mean number a frame, which sets the volume imaged.
        started_at: start of the run, with a time zone; whole seconds.
        local_offset_h: the computer's clock minus UTC; list and summary are in its time.
        kind_shares: kind -> relative abundance among the drawn ones; the kinds' own where None.
        classified: also write a `.cla` with the true classes.

    Raises:
        ValueError: an argument outside its range, or an unknown kind.
        PlankterError: the folder holds a run already, or cannot be written.
    """
    _check(name, particles, real_share, particles_per_image, started_at, local_offset_h)
    shares = _shares(kind_shares)
    rng = np.random.default_rng(seed)
    scale = round(um_per_px, 4)
    optics, folder = context.nearest_optics(scale), _make_folder(to, name)
    frame = background_frame(rng, FRAME_WIDTH_PX, FRAME_HEIGHT_PX)
    made = _make_particles(rng, frame, particles, round(particles * real_share), shares, scale)
    frames = max(MIN_FRAMES, round(particles / particles_per_image))
    src_image = np.sort(rng.integers(1, frames + 1, particles))
    capture = Capture(
        name, optics, scale, started_at.astimezone(UTC).replace(microsecond=0), timedelta(hours=local_offset_h), frames,
        len(np.unique(src_image)), particles, float(frame.mean()),
    )  # fmt: skip
    places, files = _write_images(folder, name, made)
    columns = _columns(rng, made, places, files, src_image, capture)
    write_tiff(folder / "cal_image_000001.tif", frame)
    classes = tuple(p.class_name for p in made)
    _write_texts(folder, capture, columns, classes if classified else None, seed, real_share)
    return SyntheticRun(
        folder, name, classes, np.array([math.isnan(p.length_um) for p in made]),
        MappingProxyType(dict(sorted(Counter(classes).items()))), np.array(columns["raw_area"], np.int64),
        np.array([p.length_um for p in made]), scale, capture.volume_imaged_ml, capture.started_at, places[-1].page,
    )  # fmt: skip


def _check(
    name: str, particles: int, real_share: float, per_image: float, started_at: datetime, local_offset_h: float
) -> None:
    if not name.strip(" .") or set(name) & FORBIDDEN or not name.isprintable():
        raise ValueError(f"expected a plain file name for the run, got {name!r}")
    if particles < 1:
        raise ValueError(f"particles must be at least 1, got {particles}")
    if not 0 <= real_share <= 1:
        raise ValueError(f"real_share must be within 0..1, got {real_share}")
    if not 0 < per_image < math.inf:
        raise ValueError(f"particles_per_image must be above 0, got {per_image}")
    if started_at.tzinfo is None:
        raise ValueError(f"started_at needs a time zone, got {started_at}")
    if not -14 <= local_offset_h <= 14:
        raise ValueError(f"local_offset_h must be within -14..14, got {local_offset_h}")


def _shares(kind_shares: Mapping[str, float] | None) -> dict[str, float]:
    shares = dict(kind_shares) if kind_shares is not None else {name: kind.share for name, kind in KINDS.items()}
    unknown = sorted(set(shares) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    if not all(0 <= share < math.inf for share in shares.values()) or sum(shares.values()) <= 0:
        raise ValueError("kind_shares must not be negative, and one must be above 0")
    return shares


def _make_folder(to: Path, name: str) -> Path:
    folder = to / name
    if (folder / f"{name}.lst").exists():
        raise PlankterError("holds a run already", path=folder, hint="choose another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlankterError(f"cannot be made: {error.strerror}", path=folder) from error
    return folder


def _make_particles(
    rng: np.random.Generator, frame: UInt8Array, n: int, n_real: int, shares: Mapping[str, float], scale: float
) -> list[_Particle]:
    weights = np.array(list(shares.values()))
    kinds = rng.choice(list(shares), n - n_real, p=weights / weights.sum()).tolist()
    by_class: dict[str, list[real.RealVignette]] = {}
    for vignette in real.real_vignettes() if n_real else ():
        by_class.setdefault(vignette.class_name, []).append(vignette)
    wanted = [*kinds, *([None] * n_real)]
    return [
        _drawn_particle(rng, frame, str(kind), scale) if kind is not None else _real_particle(rng, frame, by_class)
        for kind in (wanted[i] for i in rng.permutation(n))
    ]


def _spot(rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    x = int(rng.integers(context.LEFT, context.RIGHT - width + 2))
    y = int(rng.integers(context.TOP, context.BOTTOM - height + 2))
    return x, y


def _drawn_particle(rng: np.random.Generator, frame: UInt8Array, kind: str, scale: float) -> _Particle:
    length_um = draw_length_um(kind, rng)
    drawing = draw(kind, rng, length_um / scale)
    height, width = drawing.mask.shape
    x, y = _spot(rng, height, width)
    image = expose(rng, drawing, frame[y : y + height, x : x + width])
    return _Particle(kind, length_um, image, drawing.mask, (x, y))


def _real_particle(
    rng: np.random.Generator, frame: UInt8Array, by_class: Mapping[str, Sequence[real.RealVignette]]
) -> _Particle:
    class_name = list(by_class)[int(rng.integers(len(by_class)))]
    chosen = by_class[class_name][int(rng.integers(len(by_class[class_name])))]
    grey = real.reorient(rng, chosen.grey)
    height, width = grey.shape
    x, y = _spot(rng, height, width)
    mask = real.threshold_mask(grey)
    image = real.paste(rng, grey, mask, frame[y : y + height, x : x + width].astype(np.float32))
    return _Particle(class_name, math.nan, image, mask, (x, y))


def _write_images(folder: Path, name: str, made: Sequence[_Particle]) -> tuple[list[Place], list[str]]:
    images, masks = [p.image for p in made], [p.mask for p in made]
    places = pack([(i.shape[1], i.shape[0]) for i in images], FRAME_WIDTH_PX, FRAME_HEIGHT_PX)
    return places, write_pages(folder, name, images, masks, places, (FRAME_WIDTH_PX, FRAME_HEIGHT_PX))


def _columns(
    rng: np.random.Generator,
    made: Sequence[_Particle],
    places: Sequence[Place],
    files: Sequence[str],
    src_image: npt.NDArray[np.int64],
    capture: Capture,
) -> dict[str, list[object]]:
    rows: list[dict[str, object]] = []
    for number, (particle, place) in enumerate(zip(made, places, strict=True)):
        raw = raw_measures(particle.mask, particle.image, particle.src)
        elapsed_s = round(float(src_image[number]) / capture.optics.frames_per_s + 0.083, 3)
        local = capture.local_time_of(elapsed_s).isoformat(timespec="milliseconds").partition("+")[0]
        rows.append(
            {
                "id": number + 1,
                "image_x": place.x,
                "image_y": place.y,
                "image_w": particle.image.shape[1],
                "image_h": particle.image.shape[0],
                "src_x": particle.src[0],
                "src_y": particle.src[1],
                "src_image": src_image[number],
                "cal_image": 1,
                "cal_const": capture.um_per_px,
                "fringe_size": FRINGE_PX,
                **raw,
                **calibrated(raw, capture.um_per_px),
                "elapsed_time": elapsed_s,
                "timestamp": local,
                "collage_file": files[number],
                "image_id": str(uuid.UUID(bytes=rng.bytes(16), version=4)).upper(),
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


def _write_texts(
    folder: Path,
    capture: Capture,
    columns: Mapping[str, Sequence[object]],
    classes: Sequence[str] | None,
    seed: int,
    real_share: float,
) -> None:
    notes = f"SYNTHETIC RUN, no real sample: made by plankter, seed {seed}, {capture.particles} particles."
    if real_share > 0:
        notes += "\r\nHolds vignettes of LifeWatch / VLIZ (CC BY 4.0, doi 10.5281/zenodo.10554845), changed."
    texts = {
        ".ctx": write_ctx(context.context_sections(capture)),
        "_run_summary.txt": write_run_summary(context.summary_sections(capture)),
        "_notes.txt": notes,
    }
    if classes is not None:
        members: dict[str, list[int]] = {class_name: [] for class_name in sorted(set(classes))}
        for number, class_name in enumerate(classes, start=1):
            members[class_name].append(number)
        texts[".cla"] = write_cla({"truth": members})
    texts[".lst"] = write_lst(columns, capture.particles)  # last: whoever watches the folder finds a whole run
    for ending, text in texts.items():
        path = folder / f"{capture.name}{ending}"
        try:
            path.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise PlankterError(f"cannot be written: {error.strerror}", path=path) from error
