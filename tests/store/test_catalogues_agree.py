"""The embedded catalogue against the one in memory, over random histories."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from plankter._errors import PlankterError
from plankter.store.base import Catalogue, ParticleFilter
from plankter.store.memory import SORTS, MemoryCatalogue
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import (
    CLASSES,
    NOON,
    example_fact,
    example_predictions,
    example_rows,
    example_run,
    run_id_of,
)
from plankter.types import Sample, Source, Verdict

NAMES = st.sampled_from("abc")
SAMPLE_IDS = st.sampled_from(["s1", "s2"])
INDICES = st.integers(0, 6)
MAYBE_CLASS = st.sampled_from([None, *CLASSES])


class BothCatalogues(RuleBasedStateMachine):
    """Does the same to both and compares every answer; errors must agree too."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory = MemoryCatalogue(clock=lambda: NOON + timedelta(days=1))
        self.sqlite = SqliteCatalogue(self.folder / "c.sqlite", clock=lambda: NOON + timedelta(days=1))

    def teardown(self) -> None:
        self.sqlite.close()
        shutil.rmtree(self.folder)

    def both(self, method: str, *arguments: Any, **rest: Any) -> None:
        answers = []
        for catalogue in (self.memory, self.sqlite):
            try:
                answer = getattr(catalogue, method)(*arguments, **rest)
                answers.append(list(answer) if method == "annotations" else answer)
            except PlankterError as error:
                answers.append(type(error))
        assert answers[0] == answers[1], method

    @rule(name=NAMES, sample_id=SAMPLE_IDS, n=st.sampled_from([5, 5, 7]), seed=st.integers(0, 3))
    def put_run(self, name: str, sample_id: str, n: int, seed: int) -> None:
        self.both("put_run", example_run(name, sample_id=sample_id), example_rows(n, seed=seed))

    @rule(name=NAMES)
    def remove_run(self, name: str) -> None:
        self.both("remove_run", run_id_of(name))

    @rule(name=NAMES, sample_id=SAMPLE_IDS)
    def attach(self, name: str, sample_id: str) -> None:
        self.both("attach", run_id_of(name), sample_id)

    @rule(sample_id=SAMPLE_IDS, depth=st.floats(0, 9))
    def put_sample(self, sample_id: str, depth: float) -> None:
        self.both("put_sample", Sample(sample_id, depth_min_m=depth))

    @rule(
        name=NAMES, indices=st.sets(st.integers(0, 5)), model_id=st.sampled_from(["m1", "m2"]), seed=st.integers(0, 3)
    )
    def put_predictions(self, name: str, indices: set[int], model_id: str, seed: int) -> None:
        self.both("put_predictions", example_predictions(name, tuple(sorted(indices)), model_id=model_id, seed=seed))

    @rule(said=st.lists(
        st.tuples(NAMES, INDICES, MAYBE_CLASS, st.sampled_from(list(Verdict)), st.sampled_from(list(Source))), max_size=4
    ))  # fmt: skip
    def annotate(self, said: list[tuple[str, int, str | None, Verdict, Source]]) -> None:
        facts = [
            example_fact(name, index, class_id or "other", verdict, source=source)
            for name, index, class_id, verdict, source in said
        ]
        self.both("annotate", facts)

    @rule(
        name=st.sampled_from([None, "a", "b"]), sample_id=st.sampled_from([None, None, "s1"]), predicted=MAYBE_CLASS,
        label=MAYBE_CLASS, status=st.sampled_from([None, None, "validated", "imported"]), sort=st.sampled_from(SORTS),
        descending=st.booleans(), limit=st.integers(1, 6),
    )  # fmt: skip
    def pages(self, name: str | None, sort: str, descending: bool, limit: int, **rest: Any) -> None:
        where = ParticleFilter(run_id=run_id_of(name) if name else None, **rest)
        after: Any = None
        for _ in range(3):
            self.both("page", where, sort=sort, descending=descending, after=after, limit=limit)
            try:
                _, after = self.memory.page(where, sort=sort, descending=descending, after=after, limit=limit)
            except PlankterError:
                return
            if after is None:
                return

    @rule(sort=st.sampled_from(SORTS), descending=st.booleans(), value=st.sampled_from([None, 0.0, 5.0, 0.75]))
    def page_after_a_row_that_is_not_there(self, sort: str, descending: bool, value: float | None) -> None:
        after = (None if sort == "index" else value, run_id_of("b"), 3)
        self.both("page", ParticleFilter(), sort=sort, descending=descending, after=after)

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = SqliteCatalogue(self.folder / "c.sqlite", clock=lambda: NOON + timedelta(days=1))

    @invariant()
    def everything_agrees(self) -> None:
        self.both("runs")
        self.both("samples")
        self.both("class_counts")
        self.both("annotations")
        self.both("check")
        for name in "abc":
            self.both("standing", run_id_of(name))
            self.both("page", ParticleFilter(run_id=run_id_of(name)), limit=50)


BothCatalogues.TestCase.settings = settings(
    max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBothCatalogues = BothCatalogues.TestCase


def test_both_satisfy_the_protocol(tmp_path: Path) -> None:
    names = [name for name in vars(Catalogue) if not name.startswith("_")]
    assert len(names) > 20
    sqlite = SqliteCatalogue(tmp_path / "c.sqlite")
    for catalogue in (MemoryCatalogue(), sqlite):
        assert [name for name in names if not callable(getattr(catalogue, name, None))] == []
    sqlite.close()
