"""Seconds to fit a head on 100,000 embeddings of 100 classes, beside scikit-learn: python benchmarks/bench_head_training.py

Wall-clock and processor seconds of each fit; scikit-learn fits a share of the images, its time is given as it was and
times the share's inverse. Embeddings are made up: 100 overlapping clouds with correlated numbers of uneven spread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np

from plankter.classify.lda import LinearFit, fit_lda, gather
from plankter.classify.logistic import fit_logistic


def clouds(n: int, dim: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, dim) and labels; classes of uneven size."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(classes, 2.0))
    labels = rng.choice(classes, n, p=share)
    labels[:classes] = range(classes)
    made = np.random.default_rng(1)
    centres = made.normal(size=(classes, dim)).astype(np.float32) * 0.08
    mixing = (made.normal(size=(64, dim)) / 8).astype(np.float32)
    values = rng.standard_normal((n, dim), np.float32)
    values += rng.standard_normal((n, 64), np.float32) @ mixing * 3
    values *= made.uniform(0.2, 2.0, dim).astype(np.float32)
    values += centres[labels]
    return values, labels


def timed(work: Callable[[], object]) -> tuple[object, dict[str, float]]:
    """Result, wall-clock and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1_280)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--sklearn-share", type=float, default=0.1, help="0 leaves scikit-learn out")
    asked = parser.parse_args()
    x, y = clouds(asked.images, asked.dim, asked.classes)
    other, truth = clouds(10_000, asked.dim, asked.classes, seed=2)
    held_out, judged = (other[:5_000], truth[:5_000]), (other[5_000:], truth[5_000:])
    classes = tuple(str(c) for c in range(asked.classes))
    fits: dict[str, Callable[[], LinearFit]] = {
        "lda": lambda: fit_lda(gather(x, y, classes), held_out),
        "logistic": lambda: fit_logistic(x, y, asked.classes, held_out=held_out),
        "logistic, one penalty": lambda: fit_logistic(x, y, asked.classes, penalties=[0.001]),
    }
    rows = []
    for name, fit in fits.items():
        fitted, seconds = timed(fit)
        right = float(np.mean((judged[0] @ fitted.weight + fitted.bias).argmax(axis=1) == judged[1]))
        rows.append(
            {"fit": name, "images": asked.images, **seconds, "top1": round(right, 4), "setting": fitted.setting}
        )
        print(json.dumps(rows[-1]), flush=True)
    if asked.sklearn_share:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        n = int(asked.images * asked.sklearn_share)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (n * 0.001), max_iter=100))
        _, seconds = timed(lambda: model.fit(x[:n], y[:n]))
        right = float(np.mean(model.predict(judged[0]) == judged[1]))
        whole = {key: round(value / asked.sklearn_share, 1) for key, value in seconds.items()}
        rows.append({"fit": "scikit-learn, logistic", "images": n, **seconds, "top1": round(right, 4), "if_all": whole})
        print(json.dumps(rows[-1]), flush=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    print(json.dumps({"cores": os.cpu_count(), "load": load}))


if __name__ == "__main__":
    main()
