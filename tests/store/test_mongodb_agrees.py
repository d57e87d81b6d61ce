"""The MongoDB catalogue against the one in memory and the embedded one, over random histories."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from test_catalogues_agree import BothCatalogues

from plankter._errors import PlankterError
from plankter.store.memory import MemoryCatalogue
from plankter.store.mongodb import MongoCatalogue
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import NOON


def noon() -> Any:
    return NOON + timedelta(days=1)


class ThreeCatalogues(BothCatalogues):
    """Does the same to all three and compares every answer; errors must agree too."""

    def __init__(self, address: str) -> None:
        super(BothCatalogues, self).__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.address = address
        self.memory = MemoryCatalogue(clock=noon)
        self.sqlite = SqliteCatalogue(self.folder / "c.sqlite", clock=noon)
        self.mongodb = MongoCatalogue(address, clock=noon)

    def teardown(self) -> None:
        self.mongodb.database.client.drop_database(self.mongodb.database.database.name)
        self.mongodb.close()
        super().teardown()

    def both(self, method: str, *arguments: Any, **rest: Any) -> None:
        answers = []
        for catalogue in (self.memory, self.sqlite, self.mongodb):
            try:
                answer = getattr(catalogue, method)(*arguments, **rest)
                answers.append(list(answer) if method == "annotations" else answer)
            except PlankterError as error:
                answers.append(type(error))
        assert answers[0] == answers[1] == answers[2], method

    @rule()
    def reopen(self) -> None:
        super().reopen()
        self.mongodb.close()
        self.mongodb = MongoCatalogue(self.address, clock=noon)


def test_all_three_agree(mongo_url: str) -> None:
    numbers = count()
    run_state_machine_as_test(
        lambda: ThreeCatalogues(f"{mongo_url}_{next(numbers)}"),
        settings=settings(
            max_examples=5, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
