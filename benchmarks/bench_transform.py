"""Does matching another instrument's vignettes to those that a model knows help it?

    python benchmarks/bench_transform.py DATA_FOLDER VLIZ_TRAIN_FOLDER VLIZ_VAL_FOLDER [--part NAME] [--out FILE]

DATA_FOLDER holds ``labelled/ecotaxa_ml_4class`` (ZooScan) and ``labelled/flowcam_pygsuia`` (another FlowCam); the other
two are the unpacked training and validation images of the North Sea FlowCam, one folder a class. The statistics to be
matched come from training images, those of a set from all its images without their labels; no setting was chosen by a
label. Scores are those of the shipped model; intervals are 95 % of 2,000 bootstrap samples of the images, paired.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter.classify.head import load_head
from plankter.classify.splits import judges
from plankter.taxa.classes import shipped_class_list
from plankter.types import ImageArray
from plankter.vignettes.codec import read_image
from plankter.vignettes.letterbox import letterbox, size_inputs, to_grey
from plankter.vignettes.match import ImageStatistics, Matching, measure_statistics, plan_matching
from plankter.workflow.classify import load_backbone
from plankter.workflow.predict import image_files
from plankter.workflow.transform import transform
from plankter.workflow.workspace import find_model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Groups = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
CRUSTACEA = ("Copepoda_adult", "Crustacea", "Crustaceae-part", "Nauplii")
DEBRIS = ("Detritus", "Remnant", "Faecal_pellet", "Fibers")
# what both instruments saw: classes of the ZooScan set, and those of the North Sea FlowCam that they can be there
SHARED: Groups = {"copepods": (("Copepoda",), CRUSTACEA), "detritus": (("detritus",), DEBRIS)}
# the same with two classes that the FlowCam's list has only in the wider sense (it has no Cladocera, no nectophores)
LOOSE: Groups = {
    "crustacea": (("Copepoda", "Cladocera"), CRUSTACEA),
    "gelatinous": (("Siphonophorae",), ("Cnidaria",)),
    "detritus": (("detritus",), DEBRIS),
}
SEED = 0


class Network:
    """The shipped model: embeddings and class scores of images."""

    def __init__(self) -> None:
        self.model = find_model("flowcam")
        self.backbone = load_backbone(self.model, precision="f32")
        self.head = load_head(self.model.folder)

    def embed(self, images: Sequence[ImageArray]) -> npt.NDArray[np.float32]:
        """(n, dim) embeddings."""
        squares = np.stack([letterbox(image, self.model.input_px) for image in images])
        sizes = size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images])
        return self.backbone.embed(squares, sizes)

    def columns(self, class_ids: Sequence[str]) -> Ints:
        """Their places among the scores."""
        return np.array([self.model.class_ids.index(c) for c in class_ids])


def load(
    folder: Path, classes: Sequence[str], at_most: int, keep: Callable[[str], bool] | None = None
) -> tuple[list[ImageArray], Ints]:
    """Images of some classes, at most so many a class, and the number of each one's class."""
    rng = np.random.default_rng(SEED)
    images, labels = [], []
    for number, name in enumerate(classes):
        files = [p for p in image_files(folder / name) if keep is None or keep(p.name)]
        chosen = files if len(files) <= at_most else [files[k] for k in sorted(rng.choice(len(files), at_most, False))]
        images += [read_image(path) for path in chosen]
        labels += [number] * len(chosen)
    return images, np.array(labels)


def apply(plan: Matching, images: Sequence[ImageArray]) -> list[ImageArray]:
    """All images of a set, matched."""
    return [plan.apply(image)[0] for image in images]


def balanced(right: npt.NDArray[np.bool_], labels: Ints) -> float:
    """Mean over the classes of the share that is right."""
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


def change(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], labels: Ints) -> dict[str, Any]:
    """Both shares, plain and balanced, with the paired interval of their difference in points."""
    rng = np.random.default_rng(SEED)
    by_class = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    plain, even = [], []
    for _ in range(2000):
        drawn = [rng.choice(members, len(members)) for members in by_class]
        gains = [after[d].mean() - before[d].mean() for d in drawn]
        even.append(np.mean(gains))
        plain.append(np.average(gains, weights=[len(d) for d in drawn]))
    return {
        "images": len(labels),
        "top1": [percent(before.mean()), percent(after.mean()), *interval(plain)],
        "balanced": [percent(balanced(before, labels)), percent(balanced(after, labels)), *interval(even)],
    }


def percent(share: float) -> float:
    return round(100 * float(share), 1)


def interval(values: Sequence[float]) -> list[float]:
    return [percent(q) for q in np.quantile(values, (0.025, 0.975))]


