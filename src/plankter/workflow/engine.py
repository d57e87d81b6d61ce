"""A model ready to work: its network, its head, and what one workspace or command asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.models import read_model_json
from plankter.classify.predictor import TRAINING, Predictor, expected_mix, load_predictor
from plankter.classify.stream import ExtraInputs, StreamProgress, StreamResult, classify_stream
from plankter.features.backbones import OpenVinoBackbone, available_cores
from plankter.features.morphology import measure_many
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model
from plankter.vignettes.letterbox import UInt8Array
from plankter.workflow.workspace import Workspace


@dataclass(frozen=True)
class Engine:
    """One model with its network loaded. ``measures`` and ``context``: what its head takes beside the embedding."""

    model: Model
    backbone: OpenVinoBackbone
    predictor: Predictor
    measures: tuple[str, ...]
    context: tuple[str, ...]
    threads: int

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
        return classify_stream(
            items, total, self.backbone, self.predictor, input_px=self.model.input_px, k=k, threads=self.threads,
            keep_embeddings=keep_embeddings, extra=self._extra(context, um_per_px), progress=progress,
        )  # fmt: skip

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
) -> Engine:
    """A model with its network, ready to predict.

    Args:
        model: which.
        workspace: gives class list, validated labels and settings; None outside one.
        precision: "auto", "f32" or "bf16"; None takes the workspace's setting.
        threads: None takes the workspace's setting, or all cores.
        class_mix: as for `expected_mix`; None takes the workspace's setting, or that of the training.

    Raises:
        ModelError: parts that are damaged or do not fit each other.
        SettingsError: a class mix that cannot be had.
    """
    settings = workspace.settings if workspace else {}
    used = threads or (workspace.threads if workspace else available_cores())
    asked = class_mix or str(settings.get("classify.class_mix", TRAINING))
    mix = expected_mix(asked, model.class_ids, validated=_validated(workspace) if asked == "validated" else None)
    taxa = workspace.catalogue.taxa() if workspace else shipped_class_list()
    inputs = read_model_json(model.folder).get("inputs") or {}
    backbone = load_backbone(
        model, precision=precision or str(settings.get("classify.precision", "auto")), threads=used
    )
    return Engine(
        model, backbone, load_predictor(model, mix=mix, taxa=taxa),
        tuple(inputs.get("measures", ())), tuple(inputs.get("context", ())), used,
    )  # fmt: skip


def _validated(workspace: Workspace | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in workspace.catalogue.class_counts() if workspace else ():
        found[count.class_id] = found.get(count.class_id, 0) + count.validated
    return found


def load_backbone(model: Model, *, precision: str = "auto", threads: int | None = None) -> OpenVinoBackbone:
    """The network of a model, ready to embed."""
    return OpenVinoBackbone(model.folder / "backbone.onnx", precision=precision, threads=threads)


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
