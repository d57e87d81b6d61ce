"""Trains a built-in model on the VLIZ FlowCam training images, from ImageNet weights or an earlier checkpoint.

    python training/train_flowcam.py --images DIR... --validation DIR --dated-csv CSV --weights NPZ --out DIR

With ``--taught`` it learns half from what an earlier network saw in the same images (``training/teach.py``).
Progressive image size, one learning-rate cycle over all epochs, weight average for the result. Writes a checkpoint
after every epoch and continues from it when started again. ``training/export_flowcam.py`` makes the shipped model of it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from images import read_class_folders, validation_names

from plankter.classify.finetune_loop import follow
from plankter.classify.finetune_setup import keep_freed_memory
from plankter.classify.networks import build_backbone
from plankter.classify.networks.efficientnet_lite import load_imagenet
from plankter.classify.networks.layers import Classifier
from plankter.classify.networks.mobilenet_v2 import load_folded_imagenet
from plankter.classify.splits import judges
from plankter.vignettes.augment import Augmentation, augment
from plankter.vignettes.letterbox import size_inputs

SAVE_EVERY_STEPS = 100
SIZE_UNKNOWN_P = 0.15
LABEL_SMOOTHING = 0.05
TEACHER_WEIGHT = 0.5
AVERAGE_DECAY = 0.9985


def batches(
    data: dict, px: int, batch: int, seed: int, skip: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Shuffled augmented batches of one epoch from number ``skip`` on, made one ahead in a thread; the size is hidden
    now and then."""
    order = np.random.default_rng(seed).permutation(len(data["labels"]))
    how = Augmentation()

    def make(start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = order[start : start + batch]
        rng = np.random.default_rng((seed, start))
        pixels = np.stack([augment(data["pixels"][i], px, rng, how) for i in rows])
        sizes = data["sizes"][rows].copy()
        sizes[rng.random(len(rows)) < SIZE_UNKNOWN_P] = np.nan
        inputs = size_inputs(sizes[:, 0], sizes[:, 1])
        taught = data["taught"][rows] if "taught" in data else None
        wanted = soft_targets(data["labels"][rows], taught, data["classes"])
        return torch.from_numpy(pixels), torch.from_numpy(inputs), torch.from_numpy(wanted)

    starts = range(skip * batch, len(order) - batch + 1, batch)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, starts[0])
        for following in starts[1:]:
            ready, ahead = ahead.result(), pool.submit(make, following)
            yield ready
        yield ahead.result()


@torch.no_grad()
def evaluate(model: Classifier, data: dict, px: int) -> tuple[float, float]:
    """Top-1 and macro-F1 over the images as they lie."""
    model.train(False)
    found = []
    for start in range(0, len(data["labels"]), 256):
        rows = slice(start, start + 256)
        small = np.stack([cv2.resize(p, (px, px), interpolation=cv2.INTER_AREA) for p in data["pixels"][rows]])
        sizes = size_inputs(data["sizes"][rows, 0], data["sizes"][rows, 1])
        found.append(model(torch.from_numpy(small), torch.from_numpy(sizes)).argmax(1).numpy())
    predicted, true = np.concatenate(found), data["labels"]
    f1 = []
    for c in np.unique(true):
        hit = np.sum((predicted == c) & (true == c))
        f1.append(2 * hit / (np.sum(predicted == c) + np.sum(true == c)))
    return float(np.mean(predicted == true)), float(np.mean(f1))


