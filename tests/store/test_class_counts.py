"""Class counts are exact at every moment, whoever labels, classifies or replaces runs at the same time."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plankter._errors import NotFound
from plankter.store.base import Catalogue, ClassCount, ParticleFilter
from plankter.store.memory import MemoryCatalogue
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import (
    CLASSES,
    example_fact,
    example_predictions,
    example_rows,
    example_run,
    run_id_of,
)
from plankter.types import Verdict

N = 12
EVERY = tuple(range(N))
STEADY, COMING = ("a", "b"), "c"
Step = tuple[str, str, frozenset[int], str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["label", "label", "predict", "replace", "remove"]), st.sampled_from([*STEADY, COMING]),
        st.frozensets(st.sampled_from(EVERY), min_size=1), st.sampled_from([*CLASSES, "other"]), st.integers(0, 5),
    ),
    min_size=2, max_size=6,
)  # fmt: skip
HISTORIES = st.lists(STEPS, min_size=2, max_size=4)


def recount(catalogue: Catalogue) -> list[ClassCount]:
    """The counts, from every particle's row."""
    rows = catalogue.page(ParticleFilter(), limit=10_000)[0]
    predicted = Counter((row.run_id, row.predicted) for row in rows if row.predicted is not None)
    validated = Counter((row.run_id, row.label) for row in rows if row.status == "validated" and row.label is not None)
    return [ClassCount(*key, predicted[key], validated[key]) for key in sorted({*predicted, *validated})]


def take(catalogue: Catalogue, step: Step) -> None:
    what, name, indices, class_id, seed = step
    with contextlib.suppress(NotFound):  # of the run that comes and goes
        if what == "label":
            facts = [example_fact(name, i, class_id, Verdict.CORRECTED, seconds=seed) for i in sorted(indices)]
            catalogue.annotate(facts)
        elif what == "predict":
            catalogue.put_predictions(example_predictions(name, EVERY, seed=seed))
        elif what == "replace":
            catalogue.put_run(example_run(name), example_rows(N, seed=seed))
        elif name == COMING:
            catalogue.remove_run(run_id_of(name))


def all_at_once(catalogue: Catalogue, other: Catalogue, histories: list[list[Step]]) -> None:
    """Every history in a thread of its own, and two that count meanwhile."""
    for name in STEADY:
        catalogue.put_run(example_run(name), example_rows(N))
        catalogue.put_predictions(example_predictions(name, EVERY))
        catalogue.annotate([example_fact(name, index) for index in EVERY])
    ended = threading.Event()

    def count(asked: Catalogue) -> list[list[ClassCount]]:
        answers = [asked.class_counts()]
        while not ended.is_set():
            answers.append(asked.class_counts())
        return [*answers, asked.class_counts()]

    with ThreadPoolExecutor(len(histories) + 2) as pool:
        counting = [pool.submit(count, asked) for asked in (catalogue, other)]
        working = [pool.submit(lambda steps: [take(catalogue, s) for s in steps], steps) for steps in histories]
        try:
            for work in working:
                work.result(60)
        finally:
            ended.set()
        for counted in counting:
            for answer in counted.result(60):
                assert answer == sorted(answer) and all(row.predicted or row.validated for row in answer)
                for name in STEADY:  # labels and predictions move between classes, at no moment is one missing
                    of = [row for row in answer if row.run_id == run_id_of(name)]
                    assert (sum(row.predicted for row in of), sum(row.validated for row in of)) == (N, N)
    assert catalogue.class_counts() == other.class_counts() == recount(catalogue)
    for name in STEADY:
        of = [row for row in recount(catalogue) if row.run_id == run_id_of(name)]
        assert catalogue.class_counts(run_id_of(name)) == of
    assert catalogue.check() == []


SLOWLY = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=8, deadline=None, suppress_health_check=SLOWLY)
@given(HISTORIES)
def test_counts_of_the_embedded_catalogue_are_a_recount_at_every_moment(histories: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalogues = [SqliteCatalogue(Path(folder) / "c.sqlite") for _ in range(2)]
        all_at_once(*catalogues, histories)
        for catalogue in catalogues:
            catalogue.close()


@settings(max_examples=3, deadline=None, suppress_health_check=SLOWLY)
@given(histories=HISTORIES)
def test_counts_in_a_mongodb_are_a_recount_at_every_moment(mongod: Any, histories: list[list[Step]]) -> None:
    from plankter.store.mongodb import MongoCatalogue

    catalogues = [MongoCatalogue(f"{mongod.address}/test_{uuid.uuid4().hex[:12]}")]
    catalogues.append(MongoCatalogue(catalogues[0].database.address.uri))
    all_at_once(*catalogues, histories)
    catalogues[0].database.client.drop_database(catalogues[0].database.database.name)
    for catalogue in catalogues:
        catalogue.close()


ODD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(st.lists(ODD | st.sampled_from(['"],[', "\n", "\x1f", "a\x00b", "\u2028", "🦠"]), min_size=1, max_size=6))
def test_whatever_a_class_is_called_it_is_counted(names: list[str]) -> None:
    make: list[Callable[[], Catalogue]] = [MemoryCatalogue]
    with tempfile.TemporaryDirectory() as folder:
        make.append(lambda: SqliteCatalogue(Path(folder) / "c.sqlite"))
        answers = []
        for catalogue in (one() for one in make):
            catalogue.put_run(example_run(), example_rows(6))
            for index, name in enumerate(names):
                catalogue.annotate([example_fact(index=index, class_id=name)])
            answers.append((catalogue.class_counts(), catalogue.class_counts(run_id_of("a"))))
            catalogue.close()
    assert answers[0] == answers[1] and answers[0][0] == answers[0][1]


def test_no_counts_at_all(tmp_path: Path) -> None:
    catalogue = SqliteCatalogue(tmp_path / "c.sqlite")
    assert catalogue.class_counts() == []
    catalogue.put_run(example_run(), example_rows(3))
    assert catalogue.class_counts() == catalogue.class_counts(run_id_of("a")) == []
    with pytest.raises(NotFound):
        catalogue.class_counts("nothing")
    catalogue.close()
