"""What a model says with its class mix, thresholds and reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError, SettingsError
from plankter.classify.calibrate import Calibration
from plankter.classify.decide import Reason, Thresholds, taxonomy_of
from plankter.classify.head import Head, save_head
from plankter.classify.models import load_model, write_model_json
from plankter.classify.novelty import fit_reference
from plankter.classify.predictor import Predictor, expected_mix, load_predictor
from plankter.types import Model, Taxon

CLASSES = ("Ceratium_fusus", "Ceratium_lineatum", "Bubbles")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "backbone.onnx").write_bytes(b"onnx")
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 50)
    fit_reference(rng.normal(size=(150, 3)) * 0.1 + np.eye(3)[labels], labels, 3).save(folder)
    save_head(folder / "head.npz", np.eye(3) * 4, np.zeros(3))
    write_model_json(
        folder, name="m", backbone_name="b", dim=3, input_px=80, class_ids=CLASSES, class_counts=(80, 15, 5),
        temperature=9.0, card={}, calibration=Calibration(1.0, None, 10, "test"),
        thresholds=Thresholds({"Ceratium_fusus": 0.9}, 0.9, 30.0), threshold_target="precision 0.9",
    )  # fmt: skip
    return load_model(folder)


def test_best_first_and_ties_go_to_the_earlier_class() -> None:
    predictor = Predictor(Head(np.eye(4), np.zeros(4)), taxonomy_of("abcd", {}), Thresholds())
    best, scores, outcome, said, _ = predictor.predict(np.array([[0, 3, 1, 3], [2, 2, 2, 2]], np.float32), k=3)
    np.testing.assert_array_equal(best, [[1, 3, 2], [0, 1, 2]])
    assert best.dtype == np.int16 and scores.dtype == np.float32 and scores.shape == (2, 3)
    np.testing.assert_allclose(scores[1], 0.25)
    np.testing.assert_array_equal(outcome, [1, 0])
    np.testing.assert_array_equal(said, scores[:, 0])
    assert predictor.predict(np.zeros((1, 4), np.float32), k=9).best.shape == (1, 4)


def test_everything_in_the_folder_counts(model: Model) -> None:
    taxa = [Taxon(c, c, parent="Ceratium") for c in CLASSES[:2]] + [Taxon("Ceratium", "Ceratium")]
    predictor = load_predictor(model, taxa=taxa)
    embeddings = np.array([[1.0, 0, 0], [0.7, 0.6, -0.6], [0, 0, 1.0], [-90, -90, -90.0]])
    found = predictor.predict(embeddings)
    said = [predictor.words(o, r) for o, r in zip(found.outcome.tolist(), found.reason.tolist(), strict=True)]
    assert said == [
        ("Ceratium_fusus", Reason.HIGHEST), ("Ceratium", Reason.GROUP), ("Bubbles", Reason.HIGHEST), ("", Reason.NOVEL),
    ]  # fmt: skip
    assert found.scores[0, 0] == pytest.approx(np.exp(4) / (np.exp(4) + 2), rel=1e-3)  # the calibration, not 9.0


def test_another_mix_moves_what_is_likely(model: Model) -> None:
    x = np.array([[0.3, 0.3, 0.3]])
    plain = load_predictor(model).scores(x)[0]
    np.testing.assert_allclose(plain, 1 / 3, rtol=1e-5)
    rare = load_predictor(model, mix=expected_mix("balanced", CLASSES)).scores(x)[0]
    np.testing.assert_allclose(rare[2] / rare[0], 80 / 5, rtol=1e-4)


def test_mixes_by_name_and_by_table(tmp_path: Path) -> None:
    assert expected_mix("training", CLASSES) is None
    np.testing.assert_array_equal(expected_mix("validated", CLASSES, validated={"Bubbles": 9}), [1, 1, 10])
    table = tmp_path / "mix.csv"
    table.write_text("\ufeffClass,Count\nceratium fusus,3\nBubbles,1\nelsewhere,9\n", encoding="utf-8")
    np.testing.assert_array_equal(expected_mix(str(table), CLASSES), [3, 0, 1])
    np.testing.assert_allclose(expected_mix(f"{table}^0.5", CLASSES), [0.75**0.5, 0, 0.25**0.5])
    np.testing.assert_array_equal(expected_mix(f"{table}^0", CLASSES), [1, 0, 1])
    np.testing.assert_allclose(expected_mix("validated^1", CLASSES, validated={"Bubbles": 6}), [1 / 9, 1 / 9, 7 / 9])
    for never in ("training^0.5", "estimated^0.5"):
        with pytest.raises(SettingsError, match="softened"):
            expected_mix(never, CLASSES)
    for other in ("balanced^2", f"{table}^-1"):
        with pytest.raises(SettingsError, match="cannot be read"):
            expected_mix(other, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("name,n\na,1\n", "expected the columns class and share"),
        ("class,share\nBubbles,many\n", "needs numbers"),
        ("class,share\nBubbles,-1\n", "needs numbers"),
        ("class,share\nelsewhere,1\n", "needs numbers"),
    ],
)
def test_tables_that_are_no_mix(tmp_path: Path, text: str | None, message: str) -> None:
    table = tmp_path / "mix.csv"
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        expected_mix(str(table), CLASSES)


def test_validated_needs_validated_labels() -> None:
    with pytest.raises(SettingsError, match="no validated label"):
        expected_mix("validated", CLASSES, validated={"elsewhere": 4})


def test_a_reference_of_another_model_is_refused(model: Model) -> None:
    fit_reference(np.random.default_rng(0).normal(size=(20, 7)), np.arange(20) % 3, 3).save(model.folder)
    with pytest.raises(ModelError, match="changed since the model was made"):
        load_model(model.folder)
    with pytest.raises(ModelError, match="does not fit the head"):
        load_predictor(model)