def mmd2(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], scale: Floats) -> float:
    """Squared maximum mean discrepancy, unbiased (Gretton et al. 2012, JMLR 13:723), Gaussian kernel; ``scale`` divides
    the embeddings; the width is the median distance of all pairs."""
    x = np.concatenate((a, b)) / scale
    square = (x**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None] - 2 * x @ x.T, 0)
    kernel = np.exp(-distance / np.median(distance[np.triu_indices(len(x), 1)]))
    n, m = len(a), len(b)
    within_a = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_b = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel[:n, n:].mean())


def lda(x: Floats, labels: Ints, shrink: float = 0.3) -> Callable[[Floats], Ints]:
    """Linear discriminant with a covariance shrunk towards its diagonal, every class equally likely."""
    mean = np.stack([x[labels == c].mean(axis=0) for c in np.unique(labels)])
    rest = x - mean[labels]
    covariance = rest.T @ rest / len(x)
    covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance)) + 1e-4 * np.eye(x.shape[1])
    weight = np.linalg.solve(covariance, mean.T)
    bias = -0.5 * np.einsum("cd,dc->c", mean, weight)
    return lambda other: np.asarray((other @ weight + bias).argmax(axis=1))


def zooscan(net: Network, data: Path, train: Path, val: Path, like: ImageStatistics, groups: Groups) -> dict[str, Any]:
    """The ZooScan set: the shipped model as it is, and heads trained on one instrument and judged on the other."""
    here = [name for ours, _ in groups.values() for name in ours]
    group = np.array([k for k, (ours, _) in enumerate(groups.values()) for _ in ours])
    raw, labels = load(data / "labelled" / "ecotaxa_ml_4class", here, 10_000)
    truth = group[labels]
    of = measure_statistics(raw)
    plan = plan_matching(of, like)
    parts = {
        "raw": raw,
        "matched": apply(plan, raw),
        "bars and margins only": apply(replace(plan, gain=1.0, density=False, like=replace(like, **greys(of))), raw),
        "greys only": apply(replace(plan, scale_bars=False, margin=None), raw),
        "greys as differences": apply(replace(plan, density=False, gain=like.contrast / of.contrast), raw),
    }
    embedded = {name: net.embed(images) for name, images in parts.items()}
    theirs = [name for _, names in groups.values() for name in names]
    their_group = np.array([k for k, (_, names) in enumerate(groups.values()) for _ in names])
    far, far_labels = load(train, theirs, 300)
    far_x, far_y = net.embed(far), their_group[far_labels]
    near, near_labels = load(val, theirs, 100)
    near_x, near_y = net.embed(near), their_group[near_labels]
    scale = far_x.std(axis=0).astype(np.float64) + 1e-3
    by_group = {name: grouped(net, x, groups) for name, x in embedded.items()}
    any_class = {name: whole_list(net, x, groups) for name, x in embedded.items()}
    from_flowcam = lda(far_x / scale, far_y)
    result: dict[str, Any] = {
        "plan": facts(plan),
        "mmd2": {name: round(mmd2(x, near_x, scale), 4) for name, x in embedded.items()},
    }
    for name in list(parts)[1:]:
        result[name] = {
            "shipped model, best of the groups": change(by_group["raw"] == truth, by_group[name] == truth, truth),
            "shipped model, whole list": change(any_class["raw"] == truth, any_class[name] == truth, truth),
            "head trained on FlowCam": change(
                from_flowcam(embedded["raw"] / scale) == truth, from_flowcam(embedded[name] / scale) == truth, truth
            ),
            "head trained on ZooScan, judged on FlowCam": change(
                lda(embedded["raw"] / scale, truth)(near_x / scale) == near_y,
                lda(embedded[name] / scale, truth)(near_x / scale) == near_y,
                near_y,
            ),
        }
    return result


def greys(of: ImageStatistics) -> dict[str, Any]:
    """The fields of a description that say how bright a set is."""
    names = ("background", "background_bgr", "background_spread", "contrast")
    return {name: getattr(of, name) for name in names}


def grouped(net: Network, embedded: npt.NDArray[np.float32], groups: Groups) -> Ints:
    """The shared group with the highest summed score."""
    scores = net.head.scores(embedded)
    return np.stack([scores[:, net.columns(names)].sum(axis=1) for _, names in groups.values()], axis=1).argmax(axis=1)


def whole_list(net: Network, embedded: npt.NDArray[np.float32], groups: Groups) -> Ints:
    """The shared group of the best of all classes, -1 for a class of none."""
    best = net.head.scores(embedded).argmax(axis=1)
    group = np.full(len(net.model.class_ids), -1)
    for number, (_, names) in enumerate(groups.values()):
        group[net.columns(names)] = number
    return group[best]


