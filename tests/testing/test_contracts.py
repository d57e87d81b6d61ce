"""The contracts accept what is sound (the FlowCam reader here, the catalogues in tests/store) and catch what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plankter.readers.base import Reader
from plankter.readers.flowcam import FlowCamReader
from plankter.store.base import ClassCount
from plankter.store.memory import MemoryCatalogue
from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.testing.catalogue import CatalogueContract
from plankter.testing.reader import ReaderContract


class TestFlowCamReader(ReaderContract):
    def reader(self) -> Reader:
        return FlowCamReader()

    def identity_file(self, folder: Path) -> Path:
        simulate_flowcam_run(folder / "run", name="run", particles=12, seed=3, classified=True)
        (found,) = (folder / "run").rglob("*.lst")
        return found


def lose_the_last_row(catalogue: Any) -> None:
    page = catalogue.page

    def short(*arguments: Any, **rest: Any) -> Any:
        rows, after = page(*arguments, **rest)
        return rows[:-1], after

    catalogue.page = short


def count_wrongly(catalogue: Any) -> None:
    catalogue.class_counts = lambda run_id=None: [ClassCount("0" * 16, "x", 1, 1)]


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (lose_the_last_row, "test_a_run_comes_back_as_it_was"),
        (lose_the_last_row, "test_a_run_longer_than_a_chunk"),
        (count_wrongly, "test_class_counts"),
        (count_wrongly, "test_questions_about_nothing_known"),
    ],
)
def test_a_faulty_catalogue_fails_the_contract(fault: Callable[[Any], None], test: str) -> None:
    getattr(CatalogueContract(), test)(MemoryCatalogue())
    faulty = MemoryCatalogue()
    fault(faulty)
    with pytest.raises(AssertionError):
        getattr(CatalogueContract(), test)(faulty)
