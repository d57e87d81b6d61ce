"""Which part of one image speaks for a class, as a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, ModelError, NotFound, SettingsError
from plankter.classify.head import Head
from plankter.classify.models import BACKBONE_FILE
from plankter.classify.saliency import Scores, occlusion_map
from plankter.classify.saliency_cam import activation_map, on_vignette
from plankter.classify.saliency_check import ErasureCheck, erasure_check
from plankter.classify.saliency_rise import MASKS, rise_map
from plankter.features.last_map import HINT, LastMap
from plankter.publish.saliency_picture import FALL, saliency_png
from plankter.taxa.classes import match_name
from plankter.vignettes.codec import decode_image, encode_vignette, read_image
from plankter.vignettes.letterbox import letterbox, letterbox_fit, size_inputs
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

BEST = 5
METHODS = ("occlusion", "rise", "cam")
LOGIT = "part of the logit\n(below 0: against)"
Vignette = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Map:
    values: npt.NDArray[np.float32]
    unit: str
    facts: dict[str, Any]


def explain(
    image: Path,
    out: Path,
    *,
    model: str = "flowcam",
    class_name: str | None = None,
    method: str = "occlusion",
    patch_px: int | None = None,
    masks: int = MASKS,
    workspace: Workspace | None = None,
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Draws which part of an image speaks for a class, and checks the map by covering and uncovering in its order.

    Args:
        image: the file, or ``RUN:INDEX`` for a particle of the workspace.
        out: PNG to write.
        model: name, id or folder.
        class_name: the class asked about; None for the one of the highest score.
        method: "occlusion" covers piece by piece, "rise" by random masks, "cam" reads the network's last map.
        patch_px: of "occlusion": side of what is covered at a time; None for a fifth of the longer side.
        masks: of "rise": how many.

    Returns:
        The object that ``plankter explain --json`` prints; ``x_px`` and ``y_px`` are the place of the largest value.

    Raises:
        ImageError: not an image. NotFound: no such model, class or particle. SettingsError: ``out``, the method, the patch or the
        masks. ModelError: "cam" of a model that has no averaged last map under a linear head.
    """
    _check(image, out, method, patch_px, masks)
    chosen = find_model(model, workspace)
    ids = chosen.class_ids
    class_id = _class_id(class_name, ids)
    vignette = _vignette(image, workspace)
    engine = load_engine(chosen, workspace, precision=precision)
    whole = _scores(engine, vignette[None])[0]
    order = np.argsort(-whole, kind="stable")
    position = int(order[0]) if class_id is None else ids.index(class_id)
    score = _counting(engine, progress)
    found = _map(method, engine, vignette, score, position, patch_px, masks)
    check = erasure_check(vignette, score, position, found.values)
    best = [{"class_id": ids[k], "score": round(float(whole[k]), 5)} for k in order[:BEST].tolist()]
    title = f"{image.name}: what speaks for {ids[position]} (score {whole[position]:.2f})"
    pairs = [(ids[k], float(whole[k])) for k in order[:BEST].tolist()]
    _write(out, saliency_png(vignette, found.values, title=title, best=pairs, unit=found.unit))
    return {
        "model_id": chosen.model_id,
        "precision": engine.backbone.precision,
        "image": str(image),
        "class_id": ids[position],
        "score": round(float(whole[position]), 5),
        "best": best,
        "method": method,
        **found.facts,
        **_place(found.values),
        "check": _check_numbers(check),
        "out": str(out),
    }


def _counting(engine: Engine, progress: Progress) -> Scores:
    """Scores of vignettes; ``progress`` is told how many there were so far."""
    done = 0

    def score(tried: Vignette) -> npt.NDArray[np.float32]:
        nonlocal done
        done += len(tried)
        progress("covers tried", done, None)
        return _scores(engine, tried)

    return score


def _place(values: npt.NDArray[np.float32]) -> dict[str, int]:
    """Where the largest value of a map is, px from its upper left corner."""
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    return {"x_px": int(x), "y_px": int(y)}