def other_flowcam(net: Network, data: Path, like: ImageStatistics, val: Path) -> dict[str, Any]:
    """The other FlowCam: is a cell told from junk by the shipped model's score of all living classes?"""
    raw, junk = load(data / "labelled" / "flowcam_pygsuia", ("Protist", "Junk"), 10_000)
    kinds = {taxon.class_id: taxon.kind for taxon in shipped_class_list()}
    living = np.array([kinds[c] == "living" for c in net.model.class_ids])
    of = measure_statistics(raw)
    plan = plan_matching(of, like)
    sets = {"raw": raw, "matched": apply(plan, raw), "matched, margins left": apply(replace(plan, margin=None), raw)}
    near, _ = load(val, sorted(p.name for p in val.iterdir() if p.is_dir()), 8)
    near_x = net.embed(near)
    scale = near_x.std(axis=0).astype(np.float64) + 1e-3
    result: dict[str, Any] = {"plan": facts(plan), "images": len(raw), "auroc": {}, "balanced": {}, "mmd2": {}}
    for name, images in sets.items():
        x = net.embed(images)
        score = net.head.scores(x)[:, living].sum(axis=1)
        result["auroc"][name] = round(auroc(score, junk == 0), 3)
        result["balanced"][name] = percent(balanced((score > 0.5) == (junk == 0), junk))
        result["mmd2"][name] = round(mmd2(x, near_x, scale), 4)
    return result


def auroc(score: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Share of pairs of one positive and one negative in which the positive has the higher score; ties count half."""
    order = np.sort(score[~positive])
    below = np.searchsorted(order, score[positive], "left") + np.searchsorted(order, score[positive], "right")
    return float(below.mean() / 2 / len(order))


def degraded(net: Network, val: Path, like: ImageStatistics, a_class: int) -> dict[str, Any]:
    """FlowCam images as another instrument would have made them: how much of what that costs does matching give back?"""
    names = [p.name for p in sorted(val.iterdir()) if p.is_dir() and p.name in net.model.class_ids]
    clean, labels = load(val, names, a_class, judges)
    truth = net.columns(names)[labels]
    ways: dict[str, tuple[Callable[[ImageArray], ImageArray], float | None]] = {
        "turned polarity": (lambda i: np.asarray(255 - to_grey(i), np.uint8), None),
        "lamp at two thirds": (lambda i: np.asarray(np.rint(to_grey(i) * (2 / 3)), np.uint8), None),
        "60 grey levels less, dark ones cut off": (lambda i: toned(i, 1.0, -60), None),
        "half the contrast": (lambda i: toned(i, 0.5, 0), None),
        "0.6 of the pixels": (lambda i: zoomed(i, 0.6), 1 / 0.6),
        "white frame and scale bar": (with_bar, None),
        "blue light": (tinted, None),
        "all of these": (lambda i: tinted(with_bar(255 - toned(zoomed(i, 0.6), 0.5, -60))), 1 / 0.6),
    }

    def top1(images: Sequence[ImageArray]) -> npt.NDArray[np.bool_]:
        return np.asarray(net.head.scores(net.embed(images)).argmax(axis=1) == truth)

    best = top1(clean)
    result: dict[str, Any] = {"images": len(clean), "clean": percent(best.mean())}
    for name, (way, um_per_px) in ways.items():
        worse = [way(image) for image in clean]
        plan = plan_matching(
            measure_statistics(worse), like, um_per_px=um_per_px, like_um_per_px=1.0 if um_per_px else None
        )
        before, after = top1(worse), top1(apply(plan, worse))
        lost = best.mean() - before.mean()
        result[name] = {
            "degraded": percent(before.mean()),
            "matched": percent(after.mean()),
            "recovered": round(float((after.mean() - before.mean()) / lost), 2) if lost > 0 else None,
            "plan": facts(plan),
        }
    unchanged = apply(plan_matching(measure_statistics(clean), like), clean)
    result["clean, matched all the same"] = percent(top1(unchanged).mean())
    return result


def toned(image: ImageArray, gain: float, offset: float) -> ImageArray:
    """Contrast about the image's own background, then brightness."""
    grey = to_grey(image)
    background = float(np.median(np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))))
    return np.asarray(np.clip(np.rint((grey - background) * gain + background + offset), 0, 255), np.uint8)


def zoomed(image: ImageArray, zoom: float) -> ImageArray:
    size = (max(4, round(image.shape[1] * zoom)), max(4, round(image.shape[0] * zoom)))
    return np.asarray(cv2.resize(to_grey(image), size, interpolation=cv2.INTER_AREA), np.uint8)


