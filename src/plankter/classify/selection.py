"""How settings are compared on images that were held back: the log loss a calibrated head would have there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError

# falling and rising by about 12 %: finer steps move the loss by less than 0.001
TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(50.0), 56))
MAX_ROWS = 5_000  # enough to tell two settings apart


def calibrated_loss(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], weights: npt.NDArray[np.floating] | None = None
) -> float:
    """Mean -ln(score of the true class) at the temperature that makes it least.

    A head is calibrated after it is fitted, so settings are compared as they will be used.

    Args:
        logits: (n, classes).
        labels: (n,) positions of the true classes.
        weights: (n,) how much each image counts; None counts all alike.

    Returns:
        The loss, infinite where there is nothing to compare or a logit is not finite.
    """
    if len(labels) == 0 or not np.isfinite(logits).all():
        return float("inf")
    step = -(-len(labels) // MAX_ROWS)
    shown = np.asarray(logits[::step], np.float64)
    truth = labels[::step]
    weight = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)[::step]
    shown = shown - shown.max(axis=1, keepdims=True)
    own = shown[np.arange(len(truth)), truth]
    best = float("inf")
    for temperature in TEMPERATURES:
        total = np.log(np.exp(shown / temperature).sum(axis=1))
        best = min(best, float(np.average(total - own / temperature, weights=weight)))
    return best


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Weight of each class that makes all classes count alike: n / (classes present * images of the class); (classes,).

    A class without images weighs nothing.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.zeros(classes)
    present = counts > 0
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def resampled_rows(labels: npt.NDArray[np.int64], classes: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows drawn so that every class comes about equally often and the set keeps its size.

    Large classes are thinned without repeats; of small ones every image is taken before any comes twice.

    Args:
        labels: (n,) class of each row.
        classes: how many there are.
        seed: the same seed draws the same rows.
    """
    rng = np.random.default_rng(seed)
    present = [np.flatnonzero(labels == c) for c in range(classes)]
    present = [rows for rows in present if len(rows)]
    if not present:
        return np.zeros(0, np.int64)
    share = max(1, round(len(labels) / len(present)))
    drawn = []
    for rows in present:
        whole, rest = divmod(share, len(rows))
        drawn.append(np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]]))
    return np.sort(np.concatenate(drawn)).astype(np.int64)


BALANCES = ("auto", "none", "resample", "loss")
EVEN_UP_TO = 10.0  # largest class over the median one: up to this "auto" leaves the classes as they are
RESAMPLE_UP_TO = 50_000  # images a network learns from: above, "auto" weights, so that an epoch still shows every image


def balance_for(counts: npt.ArrayLike, wanted: str = "auto", *, resample_up_to: int = 0) -> tuple[str, str]:
    """How an imbalance of classes is met, and why: the one rule for heads, forests and networks.

    Args:
        counts: (classes,) training images.
        wanted: one of `BALANCES`; "auto" leaves classes alone where the largest has at most `EVEN_UP_TO` times the images of
            the median one, and else weights the loss.
        resample_up_to: with "auto", sets of at most so many images are resampled instead; networks, which see an image
            augmented anew each time, take `RESAMPLE_UP_TO`.

    Returns:
        "none", "resample" or "loss", and the reason in words.

    Raises:
        ModelError: another word.
    """
    if wanted not in BALANCES:
        raise ModelError(f"balance must be one of {', '.join(BALANCES)}, got {wanted!r}")
    n = np.asarray(counts, np.float64)
    present = n[n > 0]
    ratio = float(present.max() / np.median(present)) if len(present) else 1.0
    fact = f"the largest class has {ratio:.1f} times the images of the median one"
    if wanted != "auto":
        return wanted, f"as asked; {fact}"
    rare = "resample" if n.sum() <= resample_up_to else "loss"
    return ("none" if ratio <= EVEN_UP_TO else rare), f"chosen, because {fact}, {int(n.sum()):,} in all"
