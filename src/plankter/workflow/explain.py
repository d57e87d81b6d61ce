"""Which part of one image speaks for a class, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, NotFound, SettingsError
from plankter.classify.saliency import occlusion_map
from plankter.publish.saliency_picture import saliency_png
from plankter.taxa.classes import match_name
from plankter.vignettes.codec import encode_vignette, read_image
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

BEST = 5


def explain(
    image: Path,
    out: Path,
    *,
    model: str = "flowcam",
    class_name: str | None = None,
    patch_px: int | None = None,
    workspace: Workspace | None = None,
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Covers an image piece by piece and draws how far the score of a class falls.

    Args:
        image: the file.
        out: PNG to write.
        model: name, id or folder.
        class_name: the class asked about; None for the one of the highest score.
        patch_px: side of what is covered at a time; None for a fifth of the longer side.

    Returns:
        The object that ``plankter explain --json`` prints; ``x_px`` and ``y_px`` are the place of the largest fall.

    Raises:
        ImageError: not an image. NotFound: no such model or class. SettingsError: ``out`` or the patch.
    """
    if out.suffix.lower() != ".png":
        raise SettingsError("expected a file that ends in .png", path=out)
    if patch_px is not None and patch_px < 1:
        raise SettingsError(f"expected a patch of 1 px or more, got {patch_px}")
    chosen = find_model(model, workspace)
    ids = chosen.class_ids
    class_id = None if class_name is None else match_name(class_name, ids)
    if class_name is not None and class_id is None:
        raise NotFound(f"the model knows no class {class_name!r}", hint=f"it knows {', '.join(ids[:3])}, ...")
    vignette = read_image(image, grey=True)
    engine = load_engine(chosen, workspace, precision=precision)
    whole = _scores(engine, vignette[None])[0]
    order = np.argsort(-whole, kind="stable")
    position = int(order[0]) if class_id is None else ids.index(class_id)
    done = 0

    def score(tried: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal done
        done += len(tried)
        progress("patches", done, None)
        return _scores(engine, tried)

    found = occlusion_map(vignette, score, position, patch_px=patch_px)
    best = [{"class_id": ids[k], "score": round(float(whole[k]), 5)} for k in order[:BEST].tolist()]
    title = f"{image.name}: what speaks for {ids[position]} (score {found.score:.2f})"
    pairs = [(str(entry["class_id"]), float(whole[k])) for entry, k in zip(best, order, strict=False)]
    png = saliency_png(vignette, found.fall, title=title, best=pairs)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_bytes(png)
    partial.replace(out)
    y, x = np.unravel_index(int(found.fall.argmax()), found.fall.shape)
    return {
        "model_id": chosen.model_id,
        "precision": engine.backbone.precision,
        "image": str(image),
        "class_id": ids[position],
        "score": round(found.score, 5),
        "best": best,
        "patch_px": found.patch_px,
        "patches": found.covered,
        "largest_fall": round(float(found.fall.max()), 5),
        "x_px": int(x),
        "y_px": int(y),
        "out": str(out),
    }


def _scores(engine: Engine, vignettes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n, classes) scores on the path of every prediction, so that a covered image is treated as any other is."""
    classes = len(engine.model.class_ids)
    items = ((k, encode_vignette(vignette)) for k, vignette in enumerate(vignettes))
    result = engine.run(items, len(vignettes), k=classes, keep_embeddings=False)
    if result.failures:
        raise ImageError(f"the model cannot score it: {next(iter(result.failures.values()))}")
    scores = np.zeros((len(vignettes), classes), np.float32)
    np.put_along_axis(scores, result.best.astype(np.int64), result.scores, axis=1)
    return scores