def with_bar(image: ImageArray) -> ImageArray:
    """A white frame of 3 px, and below it a strip with a bar and its label, as databases burn them in."""
    grey = to_grey(np.asarray(image, np.uint8))
    height, width = max(grey.shape[0], 8), max(grey.shape[1], 40)
    background = int(np.median(np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))))
    canvas = np.full((height + 30, width), background, np.uint8)
    canvas[: grey.shape[0], : grey.shape[1]] = grey
    ink = 0 if background > 127 else 255
    canvas[-6:-4, 6:34] = ink
    cv2.putText(canvas, "1 mm", (6, height + 20), cv2.FONT_HERSHEY_PLAIN, 0.7, ink, 1, cv2.LINE_8)
    return cv2.copyMakeBorder(canvas, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=255)  # type: ignore[return-value]


def tinted(image: ImageArray) -> ImageArray:
    grey = to_grey(image).astype(np.float32)
    return np.asarray(np.stack([np.clip(grey * f, 0, 255) for f in (1.25, 0.95, 0.9)], axis=2), np.uint8)


FEW = {"Copepoda": 60, "detritus": 40, "Cladocera": 10, "Siphonophorae": 5}  # images a class that a head learns from


def balanced_copies(net: Network, folder: Path, repeat: int) -> dict[str, Any]:
    """A head from a few ZooScan images of uneven classes: as they are, balanced, and with copies of all of them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for draw in range(repeat):
        with tempfile.TemporaryDirectory() as scratch:
            few, rest = Path(scratch) / "few", Path(scratch) / "rest"
            rng = np.random.default_rng(draw)
            for name, count in FEW.items():
                files = [image_files(folder / name)[k] for k in rng.permutation(len(image_files(folder / name)))]
                for number, path in enumerate(files):
                    to = (few if number < count else rest) / name
                    to.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, to)
            transform(few, few.with_name("balanced"), balance=60, seed=draw)
            transform(few, few.with_name("copies"), copies=4, seed=draw)
            images, truth = load(rest, list(FEW), 10_000)
            x = net.embed(images).astype(np.float64)
            for way in ("few", "balanced", "copies"):
                known, labels = load(few.with_name(way), list(FEW), 10_000)
                right = softmax_head(net.embed(known).astype(np.float64), labels)(x) == truth
                found.setdefault(way, []).append((float(right.mean()), balanced(right, truth)))
    return {
        way: {
            "top1": percent(np.mean([t for t, _ in values])),
            "balanced": percent(np.mean([b for _, b in values])),
            "balanced, less uneven": [percent(b - few) for (_, b), (_, few) in zip(values, found["few"], strict=True)],
        }
        for way, values in found.items()
    }


def softmax_head(x: Floats, labels: Ints, steps: int = 300, decay: float = 1e-3) -> Callable[[Floats], Ints]:
    """Multinomial logistic regression on standardised embeddings, by Adam on all of them at once."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    known, wanted = (x - mean) / scale, np.eye(int(labels.max()) + 1)[labels]
    weight = np.zeros((x.shape[1] + 1, wanted.shape[1]))
    known = np.hstack((known, np.ones((len(known), 1))))
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, steps + 1):
        logits = known @ weight
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        slope = known.T @ (share - wanted) / len(known) + decay * weight
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        weight -= 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return lambda other: np.asarray((np.hstack(((other - mean) / scale, np.ones((len(other), 1)))) @ weight).argmax(1))


def facts(plan: Matching) -> dict[str, Any]:
    """The step in short."""
    names = ("scale_bars", "frames", "margin", "grey", "invert", "density", "gain", "keep", "zoom")
    found = {name: getattr(plan, name) for name in names}
    return {name: round(v, 3) if isinstance(v, float) else v for name, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--a-class", type=int, default=20, help="images a class that are degraded")
    parser.add_argument("--repeat", type=int, default=10, help="draws of the set that is balanced")
    parser.add_argument("--part", action="append", help="one of the parts alone; may be given again")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    net = Network()
    names = sorted(p.name for p in args.train.iterdir() if p.is_dir())
    like = measure_statistics(load(args.train, names, 20)[0])
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "zooscan": lambda: zooscan(net, args.data, args.train, args.val, like, SHARED),
        "zooscan, loose groups": lambda: zooscan(net, args.data, args.train, args.val, like, LOOSE),
        "other_flowcam": lambda: other_flowcam(net, args.data, like, args.val),
        "degraded": lambda: degraded(net, args.val, like, args.a_class),
        "balanced copies": lambda: balanced_copies(net, args.data / "labelled" / "ecotaxa_ml_4class", args.repeat),
    }
    result: dict[str, Any] = {"like": like.to_dict()}
    for name, part in parts.items():
        if not args.part or name in args.part:
            result[name] = part()
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