def _check_numbers(check: ErasureCheck) -> dict[str, Any]:
    found = {name: round(value, 5) for name, value in asdict(check).items()}
    return {**found, "better_than_random": check.better_than_random}


def _check(image: Path, out: Path, method: str, patch_px: int | None, masks: int) -> None:
    if out.exists() and image.exists() and out.samefile(image):
        raise SettingsError("the map would overwrite the image", path=out, hint="name another file")
    if method not in METHODS:
        raise SettingsError(f"the method must be one of {', '.join(METHODS)}, got {method!r}")
    if out.suffix.lower() != ".png":
        raise SettingsError("expected a file that ends in .png", path=out)
    if patch_px is not None and patch_px < 1:
        raise SettingsError(f"expected a patch of 1 px or more, got {patch_px}")
    if masks < 2:
        raise SettingsError(f"expected 2 masks or more, got {masks}")


def _class_id(name: str | None, ids: Sequence[str]) -> str | None:
    if name is None:
        return None
    class_id = match_name(name, ids)
    if class_id is None:
        raise NotFound(f"the model knows no class {name!r}", hint=f"it knows {', '.join(ids[:3])}, ...")
    return class_id


def _vignette(image: Path, workspace: Workspace | None) -> Vignette:
    named = re.fullmatch(r"(.+):(\d+)", str(image))
    if workspace is None or named is None or image.exists():
        return read_image(image, grey=True)
    for _, png in workspace.archive.open(named[1]).read_vignettes([int(named[2])]):
        return decode_image(png, grey=True)
    raise NotFound(f"particle {named[2]} of run {named[1]} has no vignette")


def _map(
    method: str, engine: Engine, vignette: Vignette, score: Scores, position: int, patch_px: int | None, masks: int
) -> _Map:
    if method == "cam":
        values = _activation(engine, vignette, position)
        return _Map(values, LOGIT, {"largest_part": round(float(values.max()), 5)})
    if method == "rise":
        by_masks = rise_map(vignette, score, position, masks=masks)
        facts: dict[str, Any] = {"masks": by_masks.masks}
        fall = by_masks.fall
    else:
        by_patches = occlusion_map(vignette, score, position, patch_px=patch_px)
        facts = {"patch_px": by_patches.patch_px, "patches": by_patches.covered}
        fall = by_patches.fall
    return _Map(fall, FALL, {**facts, "largest_fall": round(float(fall.max()), 5)})


def _activation(engine: Engine, vignette: Vignette, position: int) -> npt.NDArray[np.float32]:
    head = engine.predictor.scorer
    if not isinstance(head, Head):
        raise ModelError("class activation needs a linear head, this model has trees", hint=HINT)
    network = LastMap(engine.model.folder / BACKBONE_FILE)
    height, width = vignette.shape
    last = network.read(letterbox(vignette, network.input_px), size_inputs(width, height))
    weight = head.weight[network.first : network.first + network.features] / head.temperature
    fit = letterbox_fit(height, width, network.input_px)
    return on_vignette(activation_map(last, weight, position), fit, height, width)


def _write(out: Path, png: bytes) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_bytes(png)
    partial.replace(out)


def _scores(engine: Engine, vignettes: Vignette) -> npt.NDArray[np.float32]:
    """(n, classes) scores on the path of every prediction, so that a covered image is treated as any other is."""
    classes = len(engine.model.class_ids)
    items = ((k, encode_vignette(vignette)) for k, vignette in enumerate(vignettes))
    result = engine.run(items, len(vignettes), k=classes, keep_embeddings=False)
    if result.failures:
        raise ImageError(f"the model cannot score it: {next(iter(result.failures.values()))}")
    scores = np.zeros((len(vignettes), classes), np.float32)
    np.put_along_axis(scores, result.best.astype(np.int64), result.scores, axis=1)
    return scores
