"""Accuracy on dates never seen in training beside the random-split number, for our recipe and for the usual one.

    python benchmarks/bench_dates.py prepare --dated-csv CSV --images DIR... --out RUN
    python benchmarks/bench_dates.py train --out RUN --weights NPZ [--tasks date-0-ours ...]
    python benchmarks/bench_dates.py report --out RUN --json docs/unseen_dates.json

``ours``: letterboxed, grey, augmented, with the size as input; ``robust``: the same with wider augmentation, sizes
varied by 15 % and rare classes drawn more often. ``peer``: stretched to a square, colour as it is, no
augmentation, no size. Same network, starting weights, pixels, images shown, optimiser, schedule and weight average.
Images of the published validation split never train; they judge together with the other images of a held-out fold.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from plankter.classify.calibrate import unsmoothed
from plankter.classify.context_verdict import deal_groups, grouped_error
from plankter.classify.estimated_mix import under_own_mix
from plankter.vignettes.augment import Augmentation
from plankter.vignettes.codec import read_image
from plankter.vignettes.letterbox import letterbox

PX, FOLDS, SEED = 64, 3, 7
SMOOTHING = 0.05
PAIRS = [
    (f"{mine}{mix}", f"peer{theirs}")
    for mine in ("ours", "robust")
    for mix, theirs in (("", ""), ("+mix", ""), ("+mix", "+mix"))
]
# chosen after the years split had been looked at once with the plain recipe: later cameras are softer and darker
ROBUST = Augmentation(scale=0.3, contrast=0.35, brightness=30.0, noise_sd=8.0, blur_p=0.4)
TASKS = [f"date-{f}-{r}" for f in range(FOLDS) for r in ("ours", "peer")]
TASKS += ["years-0-ours", "years-0-peer"]
TASKS += [f"random-{f}-{r}" for f in range(FOLDS) for r in ("ours", "peer")]


def prepare(args: argparse.Namespace) -> None:
    """Decodes the dated images once in both ways and deals them into folds."""
    where = {p.name: p for folder in args.images for p in folder.rglob("*.jpg")}
    with args.dated_csv.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] in where]
    ours = np.zeros((len(rows), PX, PX), np.uint8)
    peer = np.zeros((len(rows), PX, PX, 3), np.uint8)
    sizes, channels = np.zeros((len(rows), 2), np.float32), np.zeros(len(rows), np.int8)
    for i, row in enumerate(rows):
        image = read_image(where[row["file"]])
        channels[i] = 1 if image.ndim == 2 else 3
        ours[i], sizes[i] = letterbox(image, PX), (image.shape[1], image.shape[0])
        colour = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        peer[i] = cv2.resize(colour, (PX, PX), interpolation=cv2.INTER_AREA)
    classes, labels = np.unique([row["class"] for row in rows], return_inverse=True)
    dates = np.array([row["date"] for row in rows])
    rng = np.random.default_rng(SEED)
    cruise = cruises(dates)
    date_fold = deal_groups(cruise.tolist(), FOLDS, rng)
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez(
        args.out / "data.npz", ours=ours, peer=peer, sizes=sizes, channels=channels, classes=classes, labels=labels,
        dates=dates, train=np.array([row["split"] == "train" for row in rows]),
        names=np.array([row["file"] for row in rows]), date_fold=date_fold,
        random_fold=rng.permutation(len(rows)) % FOLDS, years_fold=np.where(dates < "2019", 1, 0),
    )  # fmt: skip
    for fold in range(FOLDS):
        print(fold, np.sum(date_fold == fold), sorted(set(dates[date_fold == fold].tolist())))


def cruises(dates: np.ndarray) -> np.ndarray:
    """The first date of each run of consecutive days: two days of one cruise are no unseen date for each other."""
    first: dict[str, str] = {}
    before = None
    for date in sorted(set(dates.tolist())):
        day = datetime.strptime(date, "%Y%m%d")
        first[date] = first[before[0]] if before and (day - before[1]).days <= 1 else date
        before = date, day
    return np.array([first[d] for d in dates.tolist()])


def train_task(task: str, kept: dict[str, np.ndarray], args: argparse.Namespace) -> None:
    """One training; its scores and embeddings of every dated image are kept."""
    import torch

    from plankter.classify.finetune import FinetuneConfig
    from plankter.classify.finetune_images import ArrayImages
    from plankter.classify.finetune_loop import embed
    from plankter.classify.finetune_setup import prepare as trainer_for

    kind, fold, recipe = task.split("-")
    classes = tuple(str(c) for c in kept["classes"])
    sizes = np.full_like(kept["sizes"], np.nan) if recipe == "peer" else kept["sizes"]
    data = ArrayImages(classes, kept["labels"], sizes, kept["peer" if recipe == "peer" else "ours"])
    recipes: dict[str, dict[str, Any]] = {
        "ours": {"balance": "none"},
        "robust": {"balance": "resample", "size_jitter": 0.15, "augmentation": ROBUST},
        "peer": {"balance": "none", "augmentation": None, "size_hidden": 0.0, "colour": True},
    }
    rows = np.flatnonzero(kept["train"] & (kept[f"{kind}_fold"] != int(fold)))

    class Split:
        train, tune = rows, np.zeros(0, np.int64)

    config = FinetuneConfig(
        start=args.weights, px=PX, epochs=args.epochs, batch=args.batch, lr=args.lr, patience=0, precision="f32",
        average_decay=0.995, **recipes[recipe],
    )  # fmt: skip
    folder = args.out / task
    folder.mkdir(exist_ok=True)
    trainer, _, _ = trainer_for(data, Split(), config)
    trainer.resume(folder)
    started, before = time.perf_counter(), time.process_time()
    trainer.run(folder, Split.tune, lambda step: None, lambda text: print(task, text, flush=True))
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    model, every = trainer.result(), np.arange(len(data.labels))
    embeddings = embed(model, data, every, PX)
    scores = head_scores(model, embeddings)
    np.savez(
        folder / "result.npz", scores=scores.astype(np.float16), embeddings=embeddings.astype(np.float16),
        trained_on=rows, losses=[h["loss"] for h in trainer.state.history], seconds=seconds, cpu_seconds=cpu,
        epochs=config.epochs, threads=torch.get_num_threads(),
    )  # fmt: skip
    held = kept[f"{kind}_fold"] == int(fold)
    right = scores.argmax(1) == kept["labels"]
    print(f"{task}: unseen {right[held].mean():.4f}, trained on {right[rows].mean():.4f}, {seconds:.0f} s", flush=True)


def head_scores(model: Any, embeddings: np.ndarray) -> np.ndarray:
    """What the network's own head says of its embeddings: one pass over the images does for both."""
    logits = embeddings @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    scores = np.exp(logits - logits.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def train(args: argparse.Namespace) -> None:
    with np.load(args.out / "data.npz") as file:
        kept = {name: file[name] for name in file.files}
    for task in args.tasks or TASKS:
        if not (args.out / task / "result.npz").exists():
            train_task(task, kept, args)


def judged(kept: dict[str, np.ndarray], out: Path, kind: str, fold: int, recipe: str) -> dict[str, np.ndarray] | None:
    """Which held-out images one training named rightly, and whether their class was in its training images.

    A recipe that ends in ``+mix`` takes the scores of each date under that date's own class mix.
    """
    recipe, _, mix = recipe.partition("+")
    path = out / f"{kind}-{fold}-{recipe}" / "result.npz"
    if not path.exists():
        return None
    with np.load(path) as result:
        held = np.flatnonzero(kept[f"{kind}_fold"] == fold)
        rows = result["trained_on"]
        scores = result["scores"][held]
        if mix:
            scores = under_own_mixes(scores, kept["labels"][rows], kept["dates"][held])
        right = scores.argmax(1) == kept["labels"][held]
        known = np.isin(kept["labels"][held], kept["labels"][rows])
        return {"right": right, "known": known, "date": kept["dates"][held], "losses": result["losses"],
                "cpu": result["cpu_seconds"], "epochs": result["epochs"],
                "fitted": np.mean(result["scores"][rows].argmax(1) == kept["labels"][rows])}  # fmt: skip


def under_own_mixes(scores: np.ndarray, trained_on: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """The scores of each date under the mix that its own images tell; label smoothing is undone first."""
    logits = unsmoothed(np.log(scores.astype(float) + 1e-6), SMOOTHING)
    plain = np.exp(logits - logits.max(1, keepdims=True))
    plain /= plain.sum(1, keepdims=True)
    counts = np.bincount(trained_on, minlength=scores.shape[1])
    for date in np.unique(dates):
        plain[dates == date] = under_own_mix(plain[dates == date], counts)
    return plain


def pooled(parts: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Accuracy over all folds; the error treats dates as the units drawn, for images of a date resemble each other."""
    right, known = (np.concatenate([p[k] for p in parts]) for k in ("right", "known"))
    dates = np.concatenate([p["date"] for p in parts])
    return {
        "images": len(right),
        "top1": round(float(right.mean()), 4),
        "se_by_image": round(float(np.sqrt(right.mean() * (1 - right.mean()) / len(right))), 4),
        "se_by_date": round(grouped_error(right.astype(float), np.unique(dates, return_inverse=True)[1]), 4),
        "top1_known_classes": round(float(right[known].mean()), 4),
        "images_of_unknown_classes": int((~known).sum()),
        "by_fold": [round(float(p["right"].mean()), 4) for p in parts],
        "epochs": int(parts[0]["epochs"]),
        "top1_on_training_images": [round(float(p["fitted"]), 4) for p in parts],
        "last_losses": [round(float(p["losses"][-1]), 4) for p in parts],
        "cpu_seconds": round(sum(float(p["cpu"]) for p in parts)),
    }


def report(args: argparse.Namespace) -> None:
    with np.load(args.out / "data.npz") as file:
        kept = {name: file[name] for name in file.files if name not in ("ours", "peer")}
    found: dict[str, object] = {"images": len(kept["labels"]), "dates": len(np.unique(kept["dates"])), "px": PX}
    for kind, folds in (("random", FOLDS), ("date", FOLDS), ("years", 1)):
        for mine, other in PAIRS:
            pairs = [[judged(kept, args.out, kind, fold, recipe) for recipe in (mine, other)] for fold in range(folds)]
            pairs = [pair for pair in pairs if None not in pair]
            if not pairs:
                continue
            both = {recipe: [pair[at] for pair in pairs] for at, recipe in enumerate((mine, other))}
            found |= {f"{kind}_{recipe}": pooled(parts) for recipe, parts in both.items()}
            ours, peer = (np.concatenate([p["right"] for p in parts]).astype(float) for parts in both.values())
            dates = np.concatenate([p["date"] for p in both[mine]])
            known = np.concatenate([p["known"] for p in both[mine]])
            found[f"{kind}_{mine}_less_{other}"] = {
                "folds": len(pairs),
                "points": round(100 * float((ours - peer).mean()), 2),
                "points_known_classes": round(100 * float((ours - peer)[known].mean()), 2),
                "se_by_date": round(100 * grouped_error(ours - peer, np.unique(dates, return_inverse=True)[1]), 2),
            }
    args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("prepare", "train", "report"))
    parser.add_argument("--dated-csv", type=Path)
    parser.add_argument("--images", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tasks", nargs="+")
    args = parser.parse_args()
    {"prepare": prepare, "train": train, "report": report}[args.do](args)


if __name__ == "__main__":
    main()
