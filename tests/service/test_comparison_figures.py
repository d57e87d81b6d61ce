"""A comparison in words and as a picture."""

from __future__ import annotations

from typing import Any

import pytest

from plankter.service.comparison_figures import interval_bars, p_words, sentence, verdict


def found(value: float, low: float, high: float, p: float, second: str = "b") -> dict[str, Any]:
    gap = {"value": value, "low": low, "high": high}
    return {"model": {"name": "a"}, "against": {"name": second}, "top1": gap, "macro_f1": gap, "p": p}


def test_the_better_one_is_named_only_beyond_chance() -> None:
    assert sentence(found(0.02, 0.01, 0.03, 0.001))["verdict"].startswith("a is better than b")
    assert sentence(found(-0.02, -0.03, -0.01, 0.001))["verdict"].startswith("b is better than a")
    assert "no difference" in sentence(found(0.02, -0.01, 0.05, 0.2))["verdict"]
    said = sentence(found(-0.0213, -0.03, 0.01, 0.2))["numbers"]
    assert "2.1 percentage points fewer" in said and "\N{MINUS SIGN}3.0 to +1.0" in said and "p = 0.20" in said
    assert sentence(found(0.0, 0.0, 0.0, 1.0, second="a"))["second"] == "a (second)"


def test_p_values_as_text() -> None:
    assert [p_words(p) for p in (1e-9, 0.0123, 0.5)] == ["p < 0.001", "p = 0.012", "p = 0.50"]


@pytest.mark.parametrize(("only", "p", "expected"), [
    ((9, 0), 0.004, "won"), ((0, 9), 0.004, "lost"), ((3, 1), 0.6, "ahead"), ((1, 3), 0.6, "behind"), ((2, 2), 1.0, "level"),
    ((0, 0), 0.0, "level"),
])  # fmt: skip
def test_classes_won_and_lost(only: tuple[int, int], p: float, expected: str) -> None:
    assert verdict({"only_first": only[0], "only_second": only[1], "p": p}) == expected


@pytest.mark.parametrize("value", [0.0, 0.0004, -0.013, 0.3, -1.0])
def test_bars_stand_in_the_picture_and_in_order(value: float) -> None:
    bars = interval_bars(found(value, value - 0.01, value + 0.02, 0.5))
    for row in bars["rows"]:
        assert 150 <= row["low"] <= row["value"] <= row["high"] <= bars["width"]
        assert (row["value"] > bars["zero"]) == (value > 0.0002) or abs(value) < 0.001
    ticks = [tick["x"] for tick in bars["ticks"]]
    assert ticks == sorted(ticks) and bars["zero"] in ticks and ticks[0] >= 150 and ticks[-1] <= bars["width"]
    assert 3 <= len(ticks) <= 9
