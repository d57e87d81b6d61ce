"""What was said of a set of images or of a run, in one shape for pages and downloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import NotFound
from plankter.quantify.abundance import Abundance, abundance
from plankter.service.job_kinds import PREDICTIONS
from plankter.service.jobs import DONE
from plankter.service.state import Service
from plankter.service.tries import Try
from plankter.store.archived_run import ArchivedRun
from plankter.store.base import RunRecord
from plankter.types import Taxon
from plankter.vignettes.codec import decode_image, encode_vignette
from plankter.workflow.workspace import open_workspace

PLACES = 5
WORMS = "https://www.marinespecies.org/aphia.php?p=taxdetails&id="


@dataclass(frozen=True)
class ClassRow:
    """One class that was predicted: how often, and per mL where the volume is known."""

    class_id: str
    name: str
    aphia_id: int | None
    count: int
    share: float
    density: Abundance | None


@dataclass(frozen=True)
class Analysis:
    """Images with their five best classes.

    Attributes:
        kind, id: together the address of its page.
        title: for people.
        model, model_id: the model, and its id where it is known, else its name: another may have the name by now.
        class_ids: of the model.
        names: (n,) what each image is called.
        best: int16 (n, 5) positions in ``class_ids``, -1 where not predicted.
        scores: float32 (n, 5), NaN where not predicted.
        decisions, reasons, failures: (n,) words.
        image: number -> the encoded image.
        um_per_px, volume_imaged_ml: where known.
        taxa: class_id -> entry of the class list.
    """

    kind: str
    id: str
    title: str
    model: str
    model_id: str
    class_ids: tuple[str, ...]
    names: Sequence[str]
    best: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    decisions: Sequence[str]
    reasons: Sequence[str]
    failures: Sequence[str | None]
    image: Callable[[int], bytes]
    um_per_px: float | None
    volume_imaged_ml: float | None
    taxa: dict[str, Taxon]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def address(self) -> str:
        """Path of its page below the server's address."""
        return f"/results/{self.kind}/{self.id}"

    @cached_property
    def failed(self) -> int:
        """Images that could not be used."""
        return sum(failure is not None for failure in self.failures)

    @cached_property
    def undecided(self) -> int:
        """Images of which no class or group was said."""
        return len(self._unknown)

    @cached_property
    def _unknown(self) -> list[int]:
        return [n for n in np.flatnonzero(self.best[:, 0] >= 0).tolist() if not self.decisions[n]]

    @cached_property
    def classes(self) -> list[ClassRow]:
        """Classes by how often they have the highest score."""
        counts = Counter(self.best[:, 0].tolist())
        counts.pop(-1, None)
        total = sum(counts.values())
        return [
            ClassRow(
                class_id, self.name_of(class_id), self.aphia_id(class_id), count, count / total,
                abundance(count, self.volume_imaged_ml) if self.volume_imaged_ml else None,
            )
            for class_id, count in ((self.class_ids[place], count) for place, count in counts.most_common())
        ]  # fmt: skip

    def name_of(self, class_id: str) -> str:
        """A class as the class list calls it; its class_id where the list does not know it."""
        taxon = self.taxa.get(class_id)
        return taxon.name if taxon else class_id

    def aphia_id(self, class_id: str) -> int | None:
        """The class's number in the World Register of Marine Species, None where the class list knows none."""
        taxon = self.taxa.get(class_id)
        return taxon.aphia_id if taxon else None

    def select(self, class_id: str | None, order: str) -> list[int]:
        """Numbers of images: of one class by its id, of "unknown" or "failed" ones, or of all; by rising or falling score."""
        first = self.best[:, 0]
        if class_id is None:
            chosen = np.flatnonzero(first >= 0)
        elif class_id == "failed":
            return [n for n, failure in enumerate(self.failures) if failure is not None]
        elif class_id == "unknown":
            chosen = np.array(self._unknown, np.int64)
        elif class_id in self.class_ids:
            chosen = np.flatnonzero(first == self.class_ids.index(class_id))
        else:
            return []
        values = self.scores[chosen, 0]
        ranked = np.argsort(values if order == "doubtful" else -values, kind="stable")
        return [int(n) for n in chosen[ranked]]

    def row(self, number: int) -> dict[str, Any]:
        """One image as an object: file, top (class_id, name, aphia_id, score), decision, reason, failure."""
        if not 0 <= number < len(self):
            raise NotFound(f"there is no image {number}; there are {len(self)}")
        top = [
            {"class_id": self.class_ids[place], "name": self.name_of(self.class_ids[place]),
             "aphia_id": self.aphia_id(self.class_ids[place]), "score": round(float(score), 6)}
            for place, score in zip(self.best[number].tolist(), self.scores[number].tolist(), strict=True)
            if place >= 0
        ]  # fmt: skip
        return {
            "file": self.names[number], "top": top, "decision": self.decisions[number] or None,
            "reason": self.reasons[number] or None, "failure": self.failures[number],
        }  # fmt: skip

    def picture(self, number: int) -> tuple[bytes, str]:
        """One image as a browser shows it, and its media type.

        Raises:
            NotFound: no such image. ImageError: one that cannot be decoded.
        """
        if not 0 <= number < len(self):
            raise NotFound(f"there is no image {number}; there are {len(self)}")
        data = self.image(number)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return data, "image/png"
        if data[:3] == b"\xff\xd8\xff":
            return data, "image/jpeg"
        return encode_vignette(decode_image(data)), "image/png"


