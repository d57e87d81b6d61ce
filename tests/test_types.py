"""The nouns refuse what cannot be, and the fold from annotations to a standing label."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.types import (
    Annotation,
    Model,
    Particles,
    Predictions,
    Run,
    Sample,
    Source,
    Taxon,
    Verdict,
    Vignette,
    standing_label,
)

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
RUN = "0123456789abcdef"


def fact(class_id: str | None, verdict: Verdict = Verdict.CONFIRMED, source: Source = Source.PERSON) -> Annotation:
    return Annotation(RUN, 0, class_id, verdict, "anna", AT, source)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Sample(" "),
        lambda: Sample("s", latitude_deg=91),
        lambda: Sample("s", longitude_deg=-180.5),
        lambda: Sample("s", volume_filtered_l=0),
        lambda: Sample("s", sampled_at=datetime(2026, 1, 1)),
        lambda: Run("xyz", "s", "flowcam", "n", "p"),
        lambda: Run(RUN, "s", "flowcam", "n", "p", um_per_px=-1),
        lambda: Run(RUN, "s", "flowcam", "n", "p", volume_imaged_ml=float("nan")),
        lambda: Run(RUN, "s", "flowcam", "n", "p", started_at=AT.astimezone(timezone(timedelta(hours=2)))),
        lambda: Taxon("", "x"),
        lambda: Taxon("x", "x", kind="plant"),
        lambda: Taxon("x", "x", aphia_id=0),
        lambda: fact(None),
        lambda: Annotation(RUN, -1, "x", Verdict.CONFIRMED, "anna", AT),
        lambda: Annotation(RUN, 0, "x", Verdict.CONFIRMED, "", AT),
        lambda: Vignette(0, np.zeros((3, 4), np.uint8), np.zeros((4, 3), bool)),
        lambda: Model("m", "m", None, "b", "h", "p", 80, ("a", "a")),
    ],
)
def test_what_cannot_be_is_refused(broken) -> None:
    with pytest.raises(ValueError, match=r".+"):
        broken()


def test_particles_of_different_lengths_are_refused() -> None:
    index, box = np.arange(2), np.zeros((2, 4), np.int32)
    with pytest.raises(ValueError, match="failure has 1 rows"):
        Particles(index, ("1", "2"), (None, None), box, {}, (None,))
    with pytest.raises(ValueError, match="feature area"):
        Particles(index, ("1", "2"), (None, None), box, {"area": np.zeros(3)}, (None, None))
    with pytest.raises(ValueError, match="in order"):
        Particles(index[::-1], ("1", "2"), (None, None), box, {}, (None, None))


def test_predictions_point_into_their_classes() -> None:
    best, scores = np.array([[0, 2]], np.int16), np.array([[0.9, 0.1]], np.float32)
    with pytest.raises(ValueError, match="outside class_ids"):
        Predictions("m", RUN, "f32", np.arange(1), ("a", "b"), best, scores)
    with pytest.raises(ValueError, match="duplicate"):
        Predictions("m", RUN, "f32", np.arange(1), ("a", "a", "b"), best, scores)


def test_a_person_outranks_an_import_and_an_import_a_rule() -> None:
    facts = [fact("a"), fact("b", source=Source.IMPORT), fact("c", source=Source.RULE)]
    assert standing_label(facts).class_id == "a"
    assert standing_label(facts[1:]).class_id == "b"
    assert standing_label(facts[2:]).class_id == "c"
    assert standing_label([]) is None


def test_undo_is_one_more_fact() -> None:
    facts = [fact("import", source=Source.IMPORT), fact("a"), fact("b", Verdict.CORRECTED)]
    undo = fact(None, Verdict.WITHDRAWN)
    assert standing_label(facts).class_id == "b"
    assert standing_label([*facts, undo]).class_id == "a"
    assert standing_label([*facts, undo, undo]).class_id == "import"
    assert standing_label([*facts, undo, undo, undo]).class_id == "import"


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(Source))), max_size=8))
def test_withdrawing_everything_leaves_nothing(said: list[tuple[str, Source]]) -> None:
    facts = [fact(class_id, source=source) for class_id, source in said]
    undone = facts + [fact(None, Verdict.WITHDRAWN, source) for _, source in said]
    assert standing_label(undone) is None
    if facts:
        assert standing_label(facts).class_id in {class_id for class_id, _ in said}


def test_mappings_of_a_run_cannot_be_changed() -> None:
    run = Run(RUN, "s", "flowcam", "n", "p", settings={"Fluid/FringeSize": "4.5"})
    with pytest.raises(TypeError):
        run.settings["x"] = "y"  # type: ignore[index]
