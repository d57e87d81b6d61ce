"""False alarms and power of the tests on drift, on real images.

    python benchmarks/bench_drift.py DATA --cache embeddings.npz

DATA holds vliz_flowcam_train, vliz_flowcam_val, vliz_flowcam_dated (one folder a class each), vliz_flowcam_dated.csv and
flowcam_pygsuia. The embeddings are made once. The baseline is a class-balanced sample of 2,000 training images; unseen
images are those of vliz_flowcam_val, drawn at random without replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from drift_data import CHANGES, collect

from plankter.classify.drift import Comparison, Verdict, baseline_of, compare, mmd_test, psi, separate
from plankter.classify.models import read_model_json
from plankter.classify.novelty import fit_reference
from plankter.classify.predictor import load_predictor
from plankter.workflow.workspace import find_model

ALPHA = 0.01
Draw = Callable[[np.random.Generator], npt.NDArray[np.float32]]


class Bench:
    """Baseline and draws of one size."""

    def __init__(self, data: Any, size: int, permutations: int) -> None:
        model = find_model("flowcam")
        counts = read_model_json(model.folder)["training_class_counts"]
        self.classes = len(model.class_ids)
        mix = np.array([counts[c] for c in model.class_ids], np.float64)
        self.mix = mix / mix.sum()
        self.predictor = load_predictor(model)
        reference = fit_reference(data["train"].astype(np.float32), data["train_labels"], self.classes)
        scores = self.predictor.scores(reference.embeddings.astype(np.float32))
        self.baseline = baseline_of(reference.embeddings, reference.labels, self.mix, scores)
        self.size, self.permutations = size, permutations
        self.val, self.labels = data["val"].astype(np.float32), data["val_labels"]

    def draw(self, rng: np.random.Generator, mix: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Unseen images in a class mix, as far as there are enough of each class."""
        weights = (mix / np.maximum(np.bincount(self.labels, minlength=self.classes), 1))[self.labels]
        return rng.choice(len(self.labels), self.size, replace=False, p=weights / weights.sum())

    def compare(self, embeddings: npt.NDArray[np.floating], seed: int) -> Comparison:
        scores = self.predictor.scores(embeddings.astype(np.float32))
        found = scores.argmax(axis=1), scores.max(axis=1)
        return compare(self.baseline, embeddings, *found, permutations=self.permutations, seed=seed)

    def row(self, name: str, draw: Draw, draws: int, accuracy: float = float("nan"), plain: int = 0) -> str:
        runs, hits = [], 0
        for seed in range(draws):
            embeddings = draw(np.random.default_rng([seed, 9]))
            runs.append(self.compare(embeddings, seed))
            if seed < plain:
                hits += mmd_test(self.baseline.embeddings, embeddings, 100, seed).p < ALPHA
        verdicts = [separate([run])[0].verdict for run in runs]
        rates = [np.mean([getattr(run, p) < ALPHA for run in runs]) for p in ("image_p", "mix_p", "confidence_p")]
        cells = [
            f"{name:<24}", f"{draws:>5}", "    -" if np.isnan(accuracy) else f"{100 * accuracy:5.1f}",
            f"{1e3 * np.median([r.mmd2 for r in runs]):8.2f}", f"{100 * hits / plain:5.0f}" if plain else "    -",
            *(f"{100 * rate:5.1f}" for rate in rates), f"{np.median([r.mix_distance for r in runs]):5.2f}",
            f"{np.median([r.psi for r in runs]):5.2f}",
            *(f"{100 * np.mean([v is kind for v in verdicts]):6.1f}" for kind in (Verdict.SEASON, Verdict.INSTRUMENT)),
        ]  # fmt: skip
        return " ".join(cells)


def rows(data: Any, bench: Bench, draws: int, few: int) -> Iterator[str]:
    yield bench.row("no drift", lambda rng: bench.val[bench.draw(rng, bench.mix)], draws, plain=few)
    yield bench.row(
        "other class mix", lambda rng: bench.val[bench.draw(rng, rng.dirichlet(np.full(bench.classes, 0.1)))], draws,
        plain=few,
    )  # fmt: skip
    truth = bench.labels[data["changed_rows"]]
    for name, of in (("not changed", bench.val[data["changed_rows"]]), *((n, data[f"changed {n}"]) for n in CHANGES)):
        embeddings = of.astype(np.float32)
        right = float((bench.predictor.scores(embeddings).argmax(axis=1) == truth).mean())
        yield bench.row(name, lambda rng, e=embeddings: e[rng.permutation(len(e))[: bench.size]], few, right, plain=few)
    other = data["other"].astype(np.float32)
    yield bench.row("other FlowCam (Pygsuia)", lambda rng: other[rng.permutation(len(other))[: bench.size]], few)
    dates, split = data["dated_date"], data["dated_split"]
    for month in sorted({str(d)[:6] for d in dates if d}):
        mine = data["dated"][np.char.startswith(dates, month) & (split == "train")].astype(np.float32)
        if len(mine) >= bench.size:
            yield bench.row(f"campaign {month}", lambda rng, e=mine: e[rng.permutation(len(e))[: bench.size]], 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--permutations", type=int, default=200)
    args = parser.parse_args()
    if not args.cache.exists():
        names = ("vliz_flowcam_train", "vliz_flowcam_val", "vliz_flowcam_dated", "flowcam_pygsuia")
        collect(*(args.data / name for name in names), args.cache)
    data = np.load(args.cache)
    bench = Bench(data, args.size, args.permutations)
    rng = np.random.default_rng(0)
    print(f"psi of 2,000 beta(8,2) and 2,000 beta(4,3): {psi(rng.beta(8, 2, 2000), rng.beta(4, 3, 2000)):.2f}")
    print(f"{args.size} images a run; p under {ALPHA} before correction, verdicts after it; %")
    print(f"{'':<24} draws  acc. mmd2e-3 plain image   mix score  dist   psi season instr.")
    for line in rows(data, bench, args.draws, args.few):
        print(line, flush=True)


if __name__ == "__main__":
    main()