def find_analysis(service: Service, kind: str, key: str) -> Analysis:
    """The analysis at an address.

    Raises:
        NotFound: there is none (any more).
    """
    if kind == "job":
        service.jobs.folder(key)  # what is remembered of a job goes with it
        return service.remembered(("job", key), lambda: _of_job(service, key))
    if kind == "run":
        record = service.workspace.catalogue.run(key)
        if record.model_id is None:
            raise NotFound("the run has no predictions yet", hint="classify it first")
        archived = service.workspace.archive.open(key)
        written = (archived.folder / "predictions" / f"{record.model_id}.parquet").stat().st_mtime_ns
        return service.remembered(("run", key, written), lambda: _of_run(service, "run", key, record, archived))
    if kind == "tried":
        service.try_runs.folder_of(key.partition(".")[0])
        return service.remembered(("tried", key), lambda: _of_tried(service, key))
    if kind == "try":
        return _of_try(service, service.tries.get(key))
    if kind == "evaluation":
        from plankter.service.evaluations import as_analysis

        service.jobs.folder(key.partition(".")[0])  # one that was not kept may be gone
        return service.remembered(("evaluation", key), lambda: as_analysis(service, key))
    raise NotFound("there is nothing at this address")


def _taxa(service: Service) -> dict[str, Taxon]:
    return service.taxa()


def _of_job(service: Service, job_id: str) -> Analysis:
    import pyarrow.parquet as pq

    folder = service.jobs.folder(job_id)
    job, result = folder.read(), folder.result()
    if job.state != DONE or not result or result.get("what") != "images":
        raise NotFound("this job has no images to show", hint="its page says how far it is")
    table = pq.read_table(folder.folder / PREDICTIONS).to_pydict()
    class_ids: dict[str, int] = {}
    best = np.full((len(table["file"]), PLACES), -1, np.int16)
    scores = np.full(best.shape, np.nan, np.float32)
    for place in range(PLACES):
        for row, name in enumerate(table[f"class_{place + 1}"]):
            if name is not None:
                best[row, place] = class_ids.setdefault(name, len(class_ids))
                scores[row, place] = table[f"score_{place + 1}"][row]
    names = table["file"]
    read = images_of(service, str(result["images"]))
    return Analysis(
        "job", job_id, job.title, str(result["model"]), str(result.get("model_id", result["model"])),
        tuple(class_ids), names, best, scores,
        [text or "" for text in table["decision"]], [text or "" for text in table["reason"]], table["failure"],
        lambda number: read(names[number]), None, None, _taxa(service),
    )  # fmt: skip


