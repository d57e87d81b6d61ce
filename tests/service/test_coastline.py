"""The land beneath the map of runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.service.coastline import MARGIN_PX, clipped, land, rings
from plankter.service.run_places import MAP_BOTTOM, MAP_HEIGHT, MAP_LEFT, MAP_WIDTH, placed, run_map
from plankter.store.base import RunRecord
from plankter.types import Run, Sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Line = list[tuple[float, float]]


def lines(path: str) -> list[Line]:
    """The closed lines of a path, as places in px."""
    found = []
    for x, y, steps in re.findall(r"M(\S+) (\S+)l([^z]*)z", path):
        numbers = np.array([float(x), float(y), *map(float, steps.split())]).reshape(-1, 2)
        found.append([(float(a), float(b)) for a, b in np.cumsum(numbers, axis=0)])
    assert path == "" or found
    return found


def inside(path: str, x: float, y: float) -> bool:
    """Whether a place is filled, by the rule of even and odd."""
    odd = False
    for line in lines(path):
        for (x0, y0), (x1, y1) in zip(line, [*line[1:], line[0]], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
    return odd


def map_at(*positions: tuple[float, float]) -> dict[str, object]:
    samples = {f"s{n}": Sample(f"s{n}", latitude_deg=a, longitude_deg=b) for n, (a, b) in enumerate(positions)}
    records = [RunRecord(Run(f"{n:016x}", s, "flowcam", s, "x"), 10, 0, 0, 0, 0, 0, None, NOW) for n, s in enumerate(samples)]  # fmt: skip
    found = run_map(placed(records, samples))
    assert found is not None
    return found


def whole(step: float = 1.0) -> str:
    return land((-180.0, -90.0, 180.0, 90.0), 0.0, 0.0, 1 / step, 1 / step)


@pytest.mark.parametrize(("place", "latitude", "longitude", "dry"), [
    ("Brussels", 50.85, 4.35, True), ("station 330", 51.4333, 2.8083, False), ("Brugge", 51.21, 3.22, True),
    ("London", 51.5, -0.1, True), ("Dogger Bank", 54.7, 2.5, False), ("Sahara", 23.0, 10.0, True),
    ("the Caspian Sea, a hole in the land", 41.0, 51.0, False), ("the South Pole", -89.0, 30.0, True),
    ("Fiji's Vanua Levu", -16.6, 179.2, True), ("the Pacific", 0.0, -150.0, False), ("Chukotka", 67.0, -175.0, True),
    ("beside the date line", 67.0, -179.9, True), ("on the date line", 67.0, 180.0, True),
])  # fmt: skip
def test_land_is_land_and_sea_is_sea(place: str, latitude: float, longitude: float, dry: bool) -> None:
    px = 100.0
    path = land((longitude - 1, latitude - 1, longitude + 1, latitude + 1), 0.0, 0.0, px, px)
    assert inside(path, px, px) == dry, place
    turned = land((longitude + 359, latitude - 1, longitude + 361, latitude + 1), 0.0, 0.0, px, px)
    assert inside(turned, px, px) == dry, place


def test_a_station_off_ostend_lies_beside_drawn_land() -> None:
    found = map_at((51.27, 2.9))
    (point,) = found["points"]  # type: ignore[misc]
    path, km = str(found["land"]), float(found["scale"]["px"]) / float(found["scale"]["text"].split()[0])  # type: ignore[index]
    assert not inside(path, point["x"], point["y"])
    assert inside(path, point["x"], point["y"] + 7 * km) and not inside(path, point["x"], point["y"] - 10 * km)


def test_only_what_is_near_is_drawn_and_nothing_far_outside() -> None:
    near, sea = str(map_at((51.27, 2.9))["land"]), str(map_at((30.0, -40.0))["land"])
    assert sea == "" and 0 < len(near) < 2_000
    for x, y in (place for line in lines(near) for place in line):
        assert MAP_LEFT - MARGIN_PX - 1 <= x <= MAP_WIDTH + MARGIN_PX + 1
        assert -MARGIN_PX - 1 <= y <= MAP_HEIGHT - MAP_BOTTOM + MARGIN_PX + 1
    world = str(map_at((70.0, -170.0), (-60.0, 10.0), (0.0, 100.0))["land"])
    assert len(near) < len(world) < 120_000


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=5))
def test_every_map_has_its_land(positions: list[tuple[float, float]]) -> None:
    for line in lines(str(map_at(*positions)["land"])):
        assert len(line) >= 3


def test_a_polygon_is_cut_at_the_edges() -> None:
    square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    cut = clipped(square, np.array([5.0, -5.0]), np.array([20.0, 5.0]))
    assert {tuple(point) for point in cut.tolist()} == {(5.0, 0.0), (10.0, 0.0), (10.0, 5.0), (5.0, 5.0)}
    assert not len(clipped(square, np.array([11.0, 0.0]), np.array([20.0, 5.0])))
    assert clipped(square, np.array([-1.0, -1.0]), np.array([11.0, 11.0])).tolist() == square.tolist()
    around = clipped(square, np.array([4.0, 4.0]), np.array([6.0, 6.0]))  # the edge of the land is out of sight
    assert around.min() == 4.0 and around.max() == 6.0


def test_the_kept_file_is_whole() -> None:
    found, boxes = rings()
    assert len(found) == len(boxes) > 1_000 and sum(map(len, found)) > 50_000
    every = np.concatenate(found)
    assert every[:, 1].min() == -90.0 and every[:, 1].max() < 84.0
    assert np.ptp(every[:, 0]) < 400 and max(np.abs(np.diff(ring[:, 0])).max() for ring in found) <= 360
    assert boxes[0].tolist() == [*found[0].min(axis=0).tolist(), *found[0].max(axis=0).tolist()]
    assert len(lines(whole())) > 50
