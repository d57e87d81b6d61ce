"""Fits forests and boosted trees with scikit-learn (extra ``train``) and takes them out as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.trees import BOOSTING, FOREST, LEAF, Trees

MANY = 20_000  # images from which on trees are kept smaller, so that a model stays a few ten megabytes
BOOSTING_ROUNDS = 150
FEW = 5_000  # images up to which the threads of boosting wait for each other longer than they work


def sklearn_ensemble() -> Any:
    """scikit-learn's ensembles.

    Raises:
        ModelError: it is not installed.
    """
    try:
        from sklearn import ensemble
    except ImportError as error:
        hint = "pip install 'plankter[train]'; heads are fitted without it"
        raise ModelError(
            "forests and boosting are fitted by scikit-learn, which is not installed", hint=hint
        ) from error
    return ensemble


def fit_trees(
    columns: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: int,
    *,
    classifier: str = FOREST,
    sample_weights: npt.NDArray[np.float64] | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> tuple[Trees, str]:
    """Trees fitted to columns of numbers.

    A forest has 300 trees with leaves of 2 images or more, a smaller one where there are many images; boosting is
    scikit-learn's histogram gradient boosting.

    Args:
        columns: float32 (n, columns) without NaN, as `Inputs.columns` gives them.
        labels: (n,) in 0..classes-1; a class without images is never predicted.
        classes: how many.
        classifier: `FOREST` or `BOOSTING`.
        sample_weights: (n,) how much each image counts.
        seed: the same seed gives the same trees.
        threads: None takes all cores.

    Returns:
        The trees, and the settings in words.

    Raises:
        ModelError: scikit-learn is missing.
        ValueError: an unknown classifier, or fewer than two classes with images.
    """
    ensemble = sklearn_ensemble()
    n = len(labels)
    if len(np.unique(labels)) < 2:
        raise ValueError("expected images of two classes at least")
    if classifier == FOREST:
        trees, leaf = (300 if n <= MANY else 150), max(2, round(n / MANY))
        fitted = ensemble.RandomForestClassifier(
            trees, min_samples_leaf=leaf, max_features="sqrt", random_state=seed, n_jobs=threads or -1
        ).fit(columns, labels, sample_weight=sample_weights)
        return forest_arrays(fitted, classes), f"random forest of {trees} trees, leaves of {leaf} images or more"
    if classifier == BOOSTING:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1 if n <= FEW else threads):
            fitted = ensemble.HistGradientBoostingClassifier(
                max_iter=BOOSTING_ROUNDS, learning_rate=0.08, max_leaf_nodes=15,
                min_samples_leaf=min(20, max(2, n // 50)), l2_regularization=1.0, early_stopping=False,
                random_state=seed,
            ).fit(columns, labels, sample_weight=sample_weights)  # fmt: skip
        return boosting_arrays(fitted, classes), f"gradient boosting of {BOOSTING_ROUNDS} rounds, 15 leaves a tree"
    raise ValueError(f"expected {FOREST} or {BOOSTING}, got {classifier!r}")


def _floor32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 up to each value: a float32 number lies on the same side of both."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    above = found.astype(np.float64) > values
    found[above] = np.nextafter(found[above], np.float32(-np.inf))
    return np.asarray(np.clip(found, np.finfo(np.float32).min, np.finfo(np.float32).max))


class _Builder:
    """Trees one behind the other."""

    def __init__(self) -> None:
        self.count = 0
        self.roots: list[int] = []
        self.parts: dict[str, list[npt.NDArray[Any]]] = {
            name: [] for name in ("feature", "threshold", "left", "right", "length", "said_class", "said_value")
        }

    def add(
        self,
        feature: npt.NDArray[np.int64],
        threshold: npt.NDArray[np.float64],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        leaf: npt.NDArray[np.bool_],
        said: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]],
    ) -> None:
        """One tree; ``said``: node (rising), class and value of everything its leaves say."""
        own = np.arange(len(feature))
        node, said_class, said_value = said
        self.roots.append(self.count)
        columns = {
            "feature": np.where(leaf, LEAF, feature).astype(np.int16),
            "threshold": np.where(leaf, np.float32(0), _floor32(np.where(leaf, 0.0, threshold))),
            "left": (np.where(leaf, own, left) + self.count).astype(np.int32),
            "right": (np.where(leaf, own, right) + self.count).astype(np.int32),
            "length": np.bincount(node, minlength=len(feature)),
            "said_class": said_class.astype(np.int16),
            "said_value": said_value.astype(np.float32),
        }
        for name, values in columns.items():
            self.parts[name].append(values)
        self.count += len(feature)

    def trees(self, baseline: npt.NDArray[np.float64], kind: str) -> Trees:
        joined = {name: np.concatenate(values) for name, values in self.parts.items()}
        start = np.concatenate(([0], np.cumsum(joined.pop("length")))).astype(np.int32)
        return Trees(
            np.array(self.roots, np.int32), **joined, start=start, baseline=baseline.astype(np.float32), kind=kind
        )


def forest_arrays(fitted: Any, classes: int) -> Trees:
    """A fitted RandomForestClassifier or ExtraTreesClassifier -> arrays; its classes are positions in 0..classes-1."""
    known = np.asarray(fitted.classes_, np.int64)
    made = _Builder()
    for estimator in fitted.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left == -1
        value = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        node, column = np.nonzero(np.where(leaf[:, None], value, 0))
        said = (node, known[column], value[node, column])
        made.add(tree.feature, tree.threshold, tree.children_left, tree.children_right, leaf, said)
    return made.trees(np.zeros(classes), FOREST)


def boosting_arrays(fitted: Any, classes: int) -> Trees:
    """A fitted HistGradientBoostingClassifier -> arrays.

    scikit-learn shows its trees to nobody, so this looks where it keeps them; a test holds it to its probabilities.
    """
    known = np.asarray(fitted.classes_, np.int64)
    baseline = np.full(classes, -30.0)  # a class without images: never predicted
    start = np.asarray(fitted._baseline_prediction, np.float64).reshape(-1)
    two = len(known) == 2  # one tree a round, for the second class against the first
    baseline[known] = [0.0, start[0]] if two else start
    made = _Builder()
    for round_of_trees in fitted._predictors:
        for position, predictor in enumerate(round_of_trees):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            node = np.flatnonzero(leaf)
            class_id = known[1] if two else known[position]
            said = (node, np.full(len(node), class_id), nodes["value"][node])
            made.add(
                nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].astype(np.float64),
                nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), leaf, said,
            )  # fmt: skip
    return made.trees(baseline, BOOSTING)
