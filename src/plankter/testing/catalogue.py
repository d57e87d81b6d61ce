"""What every catalogue must do, said as tests. ``memory`` and ``sqlite`` run them too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plankter._errors import Conflict, NotFound
from plankter.store.base import CHUNK_ROWS, Catalogue, ClassCount, ParticleFilter, ParticleRow
from plankter.testing.examples import (
    NOON,
    example_fact,
    example_predictions,
    example_rows,
    example_run,
    run_id_of,
)
from plankter.types import Sample, Source, StandingLabel, Taxon, Verdict

A, B = run_id_of("a"), run_id_of("b")
SORTS = ("index", "score", "esd_um", "area_um2")


def all_pages(
    catalogue: Catalogue, where: ParticleFilter, sort: str, descending: bool, limit: int
) -> list[ParticleRow]:
    """Every row of a question, page after page."""
    rows: list[ParticleRow] = []
    after: tuple[Any, ...] | None = None
    while True:
        page, after = catalogue.page(where, sort=sort, descending=descending, after=after, limit=limit)
        assert len(page) <= limit
        rows += page
        if after is None:
            return rows
        assert len(page) == limit


class CatalogueContract:
    """Subclass it, name the subclass ``Test...`` and say how to make an empty catalogue."""

    def make(self, folder: Path) -> Catalogue:
        """A new, empty catalogue; ``folder`` is empty and may be used."""
        raise NotImplementedError

    @pytest.fixture
    def catalogue(self, tmp_path: Path) -> Iterator[Catalogue]:
        """An empty catalogue, closed after the test."""
        made = self.make(tmp_path)
        yield made
        assert made.check() == []
        made.close()

    # -- runs and samples
    def test_a_run_comes_back_as_it_was(self, catalogue: Catalogue) -> None:
        """A run, its counts and every row are given back as they were put; NaN comes back as None, and its sample exists."""
        rows = example_rows(23)
        catalogue.put_run(example_run(), rows)
        record = catalogue.run(A)
        assert record.run == example_run()
        assert (record.particles, record.predicted, record.validated, record.model_id) == (23, 0, 0, None)
        assert record.vignettes == int(rows.has_vignette.sum()) and record.masks == int(rows.has_mask.sum())
        assert record.failures == sum(failure is not None for failure in rows.failure) == 2
        assert record.ingested_at.utcoffset() is not None
        assert catalogue.samples() == [Sample("station 1")]
        shown, after = catalogue.page(ParticleFilter(run_id=A), limit=23)
        assert after is None and [row.index for row in shown] == list(range(23))
        for i, row in enumerate(shown):
            size = (row.width_px, row.height_px, row.failure)
            assert size == (rows.width_px[i], rows.height_px[i], rows.failure[i])
            assert row.esd_um is None if np.isnan(rows.esd_um[i]) else row.esd_um == rows.esd_um[i]
            assert row.area_um2 is None if np.isnan(rows.area_um2[i]) else row.area_um2 == rows.area_um2[i]
            assert (row.predicted, row.score, row.label, row.status) == (None, None, None, "unlabelled")

    def test_a_run_without_particles(self, catalogue: Catalogue) -> None:
        """A run of no particles is kept like any other and has one empty page."""
        catalogue.put_run(example_run(), example_rows(0))
        assert catalogue.run(A).particles == 0
        assert catalogue.page(ParticleFilter(run_id=A)) == ([], None)

    def test_a_run_longer_than_a_chunk(self, catalogue: Catalogue) -> None:
        """Rows and predictions that are written in several chunks are all there, none twice."""
        n = 2 * CHUNK_ROWS + 3
        catalogue.put_run(example_run(), example_rows(n))
        catalogue.put_predictions(example_predictions(indices=tuple(range(0, n, 2))))
        assert catalogue.run(A).predicted == len(range(0, n, 2))
        found = all_pages(catalogue, ParticleFilter(run_id=A), "index", False, 1000)
        assert [row.index for row in found] == list(range(n))
        assert all((row.predicted is not None) == (row.index % 2 == 0) for row in found)

    def test_runs_are_ordered_by_sample_name_and_id(self, catalogue: Catalogue) -> None:
        """Runs are listed by sample first, then by name, whatever the order they came in."""
        for name, sample_id in (("c", "s1"), ("a", "s2"), ("b", "s1")):
            catalogue.put_run(example_run(name, sample_id=sample_id), example_rows(1))
        assert [r.run.name for r in catalogue.runs()] == ["b", "c", "a"]

    def test_a_run_put_again_keeps_predictions_and_labels(self, catalogue: Catalogue) -> None:
        """Ingesting a run again replaces its facts and sizes; predictions, labels and counts stay."""
        catalogue.put_run(example_run(), example_rows(5))
        catalogue.put_predictions(example_predictions())
        catalogue.annotate([example_fact(index=1), example_fact(index=4, class_id="detritus")])
        before, counts = catalogue.page(ParticleFilter(run_id=A))[0], catalogue.class_counts()
        changed = replace(example_run(files={"a.lst": "00", "a_1.tif": "11"}), notes="more")
        catalogue.put_run(changed, example_rows(5, seed=1))
        after = catalogue.page(ParticleFilter(run_id=A))[0]
        kept = [(r.index, r.predicted, r.score, r.label, r.status) for r in after]
        assert kept == [(r.index, r.predicted, r.score, r.label, r.status) for r in before]
        assert [r.width_px for r in after] == example_rows(5, seed=1).width_px.tolist()
        record = catalogue.run(A)
        assert (record.run, record.predicted, record.validated, record.model_id) == (changed, 3, 2, "m1")
        assert catalogue.class_counts() == counts and len(catalogue.runs()) == 1

    def test_another_number_of_particles_is_a_conflict(self, catalogue: Catalogue) -> None:
        """A run put again must have as many particles as before; if not, the old one stays as it was."""
        catalogue.put_run(example_run(), example_rows(5))
        with pytest.raises(Conflict, match="5 particles"):
            catalogue.put_run(example_run(), example_rows(4))
        assert catalogue.run(A).particles == 5

    def test_a_removed_run_is_gone_and_its_labels_stand_again_when_it_returns(self, catalogue: Catalogue) -> None:
        """No question finds a removed run; its facts stay in the log and count again once it is back, its predictions do not."""
        for name in "ab":
            catalogue.put_run(example_run(name), example_rows(5))
            catalogue.put_predictions(example_predictions(name))
            catalogue.annotate([example_fact(name, 1)])
        catalogue.remove_run(A)
        assert [r.run.run_id for r in catalogue.runs()] == [B]
        assert {row.run_id for row in catalogue.page(ParticleFilter())[0]} == {B}
        assert {count.run_id for count in catalogue.class_counts()} == {B}
        for ask in (catalogue.run, catalogue.remove_run, catalogue.standing, catalogue.class_counts):
            with pytest.raises(NotFound):
                ask(A)
        assert len(list(catalogue.annotations())) == 2
        catalogue.put_run(example_run(), example_rows(5))
        record = catalogue.run(A)
        assert (record.predicted, record.model_id, record.validated) == (0, None, 1)
        assert catalogue.class_counts(A) == [ClassCount(A, "Copepoda", 0, 1)]
        assert set(catalogue.standing(A)) == {1}

    def test_samples(self, catalogue: Catalogue) -> None:
        """A sample put again is replaced with all its fields; a run that names it does not empty it."""
        full = Sample(
            "st/1",
            "Station å",
            NOON,
            51.5,
            2.75,
            0.0,
            3.5,
            10.0,
            50.0,
            20.0,
            2.0,
            {"temperature_degC": 12.1, "ice": "no"},
        )
        catalogue.put_sample(Sample("z"))
        catalogue.put_sample(Sample("st/1"))
        catalogue.put_sample(full)
        assert catalogue.samples() == [full, Sample("z")] and catalogue.sample("st/1") == full
        catalogue.put_run(example_run(sample_id="st/1"), example_rows(1))
        assert catalogue.sample("st/1") == full
        with pytest.raises(NotFound):
            catalogue.sample("nowhere")

    def test_a_run_is_attached_to_another_sample(self, catalogue: Catalogue) -> None:
        """A run moves with its particles to a sample that is made for it, and stays there."""
        catalogue.put_run(example_run(), example_rows(3))
        catalogue.attach(A, "new")
        assert catalogue.run(A).run == replace(example_run(), sample_id="new")
        assert [s.sample_id for s in catalogue.samples()] == ["new", "station 1"]
        assert len(catalogue.page(ParticleFilter(sample_id="new"))[0]) == 3
        assert catalogue.page(ParticleFilter(sample_id="station 1")) == ([], None)
        catalogue.put_predictions(example_predictions())
        assert catalogue.run(A).run.sample_id == "new"
        with pytest.raises(NotFound):
            catalogue.attach(B, "new")

    # -- predictions
    def test_predictions_are_replaced_whole(self, catalogue: Catalogue) -> None:
        """Later predictions leave nothing of the earlier ones, not even for particles that they say nothing of."""
        catalogue.put_run(example_run(), example_rows(6))
        catalogue.put_predictions(example_predictions(indices=(0, 1, 2, 3)))
        later = example_predictions(indices=(2, 5), model_id="m2", seed=3)
        catalogue.put_predictions(later)
        record = catalogue.run(A)
        assert (record.predicted, record.model_id) == (2, "m2")
        shown = {row.index: (row.predicted, row.score) for row in catalogue.page(ParticleFilter())[0]}
        for position, index in enumerate((2, 5)):
            best = later.class_ids[later.best[position, 0]]
            assert shown[index] == (best, float(later.scores[position, 0]))
        assert all(shown[index] == (None, None) for index in (0, 1, 3, 4))
        assert sum(count.predicted for count in catalogue.class_counts()) == 2

    def test_predictions_of_nothing_known(self, catalogue: Catalogue) -> None:
        """Predictions of an unknown run, or of a particle it does not have, are refused and nothing of them is kept."""
        with pytest.raises(NotFound):
            catalogue.put_predictions(example_predictions())
        catalogue.put_run(example_run(), example_rows(2))
        with pytest.raises(NotFound, match="2"):
            catalogue.put_predictions(example_predictions(indices=(0, 2)))
        assert catalogue.run(A).predicted == 0

    def test_a_prediction_never_touches_a_label(self, catalogue: Catalogue) -> None:
        """A label that a person gave stands before and after a prediction of another class."""
        catalogue.put_run(example_run(), example_rows(3))
        catalogue.annotate([example_fact(index=0, class_id="Ciliophora")])
        standing = catalogue.standing(A)
        catalogue.put_predictions(example_predictions())
        assert catalogue.standing(A) == standing
        assert catalogue.page(ParticleFilter(label="Ciliophora"))[0][0].status == "validated"
        assert catalogue.run(A).validated == 1

    # -- labels
    def test_facts_are_appended_and_folded(self, catalogue: Catalogue) -> None:
        """The log keeps every fact in order under rising numbers; the standing label is the fold of a particle's facts."""
        catalogue.put_run(example_run(), example_rows(4))
        facts = [
            example_fact(index=0, source=Source.IMPORT),
            example_fact(index=1, source=Source.RULE),
            example_fact(index=2, class_id=None, verdict=Verdict.UNSURE),
            example_fact(index=0, class_id="detritus", verdict=Verdict.CORRECTED, seconds=1),
        ]
        last = catalogue.annotate(facts[:2])
        assert catalogue.annotate(facts[2:]) == last + 2
        assert catalogue.annotate([]) == last + 2
        listed = list(catalogue.annotations())
        assert [fact for _, fact in listed] == facts
        assert [seq for seq, _ in listed] == sorted(seq for seq, _ in listed)
        assert list(catalogue.annotations(A, after=last)) == listed[2:]
        status = {row.index: (row.label, row.status) for row in catalogue.page(ParticleFilter())[0]}
        assert status == {
            0: ("detritus", "validated"), 1: ("Copepoda", "rule"), 2: (None, "unsure"), 3: (None, "unlabelled")
        }  # fmt: skip
        now = catalogue.standing(A)
        corrected = StandingLabel("detritus", Verdict.CORRECTED, "ada", facts[3].at, Source.PERSON)
        assert now[0] == corrected and set(now) == {0, 1, 2}
        catalogue.annotate([example_fact(index=0, class_id=None, verdict=Verdict.WITHDRAWN, seconds=2)])
        assert catalogue.page(ParticleFilter(run_id=A))[0][0].status == "imported"
        assert catalogue.run(A).validated == 0

    def test_several_facts_of_one_particle_at_once(self, catalogue: Catalogue) -> None:
        """Of facts in one call, the last one stands and is counted once."""
        catalogue.put_run(example_run(), example_rows(1))
        catalogue.annotate([example_fact(class_id=name, seconds=n) for n, name in enumerate(("x", "y", "x", "z"))])
        assert catalogue.class_counts() == [ClassCount(A, "z", 0, 1)]

    @pytest.mark.parametrize("bad", [example_fact("b", 0), example_fact("a", 3)], ids=["run", "index"])
    def test_a_fact_of_nothing_known_writes_nothing(self, catalogue: Catalogue, bad: Any) -> None:
        """One fact of an unknown run or particle stops all facts of the call."""
        catalogue.put_run(example_run(), example_rows(3))
        with pytest.raises(NotFound):
            catalogue.annotate([example_fact(), bad])
        assert list(catalogue.annotations()) == [] and catalogue.standing(A) == {}

    # -- questions
    @pytest.mark.parametrize("descending", [False, True], ids=["rising", "falling"])
    @pytest.mark.parametrize("sort", SORTS)
    def test_pages_of_any_size_give_the_same_rows(self, catalogue: Catalogue, sort: str, descending: bool) -> None:
        """For every sort, direction and filter, pages of 1, of 3 and of all hold the same rows in the same order, and it is
        that of `expected_rows`."""
        for name in "ab":
            catalogue.put_run(example_run(name), example_rows(17, seed=ord(name)))
            catalogue.put_predictions(example_predictions(name, tuple(range(0, 17, 2)), seed=ord(name)))
        catalogue.annotate([example_fact("a", i) for i in range(0, 17, 3)])
        where = [
            ParticleFilter(), ParticleFilter(run_id=A), ParticleFilter(sample_id="station 1"),
            ParticleFilter(predicted="Copepoda"), ParticleFilter(run_id=B, predicted="detritus"),
            ParticleFilter(label="Copepoda"), ParticleFilter(status="unlabelled", predicted="Copepoda"),
            ParticleFilter(run_id=A, sample_id="elsewhere"),
        ]  # fmt: skip
        catalogue.put_sample(Sample("elsewhere"))
        everything, _ = catalogue.page(ParticleFilter(), limit=100)
        assert len(everything) == 34
        for asked in where:
            whole, after = catalogue.page(asked, sort=sort, descending=descending, limit=100)
            assert after is None
            assert all_pages(catalogue, asked, sort, descending, 3) == whole
            assert all_pages(catalogue, asked, sort, descending, 1) == whole
            assert whole == expected_rows(everything, asked, sort, descending)

    def test_questions_about_nothing_known(self, catalogue: Catalogue) -> None:
        """An empty catalogue answers with nothing; an unknown run, sample or sort is an error, not an empty answer."""
        assert catalogue.page(ParticleFilter()) == ([], None) and catalogue.class_counts() == []
        for where in (ParticleFilter(run_id=A), ParticleFilter(sample_id="nowhere")):
            with pytest.raises(NotFound):
                catalogue.page(where)
        with pytest.raises(NotFound):
            catalogue.annotations(A)
        with pytest.raises(ValueError, match="sort"):
            catalogue.page(ParticleFilter(), sort="label")

    def test_class_counts(self, catalogue: Catalogue) -> None:
        """Counts by class are those of the best predictions and of what persons confirmed; imported labels do not count."""
        catalogue.put_run(example_run(), example_rows(9))
        predictions = example_predictions(indices=tuple(range(9)))
        catalogue.put_predictions(predictions)
        catalogue.annotate([example_fact(index=i, class_id="Copepoda" if i < 3 else "other") for i in range(5)])
        catalogue.annotate([example_fact(index=7, source=Source.IMPORT)])
        best = [predictions.class_ids[i] for i in predictions.best[:, 0]]
        validated = {"Copepoda": 3, "other": 2}
        names = sorted(set(best) | set(validated))
        expected = [ClassCount(A, name, best.count(name), validated.get(name, 0)) for name in names]
        assert catalogue.class_counts() == catalogue.class_counts(A) == expected

    # -- class list, models, settings
    def test_taxa_keep_their_order_and_are_replaced_by_id(self, catalogue: Catalogue) -> None:
        """An entry that is put again keeps its place in the class list; new ones come behind it."""
        taxa = [Taxon("z", "Zoo", 5, "egg", "living", "p", None), Taxon("a", "Algae", kind="unknown")]
        catalogue.put_taxa(taxa)
        catalogue.put_taxa([Taxon("b", "Bits", kind="artefact"), Taxon("z", "Zoo", merged_into="a")])
        kept = [Taxon("z", "Zoo", merged_into="a"), taxa[1], Taxon("b", "Bits", kind="artefact")]
        assert catalogue.taxa() == kept

    def test_models_and_meta(self, catalogue: Catalogue) -> None:
        """Models by id with their facts, and settings of the catalogue; what is put again is replaced."""
        catalogue.put_model("m2", "second", {"top1": 0.5, "classes": ["a", "b"]})
        catalogue.put_model("m1", "first", {})
        catalogue.put_model("m2", "renamed", {"top1": None})
        assert catalogue.models() == {"m1": {"name": "first"}, "m2": {"name": "renamed", "top1": None}}
        assert catalogue.get_meta("colour") is None
        catalogue.put_meta("colour", "red")
        catalogue.put_meta("colour", "grün")
        assert catalogue.get_meta("colour") == "grün"

    def test_many_threads_label_at_once(self, catalogue: Catalogue) -> None:
        """Four threads that label and read at the same time lose no fact and see no error."""
        catalogue.put_run(example_run(), example_rows(8))
        failed: list[BaseException] = []

        def label(worker: int) -> None:
            try:
                for turn in range(5):
                    catalogue.annotate([example_fact(index=worker, seconds=turn)])
                    catalogue.page(ParticleFilter(run_id=A))
            except Exception as error:  # noqa: BLE001 - handed to the test's own thread
                failed.append(error)

        threads = [threading.Thread(target=label, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == [] and len(list(catalogue.annotations())) == 20
        assert catalogue.run(A).validated == 4


def expected_rows(rows: list[ParticleRow], where: ParticleFilter, sort: str, descending: bool) -> list[ParticleRow]:
    """The rows of a question by the rule itself: by value, run_id and index, all falling or all rising, unknown last."""
    wanted = {name: value for name in ("run_id", "predicted", "label", "status") if (value := getattr(where, name))}
    if where.sample_id == "elsewhere":
        return []
    chosen = [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]

    def key(row: ParticleRow) -> tuple[Any, ...]:
        return (row.run_id, row.index) if sort == "index" else (getattr(row, sort), row.run_id, row.index)

    unknown = [row for row in chosen if sort != "index" and getattr(row, sort) is None]
    known = [row for row in chosen if row not in unknown]
    ties = sorted(unknown, key=lambda row: (row.run_id, row.index), reverse=descending)
    return sorted(known, key=key, reverse=descending) + ties
