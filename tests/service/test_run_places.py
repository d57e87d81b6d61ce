"""The map of runs and their counts over time."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.service.run_places import (
    KM_PER_DEG,
    MAP_BOTTOM,
    MAP_HEIGHT,
    MAP_LEFT,
    MAP_WIDTH,
    Placed,
    degrees,
    placed,
    run_map,
    timeline,
)
from plankter.store.base import RunRecord
from plankter.types import Run, Sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(
    n: int, sample: str = "s", *, started: datetime | None = None, local: str | None = None, particles: int = 10
) -> RunRecord:
    run = Run(f"{n:016x}", sample, "flowcam", f"run {n}", "x", started_at=started, started_at_local=local)
    return RunRecord(run, particles, 0, 0, 0, 0, 0, None, NOW)


def at(*positions: tuple[float, float]) -> list[Placed]:
    samples = {f"s{n}": Sample(f"s{n}", latitude_deg=lat, longitude_deg=lon) for n, (lat, lon) in enumerate(positions)}
    return placed([record(n, name, particles=10 * n) for n, name in enumerate(samples)], samples)


def on(*days: str) -> list[Placed]:
    return placed(
        [record(n, started=datetime.fromisoformat(day).replace(tzinfo=UTC)) for n, day in enumerate(days)], {}
    )


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=8))
def test_every_position_stands_in_the_map(positions: list[tuple[float, float]]) -> None:
    found = run_map(at(*positions))
    assert found is not None
    for point in found["points"]:
        assert MAP_LEFT <= point["x"] <= MAP_WIDTH and 0 <= point["y"] <= MAP_HEIGHT - MAP_BOTTOM
        assert 5 <= point["r"] <= 14
    assert all(MAP_LEFT <= line["x"] <= MAP_WIDTH for line in found["meridians"])
    assert all(0 <= line["y"] <= MAP_HEIGHT - MAP_BOTTOM for line in found["parallels"])
    assert 0 < found["scale"]["px"] <= (MAP_WIDTH - MAP_LEFT) / 5 + 0.1


def test_north_is_up_east_is_right_and_the_scale_is_true() -> None:
    found = run_map(at((51.0, 2.0), (52.0, 2.0), (51.5, 3.0)))
    assert found is not None
    south, north, east = sorted(found["points"], key=lambda point: point["words"])
    assert north["y"] < east["y"] < south["y"] and east["x"] > north["x"] == south["x"]
    px_per_km = (south["y"] - north["y"]) / KM_PER_DEG
    km = KM_PER_DEG * math.cos(math.radians(51.5))
    assert (east["x"] - north["x"]) / km == pytest.approx(px_per_km, rel=0.01)
    assert found["scale"]["px"] / float(found["scale"]["text"].split()[0]) == pytest.approx(px_per_km, rel=0.01)
    assert {line["text"] for line in found["parallels"]} >= {"51° N", "52° N"}


def test_positions_on_both_sides_of_the_date_line_are_neighbours() -> None:
    found = run_map(at((0.0, 179.5), (0.0, -179.5)))
    assert found is not None
    west, east = sorted(found["points"], key=lambda point: point["x"])
    assert "179.5° E" in west["words"] and "179.5° W" in east["words"]
    assert any(line["text"] in ("180° W", "180° E") for line in found["meridians"])


def test_runs_of_one_place_are_one_point_and_others_are_counted() -> None:
    samples = {"a": Sample("a", station="130", latitude_deg=51.0, longitude_deg=2.5)}
    runs = placed([record(0, "a"), record(1, "a"), record(2, "b"), record(3, "c")], samples)
    found = run_map(runs)
    assert found is not None and len(found["points"]) == 1 and found["without"] == 2
    assert found["points"][0]["words"] == "130, 51° N 2.5° E: 2 runs, 20 particles"
    assert [one.fits("", "", "51.0000,2.5000") for one in runs] == [True, True, False, False]
    assert run_map(placed([record(2, "b")], samples)) is None and run_map([]) is None


@pytest.mark.parametrize(("days", "by", "count"), [
    (["2024-05-01"], "day", 1), (["2024-05-01", "2024-05-31"], "day", 31), (["2023-11-05", "2024-02-01"], "month", 4),
    (["2020-01-01", "2025-12-31"], "month", 72), (["1990-01-01", "2024-12-31"], "year", 35),
    (["0001-01-01", "2024-12-31"], "year", 200),
])  # fmt: skip
def test_time_is_cut_into_a_readable_number_of_periods(days: list[str], by: str, count: int) -> None:
    found = timeline(on(*days))
    assert found is not None and found["by"] == by and 1 <= len(found["ticks"]) <= 8
    assert len(found["bars"]) == min(len(days), 1 if days[0] == "0001-01-01" else 2)
    width = (found["right"] - found["left"]) / count
    last = found["bars"][-1]
    assert last["x"] + last["width"] / 2 == pytest.approx(found["right"] - width / 2, abs=0.2)
    assert last["width"] <= max(width, 2)
    assert all(found["top"] <= bar["y"] <= found["bottom"] for bar in found["bars"])


def test_the_date_of_the_sample_counts_before_that_of_the_run() -> None:
    samples = {"a": Sample("a", sampled_at=datetime(2020, 3, 4, tzinfo=UTC))}
    runs = placed(
        [record(0, "a", started=NOW), record(1, "b", started=NOW), record(2, "c", local="2024-07-01 10:00"),
         record(3, "d", local="01/07/2024"), record(4, "e", local="2024-W01-1")], samples,
    )  # fmt: skip
    assert [one.day for one in runs] == ["2020-03-04", "2026-01-01", "2024-07-01", None, "2024-01-01"]
    assert [one.fits("", "2024", "") for one in runs] == [False, False, True, False, True]
    found = timeline(runs)
    assert found is not None and found["without"] == 1
    assert timeline(placed([record(0)], {})) is None


def test_degrees_have_the_letter_of_their_side() -> None:
    assert [degrees(v, "NS") for v in (0.0, 51.25, -3.0)] == ["0°", "51.25° N", "3° S"]
