"""Pixels in portions, each read apart from the rest: the same as in one go."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from plankter.readers import flowcam_pages
from plankter.readers.base import Portion, PortionReader, RunSource
from plankter.readers.flowcam import FlowCamReader


def portions_of(source: RunSource) -> list[Portion] | None:
    reader = FlowCamReader()
    assert isinstance(reader, PortionReader)
    return reader.portions(source, reader.read(source).particles)


def same_as_in_one_go(source: RunSource) -> list[tuple[int, int]]:
    reader = FlowCamReader()
    portions = portions_of(source)
    assert portions is not None
    expected = list(reader.vignettes(source, reader.read(source).particles))
    found = []
    for portion in portions:
        told = Portion(portion.start, portion.stop, json.loads(json.dumps(dict(portion.facts))))
        found += FlowCamReader().portion_vignettes(told)
    assert [(v.index, v.failure) for v in found] == [(v.index, v.failure) for v in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
    return [(portion.start, portion.stop) for portion in portions]


def test_one_portion_a_collage(make_run: Callable[..., RunSource]) -> None:
    assert same_as_in_one_go(make_run()) == [(0, 5), (5, 10), (10, 15)]


def test_a_collage_of_many_particles_is_cut_into_several(
    make_run: Callable[..., RunSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flowcam_pages, "PORTION_PARTICLES", 3)
    assert same_as_in_one_go(make_run()) == [(0, 3), (3, 5), (5, 8), (8, 10), (10, 13), (13, 15)]


@pytest.mark.parametrize("broken", [[0, 1], [3, 4], [4, 5], [5], [13, 14], list(range(15))])
def test_broken_rows_go_with_their_neighbours(make_run: Callable[..., RunSource], broken: list[int]) -> None:
    widths = [-1 if index in broken else 20 for index in range(15)]
    portions = same_as_in_one_go(make_run(image_w=widths))
    assert portions[0][0] == 0 and portions[-1][1] == 15 and len(portions) <= 3


def test_missing_and_damaged_collages_and_masks(make_run: Callable[..., RunSource]) -> None:
    source = make_run(collages=5)
    folder = source.path.parent
    (folder / "RUN_000001.tif").unlink()
    (folder / "RUN_000002_bin.tif").unlink()
    data = (folder / "RUN_000003.tif").read_bytes()
    (folder / "RUN_000003.tif").write_bytes(data[: len(data) // 2])
    # what passed the look at its header and cannot be decoded
    data = (folder / "RUN_000004.tif").read_bytes()
    (folder / "RUN_000004.tif").write_bytes(data[:60] + bytes(len(data) - 2060) + data[-2000:])
    assert same_as_in_one_go(source)[-1] == (20, 25)


def test_a_list_alone_and_an_empty_list(make_run: Callable[..., RunSource]) -> None:
    source = make_run()
    for path in source.path.parent.glob("*.tif"):
        path.unlink()
    assert same_as_in_one_go(source) == [(0, 15)]
    source.path.write_text("".join(source.path.read_text().splitlines(keepends=True)[:-15]))
    assert portions_of(source) == []


def test_a_list_that_jumps_between_collages_is_read_in_one_go(make_run: Callable[..., RunSource]) -> None:
    pages = [f"RUN_{1 + i % 3:06d}.tif" for i in range(15)]
    assert portions_of(make_run(collage_file=pages)) is None
