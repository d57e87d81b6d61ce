"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import write

from plankter.store.archive import Archive
from plankter.testing.examples import example_run


@pytest.fixture
def write_run() -> Callable[..., None]:
    """Writes a small run: every fifth particle without a vignette, every second with a mask."""

    def make(archive: Archive, name: str = "a", n: int = 12, **rest: object) -> None:
        run = rest.pop("run", None) or example_run(name)
        write(archive, run, n, **rest)  # type: ignore[arg-type]

    return make
