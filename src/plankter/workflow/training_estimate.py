"""How long a training will take, measured by small pieces of it before it starts."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from plankter.workflow.engine import Engine
from plankter.workflow.training_data import TrainingImages
from plankter.workflow.training_inputs import seconds_to_embed, seconds_to_measure

SIDE = 512
LDA_PASSES = 1.2  # products of n x dim x dim
LOGISTIC_PASSES = 100  # products of n x dim x classes: penalties, steps, two products each
TRIED_ROWS = 1_000


def estimate_seconds(config: Any, engine: Engine, images: TrainingImages, unit: Any = None) -> float:
    """Seconds for ``config`` (a `TrainConfig`) on this machine, as busy as it is now."""
    n, classes = len(images.data), len(images.data.class_ids)
    if config.mode == "finetune":
        settings = unit.FinetuneConfig(network=config.network, px=config.px, epochs=config.epochs)
        return float(unit.estimate(settings, int(n * 0.8), classes=classes, tune_images=int(n * 0.1)))
    seconds = seconds_to_embed(engine, images)
    dim = engine.backbone.dim
    if config.mode == "head":
        second_per_product = _multiplication()
        work = n * dim * dim * LDA_PASSES
        if config.head == "logistic":
            work += n * dim * classes * LOGISTIC_PASSES
        return seconds + work * second_per_product + 1.0
    if config.features != "measures":
        seconds += n * dim * dim * _multiplication() + 2.0
    if config.features != "embeddings":
        seconds += seconds_to_measure(images)
    return seconds + _trees(config.classifier, n, classes)


def _multiplication() -> float:
    """Seconds for one multiplication and addition of a float32 product."""
    a = np.ones((SIDE, SIDE), np.float32)
    a @ a
    started = time.perf_counter()
    a @ a
    return (time.perf_counter() - started) / SIDE**3


def _trees(classifier: str, n: int, classes: int) -> float:
    from plankter.classify.fit_trees import sklearn_ensemble

    rng = np.random.default_rng(0)
    rows = min(n, TRIED_ROWS)
    columns, labels = rng.normal(size=(rows, 60)).astype(np.float32), rng.integers(0, classes, rows)
    ensemble = sklearn_ensemble()
    started = time.perf_counter()
    if classifier == "forest":
        ensemble.RandomForestClassifier(10, min_samples_leaf=2, random_state=0).fit(columns, labels)
        times = 30
    else:
        ensemble.HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=15, early_stopping=False).fit(
            columns, labels
        )
        times = 75
    seconds = time.perf_counter() - started
    return seconds * times * (n * math.log2(n + 2)) / (rows * math.log2(rows + 2))
