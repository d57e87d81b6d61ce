"""The single tests against hand-made numbers; the verdicts on drawn clouds and on real images."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from plankter.classify.drift import (
    Baseline,
    Comparison,
    Verdict,
    baseline_of,
    class_mix_test,
    compare,
    confidence_test,
    psi,
    separate,
)
from plankter.classify.models import built_in_models, load_model
from plankter.classify.predictor import load_predictor
from plankter.features.backbones import OpenVinoBackbone
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import letterbox, size_inputs

CLASSES = 5
CENTRES = np.random.default_rng(98).normal(0, 4, (CLASSES, 12))
MIX = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
FloatArray = npt.NDArray[np.float32]


def cloud(mix: npt.ArrayLike, n: int, seed: int, shift: float = 0.0) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n, p=np.asarray(mix) / np.sum(mix))
    return (CENTRES[labels] + rng.normal(0, 1, (n, 12)) + shift).astype(np.float32), labels


def scores_of(embeddings: FloatArray) -> npt.NDArray[np.float64]:
    logits = -((embeddings[:, None] - CENTRES) ** 2).sum(axis=2) / 20
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    embeddings, labels = cloud([1, 1, 1, 1, 0], 400, 1)
    return baseline_of(embeddings, labels, MIX, scores_of(embeddings))


def see(baseline: Baseline, mix: npt.ArrayLike, seed: int, *, shift: float = 0.0, n: int = 250) -> Comparison:
    embeddings, _ = cloud(mix, n, seed, shift)
    scores = scores_of(embeddings)
    return compare(baseline, embeddings, scores.argmax(axis=1), scores.max(axis=1), permutations=100)


# -- psi


def test_psi_by_hand() -> None:
    reference = np.arange(100) / 100
    new = np.concatenate([np.full(80, 0.25), np.full(20, 0.75)])
    assert psi(reference, new, bins=2) == pytest.approx(0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5))
    assert psi(reference, reference) == pytest.approx(0, abs=1e-12)


def test_an_empty_bin_does_not_explode() -> None:
    rng = np.random.default_rng(4)
    found = psi(rng.beta(8, 2, 2000), rng.beta(4, 3, 2000), floor=1e-4)
    assert 1.5 < found < 3.5  # a library that floors at 2e-308 gives 70
    assert psi(np.linspace(0, 1, 50), np.full(50, 0.95)) < 10


def test_psi_of_ties_and_weights() -> None:
    assert psi(np.full(30, 0.7), np.full(9, 0.7)) == 0
    reference, weights = np.array([0.1, 0.2, 0.8, 0.9]), np.array([1.0, 1.0, 3.0, 3.0])
    new = np.array([0.2, 0.8, 0.9, 0.9])  # shares 1/4, 1/4, 2/4 where the weighted reference has 2/8, 3/8, 3/8
    by_hand = -0.125 * math.log(0.25 / 0.375) + 0.125 * math.log(0.5 / 0.375)
    assert psi(reference, new, bins=4, weights=weights) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="2 bins"):
        psi(reference, reference, bins=1)


# -- class mix


def test_another_mix_is_found_with_its_distance() -> None:
    distance, p = class_mix_test([0.5, 0.5, 0.0], [90, 10, 0])
    assert distance == pytest.approx(0.4) and p < 1e-10


def test_false_alarms_of_the_mix_are_rare_with_many_rare_classes() -> None:
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.full(60, 0.2))
    p = np.array([class_mix_test(shares, rng.multinomial(80, shares), 200, seed)[1] for seed in range(200)])
    assert (p < 0.05).sum() <= 20 and 0.4 < p.mean() < 0.6


def test_power_where_every_class_is_rare() -> None:
    # all expected counts are under 5: pooling them for a chi-square would leave nothing to test
    assert class_mix_test(np.full(50, 1.0), [40, 40] + [0] * 48)[1] < 1e-10


def test_a_mix_that_cannot_be_tested_is_refused() -> None:
    for expected, counts in (([1, 1], [1, 1, 1]), ([0, 0], [1, 1]), ([1, 1], [0, 0]), ([1, -1], [1, 1])):
        with pytest.raises(ValueError, match="expected"):
            class_mix_test(expected, counts)


# -- scores


def test_the_gap_of_the_scores_by_hand() -> None:
    distance, p = confidence_test(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.5, 0.6, 0.7]))
    assert distance == pytest.approx(0.75) and 0.05 < p < 0.3
    assert confidence_test(np.array([0.1, 0.9]), np.array([0.1, 0.9]))[0] == 0


def test_weights_make_the_reference_alike() -> None:
    rng = np.random.default_rng(6)
    easy, hard = rng.beta(9, 1, 300), rng.beta(3, 3, 300)
    new = np.concatenate([rng.beta(9, 1, 40), rng.beta(3, 3, 360)])
    both = np.concatenate([easy, hard])
    assert confidence_test(both, new)[1] < 1e-4
    assert confidence_test(both, new, np.repeat([0.1, 0.9], 300))[1] > 0.05


def test_false_alarms_of_the_scores_are_rare() -> None:
    rng = np.random.default_rng(7)
    p = np.array([confidence_test(rng.random(80), rng.random(60))[1] for _ in range(300)])
    assert (p < 0.05).sum() <= 26


# -- verdicts


def test_the_baseline_expects_the_training_mix(baseline: Baseline) -> None:
    assert baseline.mix == pytest.approx(MIX, abs=0.05)


def test_nothing_changed(baseline: Baseline) -> None:
    (found,) = separate([see(baseline, MIX, 11)])
    assert found.verdict is Verdict.NONE and not found.slight


def test_another_season_is_not_another_instrument(baseline: Baseline) -> None:
    (found,) = separate([see(baseline, [0.05, 0.05, 0.2, 0.7, 0], 12)])
    assert found.verdict is Verdict.SEASON and found.image_p > 0.05 and not found.slight


def test_other_images_are_another_instrument_in_any_season(baseline: Baseline) -> None:
    for seed, mix in ((13, MIX), (14, [0.05, 0.05, 0.2, 0.7, 0])):
        (found,) = separate([see(baseline, mix, seed, shift=1.0)])
        assert found.verdict is Verdict.INSTRUMENT and found.changed_classes


def test_a_small_difference_of_the_images_is_named_as_such(baseline: Baseline) -> None:
    (found,) = separate([see(baseline, MIX, 15, shift=0.25)])
    assert found.verdict is Verdict.NONE and found.slight


def test_one_odd_run_does_not_speak_for_the_others(baseline: Baseline) -> None:
    runs = [see(baseline, MIX, 20 + k) for k in range(6)] + [see(baseline, MIX, 30, shift=1.0)]
    assert [f.verdict for f in separate(runs)] == [Verdict.NONE] * 6 + [Verdict.INSTRUMENT]


def test_few_images_are_not_judged(baseline: Baseline) -> None:
    few, enough = see(baseline, [0, 0, 0, 1, 0], 16, n=30), see(baseline, MIX, 17)
    assert [f.verdict for f in separate([few, enough])] == [Verdict.TOO_FEW, Verdict.NONE]


def test_a_class_the_sample_never_got_is_left_out_and_counted(baseline: Baseline) -> None:
    found = see(baseline, [2, 0, 0, 0, 1], 18)
    assert 0.55 < found.compared < 0.75
    assert separate([found])[0].verdict is Verdict.SEASON
    alone = see(baseline, [0, 0, 0, 0, 1], 19)
    assert math.isnan(alone.mmd2) and separate([alone])[0].verdict is Verdict.UNCLEAR


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        baseline_of(np.zeros((3, 2)), np.zeros(2, np.int64), np.ones(4), np.zeros((3, 4)))


# -- real images: every second one of a class is the baseline, the others make the runs


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Any]:
    model = load_model(built_in_models()["flowcam"])
    backbone = OpenVinoBackbone(model.folder / "backbone.onnx", precision="f32", threads=1)

    def embed(images: list[Any]) -> FloatArray:
        pixels = np.stack([letterbox(image, backbone.input_px) for image in images])
        return backbone.embed(pixels, size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images]))

    images = []
    with tarfile.open(shared_data / "labelled" / "vliz_flowcam_val.tar.xz") as archive:
        for number, member in enumerate(m for m in archive if m.isfile() and m.name.endswith(".jpg")):
            file = archive.extractfile(member) if number % 3 == 0 else None
            if file is not None:
                images.append(decode_image(file.read(), grey=True))
    others = sorted((shared_data / "labelled" / "flowcam_pygsuia").rglob("*.png"))[::12]
    return {
        "predictor": load_predictor(model),
        "vliz": embed(images),
        "inverted": embed([255 - image for image in images[1::4]]),
        "pygsuia": embed([decode_image(path.read_bytes(), grey=True) for path in others]),
    }


def test_real_images_of_another_mix_and_of_another_instrument(real: dict[str, Any]) -> None:
    predictor = real["predictor"]
    scores = predictor.scores(real["vliz"])
    classes = scores.argmax(axis=1)
    old, new = np.arange(0, len(classes), 2), np.arange(1, len(classes), 2)
    mix = np.bincount(classes, minlength=scores.shape[1]) / len(classes)
    baseline = baseline_of(real["vliz"][old], classes[old], mix, scores[old])

    def seen(embeddings: FloatArray) -> Comparison:
        found = predictor.scores(embeddings)
        return compare(baseline, embeddings, found.argmax(axis=1), found.max(axis=1), permutations=200)

    season = new[np.isin(classes[new], np.argsort(-mix)[:12])]  # twelve classes bloom, the others are gone
    runs = [seen(e) for e in (real["vliz"][new], real["vliz"][season], real["inverted"], real["pygsuia"])]
    found = separate(runs)
    assert [f.verdict for f in found[:2]] == [Verdict.NONE, Verdict.SEASON]
    assert min(f.image_p for f in found[:2]) > 0.01
    # where everything falls into a few rare classes even a thousand images may not be enough to compare
    assert found[2].verdict is Verdict.INSTRUMENT and found[3].verdict in (Verdict.INSTRUMENT, Verdict.UNCLEAR)
