"""Context as numbers: months on a circle, missing values, columns that are none."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from plankter.classify.context import ContextEncoder, encode_columns


def test_december_lies_beside_january() -> None:
    names, values = encode_columns([{"month": 12}, {"month": "1"}, {"month": 6}, {"month": None}])
    assert names == ("month_sin", "month_cos")
    near, far = np.linalg.norm(values[0] - values[1]), np.linalg.norm(values[0] - values[2])
    assert near < 0.6 and far > 1.9 and np.isnan(values[3]).all()


def test_dates_and_times_give_the_month() -> None:
    rows = [{"date": date(2020, 3, 1)}, {"date": "2021-03-01"}, {"date": datetime(2019, 3, 1, 5, tzinfo=UTC)}]
    _, values = encode_columns(rows)
    np.testing.assert_allclose(values, values[:1].repeat(3, 0))


def test_numbers_stay_and_missing_is_missing() -> None:
    names, values = encode_columns([{"depth_m": "3.5", "t": 7}, {"depth_m": ""}, {"t": float("nan")}])
    assert names == ("depth_m", "t")
    np.testing.assert_array_equal(values, [[3.5, 7], [np.nan, np.nan], [np.nan, np.nan]])


@pytest.mark.parametrize(("column", "cell"), [("station", "W07"), ("month", "spring"), ("date", "1st of May")])
def test_words_are_refused_by_column_and_value(column: str, cell: str) -> None:
    with pytest.raises(ValueError, match=f"{column}.*{cell}"):
        encode_columns([{column: cell}])


def test_the_month_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="name one of them"):
        encode_columns([{"month": 3, "date": "2020-03-01"}])


def test_known_values_are_standardised_and_missing_ones_flagged() -> None:
    encoder = ContextEncoder.fit(["a", "b"], np.array([[1.0, 4.0], [3.0, np.nan], [np.nan, 4.0]]))
    np.testing.assert_allclose(encoder.mean, [2, 4])
    np.testing.assert_allclose(encoder.sd, [1, 1])
    np.testing.assert_allclose(encoder.features(np.array([[3.0, np.nan]]), 1), [[1, 0, 1, 0]])
    np.testing.assert_array_equal(encoder.features(None, 2), np.zeros((2, 4)))


def test_a_branch_is_a_layer_with_a_rectifier() -> None:
    encoder = ContextEncoder(["a"], [0.0], [1.0], [[1.0, -1.0], [0.0, 0.0]], [0.0, 0.5])
    assert encoder.dim == 2
    np.testing.assert_allclose(encoder.features(np.array([[2.0]]), 1), [[2.0, 0.0]])
    np.testing.assert_allclose(encoder.features(None, 1), [[0.0, 0.5]])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([], [], []), "0 context columns"),
        ((["a"], [0.0], [0.0]), "above 0"),
        ((["a"], [0.0], [1.0], [[1.0]], [0.0]), "does not fit"),
        ((["a"], [0.0], [1.0], [[1.0], [1.0]]), "both weight and bias"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(args: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextEncoder(*args)
    with pytest.raises(ValueError, match="expected context"):
        ContextEncoder(["a"], [0.0], [1.0]).features(np.zeros((2, 3)), 2)