@dataclass
class Progress:
    """All that a checkpoint holds."""

    model: Classifier
    average: Classifier
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    done: int = 0
    step: int = 0  # within the epoch that is running
    history: list[dict[str, float]] = field(default_factory=list)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for name in ("model", "average", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.done, self.step, self.history = state["done"], state["step"], state["history"]

    def save(self, path: Path, **facts: object) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser", "schedule")}
        torch.save(
            {**parts, "done": self.done, "step": self.step, "history": self.history, **facts}, path.with_suffix(".new")
        )
        path.with_suffix(".new").replace(path)


def soft_targets(labels: np.ndarray, taught: np.ndarray | None, classes: int) -> np.ndarray:
    """Shares (n, classes) to be learnt: smoothed labels, or half the label and half what a teacher saw
    (Hinton et al. 2015); a teacher's doubt smooths where classes are alike, and softens wrong labels."""
    own = np.eye(classes, dtype=np.float32)[labels]
    if taught is None:
        return (1 - LABEL_SMOOTHING) * own + LABEL_SMOOTHING / classes
    seen = taught.astype(np.float32)
    return (1 - TEACHER_WEIGHT) * own + TEACHER_WEIGHT * seen / seen.sum(1, keepdims=True)


def train_epoch(at: Progress, data: dict, px: int, batch: int, save: Callable[[], None]) -> float:
    """One pass over the training images, or the rest of one that was killed; returns the mean loss."""
    bf16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    started, losses, per_epoch = time.time(), [], len(data["labels"]) // batch
    at.model.train()
    first = at.step
    for step, (pixels, sizes, wanted) in enumerate(batches(data, px, batch, at.done + 1, first), first):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores = at.model(pixels, sizes).float()
            loss = F.cross_entropy(scores, wanted)
        at.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        at.optimiser.step()
        at.schedule.step()
        follow(at.average, at.model, at.done * per_epoch + step, AVERAGE_DECAY)
        losses.append(loss.item())
        at.step = step + 1
        if step % SAVE_EVERY_STEPS == SAVE_EVERY_STEPS - 1:
            save()
        if step % 50 == 0:
            rate = (step + 1 - first) * batch / (time.time() - started)
            print(
                f"epoch {at.done + 1} step {step}/{per_epoch} loss {np.mean(losses[-50:]):.3f} {rate:.0f}/s", flush=True
            )
    at.step = 0
    return float(np.mean(losses)) if losses else float("nan")


def start(network: str, classes: int, train: dict, weights: Path, lr: float, steps: int) -> Progress:
    """A network from ImageNet weights (npz of a MobileNetV2, pth of an EfficientNet-Lite) or from an earlier
    checkpoint's average (pt), its optimiser and one learning-rate cycle."""
    model = Classifier(build_backbone(network), classes)
    if weights.suffix == ".pth":
        load_imagenet(model.backbone, weights)
    elif weights.suffix == ".pt":
        model.load_state_dict(torch.load(weights, weights_only=True)["average"])
    else:
        sample = np.random.default_rng(0).choice(len(train["labels"]), min(512, len(train["labels"])), replace=False)
        load_folded_imagenet(model.backbone, weights, torch.from_numpy(train["pixels"][sample]))
    model = model.to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
    return Progress(model, copy.deepcopy(model), optimiser, schedule)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--dated-csv", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet npz or pth, or checkpoint.pt")
    parser.add_argument("--network", default="mobilenet_v2", help="of plankter.classify.networks")
    parser.add_argument("--taught", type=Path, help="npy of training/teach.py, made of the same cache")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder of the letterboxed images, made where missing"
    )
    parser.add_argument("--epochs-px", type=int, nargs="+", default=[56, 56, 56, 80, 80])
    parser.add_argument(
        "--cached-px", type=int, default=80, help="letterboxed once to this side; epochs reduce by area"
    )
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(1)
    keep_freed_memory()
    classes = sorted(p.name for p in args.images[0].iterdir() if p.is_dir())
    leave_out = validation_names(args.dated_csv)
    args.out.mkdir(parents=True, exist_ok=True)
    train = read_class_folders(args.images, classes, args.cached_px, args.cache / "train.npz", leave_out)
    val = read_class_folders([args.validation], classes, args.cached_px, args.cache / "val.npz", set())
    if overlap := set(train["names"].tolist()) & set(val["names"].tolist()):
        raise SystemExit(f"{len(overlap)} validation images among the training images, e.g. {sorted(overlap)[0]}")
    fits = np.array([not judges(name) for name in val["names"].tolist()])
    val = {key: values[fits] for key, values in val.items()}  # the other half judges at the end, once
    extra = {"classes": len(classes)}
    if args.taught:
        extra["taught"] = np.load(args.taught)
        if extra["taught"].shape != (len(train["labels"]), len(classes)):
            raise SystemExit(f"{args.taught}: made of other images or classes than {args.cache}")
    steps = len(train["labels"]) // args.batch * len(args.epochs_px)
    at = start(args.network, len(classes), train, args.weights, args.lr, steps)
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists():
        at.load(checkpoint)
    counts = np.bincount(train["labels"], minlength=len(classes)).tolist()
    for px in args.epochs_px[at.done :]:
        started = time.time()

        def save(px: int = px) -> None:
            at.save(checkpoint, classes=classes, class_counts=counts, px=px, network=args.network)

        loss = train_epoch(at, train | extra, px, args.batch, save)
        top1, macro_f1 = evaluate(at.average, val, px)
        at.done += 1
        minutes = (time.time() - started) / 60
        facts = {"epoch": at.done, "px": px, "minutes": minutes, "loss": loss, "top1": top1, "macro_f1": macro_f1}
        at.history.append(facts)
        print(json.dumps(facts), flush=True)
        save()


if __name__ == "__main__":
    main()
