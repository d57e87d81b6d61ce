"""A model ready to work: its network, its head, and what one workspace or command asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.estimated_mix import under_own_mix
from plankter.classify.models import read_model_json
from plankter.classify.predictor import ESTIMATED, TRAINING, Predicted, Predictor, expected_mix, load_predictor
from plankter.classify.stream import ExtraInputs, StreamProgress, StreamResult, classify_stream
from plankter.features.backbones import BATCH, OpenVinoBackbone, available_cores
from plankter.features.morphology import measure_many
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model
from plankter.vignettes.letterbox import UInt8Array
from plankter.workflow.workspace import Workspace

FEWEST_FOR_MIX = 50
DECIDED_AT_ONCE = 8192


@dataclass(frozen=True)
class Engine:
    """One model with its network loaded.

    Attributes:
        measures, context: what its head takes beside the embedding.
        threads: workers.
        own_mix: whether the class mix of what is predicted together is estimated from it (`under_own_mix`), where it is
            at least `FEWEST_FOR_MIX` images.
    """

    model: Model
    backbone: OpenVinoBackbone
    predictor: Predictor
    measures: tuple[str, ...]
    context: tuple[str, ...]
    threads: int
    own_mix: bool = False

    def run(
        self,
        items: Iterable[tuple[int, bytes]],
        total: int,
        *,
        k: int = 5,
        keep_embeddings: bool = True,
        context: npt.NDArray[np.floating] | None = None,
        um_per_px: float | None = None,
        progress: StreamProgress | None = None,
    ) -> StreamResult:
        """Predicts encoded vignettes, whose keys are 0..total-1.

        Args:
            items: key and encoded image each.
            total: how many there will be.
            k: classes kept.
            keep_embeddings: whether they are given back.
            context: (total, columns) in the order of ``context``, NaN where missing; (1, columns) where all share it.
            um_per_px: of the images, for measures; None where unknown.
            progress: as for `classify_stream`.
        """
        own_mix = self.own_mix and total >= FEWEST_FOR_MIX
        result = classify_stream(
            items, total, self.backbone, self.predictor, input_px=self.model.input_px,
            k=self.predictor.classes if own_mix else k, threads=self.threads,
            keep_embeddings=keep_embeddings or own_mix, extra=self._extra(context, um_per_px), progress=progress,
        )  # fmt: skip
        if not own_mix:
            return result
        found = self._under_own_mix(result, k)
        return found if keep_embeddings else replace(found, embeddings=None)

    def _under_own_mix(self, result: StreamResult, k: int) -> StreamResult:
        """The same predictions under the class mix of the images themselves; ``result`` has the scores of all classes."""
        if not len(result.index) or result.embeddings is None or self.predictor.training_mix is None:
            return result
        scores = np.empty_like(result.scores)
        np.put_along_axis(scores, result.best.astype(np.int64), result.scores, axis=1)
        scores = under_own_mix(scores, self.predictor.training_mix)
        parts = [
            self.predictor.decided(scores[rows], result.embeddings[rows].astype(np.float32), k)
            for rows in (slice(start, start + DECIDED_AT_ONCE) for start in range(0, len(scores), DECIDED_AT_ONCE))
        ]
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in Predicted._fields
        }
        return replace(result, **columns)

    def _extra(self, context: npt.NDArray[np.floating] | None, um_per_px: float | None) -> ExtraInputs | None:
        if self.measures:

            def measured(keys: list[int], images: Sequence[UInt8Array | None]) -> npt.NDArray[np.floating]:
                table = measure_many([(image, None) for image in images], um_per_px, 0.0)
                return table.values[:, [table.columns.index(name) for name in self.measures]]

            return measured
        if self.context and context is not None:
            if len(context) == 1:
                return lambda keys, images: np.repeat(context, len(keys), axis=0)
            return lambda keys, images: context[np.array(keys, np.int64)]
        return None


def load_engine(
    model: Model,
    workspace: Workspace | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    class_mix: str | None = None,
    batch: int = BATCH,
) -> Engine:
    """A model with its network, ready to predict.

    Args:
        model: which.
        workspace: gives class list, validated labels and settings; None outside one.
        precision: "auto", "f32" or "bf16"; None takes the workspace's setting.
        threads: None takes the workspace's setting, or all cores.
        class_mix: as for `expected_mix`; None takes the workspace's setting, or that of the training.
        batch: as for `OpenVinoBackbone`.

    Raises:
        ModelError: parts that are damaged or do not fit each other.
        SettingsError: a class mix that cannot be had.
    """
    settings = workspace.settings if workspace else {}
    used = threads or (workspace.threads if workspace else available_cores())
    asked = class_mix or str(settings.get("classify.class_mix", TRAINING))
    mix = expected_mix(
        asked, model.class_ids, validated=_validated(workspace) if asked.startswith("validated") else None
    )
    taxa = workspace.catalogue.taxa() if workspace else shipped_class_list()
    inputs = read_model_json(model.folder).get("inputs") or {}
    asked_precision = precision or str(settings.get("classify.precision", "auto"))
    backbone = load_backbone(model, precision=asked_precision, threads=used, batch=batch)
    predictor = load_predictor(model, mix=mix, taxa=taxa)
    if asked == ESTIMATED and predictor.training_mix is None:
        raise ModelError("the model does not say how many images of each class it learnt from", path=model.folder)
    return Engine(
        model, backbone, predictor, tuple(inputs.get("measures", ())), tuple(inputs.get("context", ())), used,
        asked == ESTIMATED,
    )  # fmt: skip


def _validated(workspace: Workspace | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in workspace.catalogue.class_counts() if workspace else ():
        found[count.class_id] = found.get(count.class_id, 0) + count.validated
    return found


def load_backbone(
    model: Model, *, precision: str = "auto", threads: int | None = None, batch: int = BATCH
) -> OpenVinoBackbone:  # fmt: skip
    """The network of a model, ready to embed."""
    return OpenVinoBackbone(model.folder / "backbone.onnx", precision=precision, threads=threads, batch=batch)


def read_files(files: Sequence[Path], failures: dict[int, str]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each file; one that cannot be read goes into ``failures``."""
    for number, path in enumerate(files):
        try:
            yield number, path.read_bytes()
        except OSError as error:
            failures[number] = f"cannot be read: {error.strerror}"


def embed_files(
    engine: Engine, files: Sequence[Path], *, progress: StreamProgress | None = None
) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Embeddings of images in files.

    Returns:
        float32 (n, dim), a row of NaN for an image that cannot be used, and the reasons of these by number. The
        numbers have passed through float16, as those of a workspace's archive have.
    """
    unread: dict[int, str] = {}
    result = engine.run(read_files(files, unread), len(files), k=1, progress=progress)
    if result.embeddings is None:
        raise ModelError("the network gave no embeddings", path=engine.model.folder)
    embeddings = np.full((len(files), engine.backbone.dim), np.nan, np.float32)
    embeddings[result.index] = result.embeddings
    return embeddings, {**unread, **result.failures}
