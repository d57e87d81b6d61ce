"""Distance to the training images on clouds whose geometry is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.novelty import SAMPLE, Reference, fit_reference, load_reference


def clouds(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes 10 apart in the first two of 8 dimensions, spread 1, but 5 in the last."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    spread = np.array([1, 1, 1, 1, 1, 1, 1, 5.0])
    x = rng.normal(size=(n, 8)) * spread
    x[:, :2] += np.array([[0, 0], [10, 0], [0, 10]])[labels]
    return x.astype(np.float32), labels


def test_what_lies_between_the_classes_is_far() -> None:
    x, labels = clouds()
    reference = fit_reference(x, labels, 3)
    known, _ = clouds(seed=1)
    new = known.copy()
    new[:, :2] = [20, 20]
    limit = np.quantile(reference.distance(known), 0.99)
    assert (reference.distance(new) > limit).all()
    assert reference.centres.shape == (3, 3) or reference.centres.shape == (3, 2)


def test_spread_within_the_classes_does_not_count() -> None:
    x, labels = clouds(3000)
    reference = fit_reference(x, labels, 3)
    home = np.zeros((1, 8), np.float32)
    along, across = home.copy(), home.copy()
    along[0, 7], across[0, 0] = 5, -5
    assert reference.distance(across)[0] > reference.distance(along)[0] + 2


def test_the_sample_is_balanced_and_the_mix_is_kept() -> None:
    x, _ = clouds(3000)
    labels = np.array([0] * 2900 + [1] * 90 + [2] * 10)
    reference = fit_reference(x, labels, 4)
    assert np.bincount(reference.labels).tolist() == [SAMPLE // 3, 90, 10]
    np.testing.assert_allclose(reference.mix, [2900 / 3000, 0.03, 1 / 300, 0], rtol=1e-5)
    assert np.isnan(reference.centres[3]).all() and np.isfinite(reference.distance(x)).all()


def test_the_same_seed_gives_the_same_reference() -> None:
    x, labels = clouds()
    one, two = fit_reference(x, labels, 3, seed=4), fit_reference(x, labels, 3, seed=4)
    np.testing.assert_array_equal(one.embeddings, two.embeddings)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    x, labels = clouds()
    reference = fit_reference(x, labels, 3)
    assert load_reference(tmp_path) is None
    reference.save(tmp_path)
    kept = load_reference(tmp_path)
    assert kept is not None
    np.testing.assert_array_equal(kept.distance(x), reference.distance(x))


def test_damaged_and_misfitting_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(ModelError, match="not the reference"):
        load_reference(tmp_path)
    x, labels = clouds()
    kept = fit_reference(x, labels, 3)
    arrays = {name: getattr(kept, name) for name in Reference.__dataclass_fields__}
    np.savez(path, **(arrays | {"mean": np.zeros(5, np.float32)}))
    with pytest.raises(ModelError, match="do not fit each other"):
        load_reference(tmp_path)
    np.savez(path, **(arrays | {"mean": np.array([{}], dtype=object)}))
    with pytest.raises(ModelError, match="not the reference"):
        load_reference(tmp_path)


def test_one_image_is_no_reference() -> None:
    with pytest.raises(ValueError, match="two images"):
        fit_reference(np.zeros((1, 4)), np.zeros(1, np.int64), 1)
