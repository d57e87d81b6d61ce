"""Does context help on dates never seen? With and without, on folds by chance and on folds of whole cruises.

    python benchmarks/bench_context.py --run RUN --weights NPZ --json docs/context.json

RUN is what ``bench_dates.py prepare`` wrote (and ``train``, for the embeddings of networks trained on each fold).

Contexts of the real set, which has dates only: the month (as sine and cosine, and as twelve flags); and temperature and salinity of a monthly climatology, an
annual cycle of one harmonic (the form of Berx & Hughes 2009, doi 10.7489/1900-1: mean, amplitude, month of maximum)
with rounded values of our own for the shallow Belgian shelf, see CLIMATOLOGY. Both are functions of the date alone.

Synthetic set with a known effect: the same images dealt to 40 made-up dates, each with its own temperature; an image
of a class goes to a date with a chance of exp(-(T - optimum)^2 / (2 * 3^2)), each class having its own optimum.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_dates import FOLDS, cruises

from plankter.classify.context import ContextEncoder, encode_columns
from plankter.classify.context_verdict import ContextVerdict, check_context, context_verdict
from plankter.classify.finetune_images import ArrayImages
from plankter.classify.finetune_loop import embed
from plankter.classify.networks import build_backbone
from plankter.classify.networks.layers import Classifier
from plankter.classify.networks.mobilenet_v2 import load_folded_imagenet

# mean, amplitude and month of the maximum; rounded, for a coastal station of the southern North Sea
CLIMATOLOGY = {"temperature_c": (11.7, 6.3, 8.3), "salinity_psu": (33.2, 0.4, 9.5)}
COMPONENTS, STEPS, PENALTY, SEED = 128, 30, 1e-3, 3


def climatology(month: np.ndarray) -> np.ndarray:
    """float (n, 2) temperature and salinity of months 1-12."""
    phases = [
        mean + amplitude * np.cos(2 * np.pi * (month - peak) / 12) for mean, amplitude, peak in CLIMATOLOGY.values()
    ]
    return np.stack(phases, axis=1)


def fit_and_name(features: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression with an L2 penalty (L-BFGS); names of the held-out images."""
    x, named = torch.from_numpy(features), np.unique(labels)
    y = torch.from_numpy(np.searchsorted(named, labels))
    layer = torch.nn.Linear(x.shape[1], len(named))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(layer(x), y) + PENALTY * layer.weight.square().sum()
        found.backward()
        return found

    optimiser.step(loss)
    with torch.no_grad():
        return named[layer(torch.from_numpy(held)).argmax(1).numpy()]


def reduced(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first principal components of some rows, brought to variance 1, so that a fit takes seconds."""
    x = embeddings.astype(np.float32)
    mean = x[rows].mean(0)
    values, vectors = np.linalg.eigh(np.cov((x[rows] - mean).T.astype(np.float64)))
    keep = np.argsort(-values)[:COMPONENTS]
    return ((x - mean) @ vectors[:, keep] / np.sqrt(values[keep] + 1e-6)).astype(np.float32)


def imagenet_embeddings(kept: dict[str, np.ndarray], weights: Path) -> np.ndarray:
    """What a network that has seen no plankton says of every dated image."""
    backbone = build_backbone("mobilenet_v2")
    load_folded_imagenet(backbone, weights, torch.from_numpy(kept["ours"][:512]))
    data = ArrayImages(tuple(kept["classes"].tolist()), kept["labels"], kept["sizes"], kept["ours"])
    found = embed(Classifier(backbone, 2), data, np.arange(len(kept["labels"])), kept["ours"].shape[1])
    return reduced(found[:, :-32], np.arange(len(found)))  # the size branch has random weights here


def on_trained(
    kept: dict[str, np.ndarray], run: Path, columns: tuple[str, ...], values: np.ndarray
) -> ContextVerdict | None:
    """The verdict over heads on embeddings of networks trained on the other folds, without context."""
    right: dict[str, np.ndarray] = {}
    for kind, name in (("random", "random"), ("date", "grouped")):
        for used in ("without", "with"):
            right[f"{name}_{used}"] = np.zeros(len(kept["labels"]), bool)
        for fold in range(FOLDS):
            path = run / f"{kind}-{fold}-ours" / "result.npz"
            if not path.exists():
                return None
            with np.load(path) as result:
                rows, embeddings = result["trained_on"], reduced(result["embeddings"], result["trained_on"])
            held = np.flatnonzero(kept[f"{kind}_fold"] == fold)
            encoder = ContextEncoder.fit(columns, values[rows])
            joined = np.concatenate((embeddings, encoder.features(values, len(values))), axis=1)
            for used, features in (("without", embeddings), ("with", joined)):
                found = fit_and_name(features[rows], kept["labels"][rows], features[held])
                right[f"{name}_{used}"][held] = found == kept["labels"][held]
    return context_verdict(**right, groups=cruises(kept["dates"]).tolist())


def synthetic(labels: np.ndarray, dates: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A made-up date for each image, and the temperature of that date."""
    rng = np.random.default_rng(SEED)
    temperature, optimum = rng.uniform(4, 20, dates), rng.uniform(4, 20, labels.max() + 1)
    chance = np.exp(-((temperature[None] - optimum[:, None]) ** 2) / (2 * 3.0**2))
    chance /= chance.sum(1, keepdims=True)
    date = np.array([rng.choice(dates, p=chance[label]) for label in labels])
    return date, temperature[date]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    with np.load(args.run / "data.npz") as file:
        kept = {name: file[name] for name in file.files if name != "peer"}
    labels, cruise = kept["labels"], cruises(kept["dates"])
    month = np.array([int(d[4:6]) for d in kept["dates"].tolist()])
    columns, values = encode_columns([{"month": m} for m in month.tolist()])
    frozen_file = args.run / "imagenet.npy"
    if not frozen_file.exists():
        np.save(frozen_file, imagenet_embeddings(kept, args.weights))
    embeddings = np.load(frozen_file)
    found: dict[str, object] = {"images": len(labels), "cruises": len(np.unique(cruise)), "folds": FOLDS}
    if args.json.exists():
        found |= {k: v for k, v in json.loads(args.json.read_text(encoding="utf-8")).items() if k not in found}

    def keep(name: str, verdict: ContextVerdict | None) -> None:
        if verdict is not None:
            found[name] = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(verdict).items()}
            print(name, verdict.reason, flush=True)
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    def frozen(names: tuple[str, ...], numbers: np.ndarray, groups: np.ndarray) -> ContextVerdict:
        return check_context(embeddings, labels, names, numbers, groups.tolist(), fit_and_name, folds=FOLDS, seed=SEED)

    made_up, temperature = synthetic(labels)
    flags = (month[:, None] == np.arange(1, 13)).astype(float)
    contexts = {
        "imagenet_month": (columns, values, cruise),
        "imagenet_climatology": (tuple(CLIMATOLOGY), climatology(month), cruise),
        "imagenet_synthetic_temperature": (("temperature_c",), temperature[:, None], made_up),
        "imagenet_month_flags": (tuple(f"month_{m}" for m in range(1, 13)), flags, cruise),
    }
    for name, given in contexts.items():
        if name not in found:
            keep(name, frozen(*given))
    if "trained_month" not in found:
        keep("trained_month", on_trained(kept, args.run, columns, values))


if __name__ == "__main__":
    main()