def images_of(service: Service, text: str) -> Callable[[str], bytes]:
    """Reads images by name from the folder that a result names: relative to the workspace, or a folder of the server, which
    may be forbidden by now.

    Raises:
        NotFound: that is so; of the reader, that an image is gone or a link has taken its place.
    """
    images = service.workspace.folder / text
    root = service.workspace.folder
    if not images.is_relative_to(root):
        images = service.sources.folder(str(images))
        root = service.sources.root_of(images) or images
    return lambda name: file_of(images, name, root.resolve())


def file_of(images: Path, name: str, root: Path) -> bytes:
    """An image below a folder whose real path lies in ``root``.

    Raises:
        NotFound: it is gone, or leads elsewhere.
    """
    path = (images / name).resolve()
    if not path.is_relative_to(root):
        raise NotFound("the image is gone: a link has taken its place", path=name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound("the image is gone: its upload was removed", path=name) from error


def _of_tried(service: Service, key: str) -> Analysis:
    """A run in the workspace of an analysis that is not kept; ``key``: its job and the run, a dot between."""
    job_id, _, run_id = key.partition(".")
    with open_workspace(service.try_runs.folder_of(job_id)) as other:
        record, archived = other.catalogue.run(run_id), other.archive.open(run_id)
    return _of_run(service, "tried", key, record, archived)


def _of_run(service: Service, kind: str, key: str, record: RunRecord, archived: ArchivedRun) -> Analysis:
    run_id = record.run.run_id
    found = archived.predictions(str(record.model_id))
    n = len(archived)
    best, scores = np.full((n, PLACES), -1, np.int16), np.full((n, PLACES), np.nan, np.float32)
    k = min(PLACES, found.best.shape[1])
    best[found.index, :k], scores[found.index, :k] = found.best[:, :k], found.scores[:, :k]
    decisions, reasons = [""] * n, [""] * n
    engine = service.batcher(record.model_id).engine
    if not engine.context and not engine.measures and len(found):
        said = engine.predictor.predict(
            archived.embeddings(engine.model.backbone_hash)[found.index].astype(np.float32), 1
        )
        for number, outcome, reason in zip(
            found.index.tolist(), said.outcome.tolist(), said.reason.tolist(), strict=True
        ):
            decisions[number], reasons[number] = engine.predictor.words(outcome, reason)
    particles = archived.particles()

    def image(number: int) -> bytes:
        data = archived.vignette_png(number)
        if data is None:
            raise NotFound(f"particle {number} has no vignette")
        return data

    return Analysis(
        kind, key, record.run.name, engine.model.name, engine.model.model_id, found.class_ids,
        [f"{run_id}_{number:06d}.png" for number in range(n)], best, scores, decisions, reasons, particles.failure,
        image, record.run.um_per_px, record.run.volume_imaged_ml, _taxa(service),
    )  # fmt: skip


def _of_try(service: Service, kept: Try) -> Analysis:
    engine = service.batcher(kept.model).engine
    n = len(kept.names)
    best, scores = np.full((n, PLACES), -1, np.int16), np.full((n, PLACES), np.nan, np.float32)
    for row, prediction in enumerate(kept.predictions):
        k = min(PLACES, len(prediction.best))
        best[row, :k], scores[row, :k] = prediction.best[:k], prediction.scores[:k]
    said = kept.predictions
    return Analysis(
        "try", kept.id, "Images tried, not kept", engine.model.name, engine.model.model_id, engine.model.class_ids,
        kept.names, best, scores,
        [p.decision for p in said], [p.reason for p in said], [p.failure for p in said],
        lambda number: kept.images[number], None, None, _taxa(service),
    )  # fmt: skip
