"""A season in a workspace: the verdicts tell plankton that changed from images that changed."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from drift_season import season

from plankter._errors import ModelError, NotFound
from plankter.cli import app
from plankter.types import Annotation, Source, Verdict
from plankter.workflow.drift import drift
from plankter.workflow.workspace import init_workspace, open_workspace

WHEN = datetime(2024, 10, 1, tzinfo=UTC)
RUN_FIELDS = {
    "run_id", "sample_id", "started_at", "particles", "mmd2", "mmd_p", "class_mix_p", "confidence_p", "psi", "verdict",
    "advice",
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return season(tmp_path_factory.mktemp("season"))


def run(*arguments: object, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def found(workspace: Path) -> dict[str, Any]:
    return run("drift", "-w", workspace, "--model", "spring", "--report", workspace / "out" / "drift.html")


def test_the_verdicts_separate_season_and_instrument(found: dict[str, Any]) -> None:
    verdicts = {entry["name"]: entry["verdict"] for entry in found["runs"]}
    assert verdicts == {
        "spring_1": "none", "spring_2": "none", "summer_1": "other season (class mix)",
        "summer_2": "other season (class mix)", "lens": "other instrument (images)",
    }  # fmt: skip
    assert [entry["name"] for entry in found["runs"]] == list(verdicts)  # in the order of time


def test_the_fields_that_others_rely_on(found: dict[str, Any], workspace: Path) -> None:
    assert set(found) >= {"model_id", "runs", "months", "warnings"}
    for entry in found["runs"]:
        assert set(entry) >= RUN_FIELDS and entry["particles"] == 200 and entry["advice"]
    with open_workspace(workspace) as opened:
        kept = json.loads((opened.reports_folder / f"drift-{found['model_id']}.json").read_text(encoding="utf-8"))
    assert kept["runs"] == found["runs"]


def test_what_rose_in_summer_is_named(found: dict[str, Any]) -> None:
    summer = next(entry for entry in found["runs"] if entry["name"] == "summer_1")
    assert any(now > before for _, before, now in summer["rising"])
    assert all(now < before for _, before, now in summer["falling"])


def test_the_report_shows_the_oddest_pictures_of_the_alarm_only(found: dict[str, Any]) -> None:
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 1 and "<h3>lens</h3>" in page
    assert "Other season (class mix): summer_1" in page  # with summer_2 where the advice is the same


def test_the_text_says_what_to_do(workspace: Path) -> None:
    result = CliRunner().invoke(app, ["drift", "lens", "-w", str(workspace), "--model", "spring"])
    assert result.exit_code == 0 and "other instrument (images)" in result.stdout
    assert "Do not publish these counts" in result.stdout


def test_labels_of_people_give_the_accuracy_of_the_month(workspace: Path) -> None:
    with open_workspace(workspace) as opened:
        (record,) = [r for r in opened.catalogue.runs() if r.run.name == "spring_2"]
        run_id, model_id = record.run.run_id, str(record.model_id)
        kept = opened.archive.open(run_id).predictions(model_id)
        said = {int(i): kept.class_ids[k] for i, k in zip(kept.index, kept.best[:, 0], strict=True)}

        def fact(i: int, class_id: str | None, verdict: Verdict, **more: Any) -> Annotation:
            return Annotation(run_id, i, class_id, verdict, "kim", WHEN, **more)

        facts = [fact(i, said[i], Verdict.CONFIRMED) for i in range(10)]
        facts += [fact(i, "Fibers" if said[i] != "Fibers" else "Egg+Cyst", Verdict.CORRECTED) for i in range(10, 40)]
        # what does not count: a rule, an open question, a label taken back
        facts += [fact(40, said[40], Verdict.CONFIRMED, source=Source.RULE), fact(41, None, Verdict.UNSURE)]
        facts += [fact(42, said[42], Verdict.CONFIRMED), fact(42, None, Verdict.WITHDRAWN)]
        # an earlier prediction of this model was looked at, and it was wrong
        facts += [fact(43, said[43], Verdict.CORRECTED, on_model_id=model_id, on_class_id="something else")]
        facts += [fact(44, "a class of our own", Verdict.CORRECTED)]
        opened.catalogue.annotate(facts)
        result = drift(opened, ["spring_2"], model="spring")
    (month,) = result["months"]
    assert (month["month"], month["labels"], month["right"], month["alarm"]) == ("2024-05", 42, 10, True)
    assert month["low"] < 10 / 42 < month["high"] < result["expected_accuracy"]
    assert "1 validated labels are of classes that the model does not know" in result["warnings"][0]


def test_a_run_without_embeddings_is_named_and_stops_nothing(workspace: Path) -> None:
    with open_workspace(workspace) as opened:
        record = opened.catalogue.runs()[0]
        (path,) = (opened.archive.root / record.run.run_id / "embeddings").glob("*.npy")
        path.rename(path.with_suffix(".away"))
        try:
            result = drift(opened, model="spring")
        finally:
            path.with_suffix(".away").rename(path)
    assert len(result["runs"]) == 4 and "plankter classify" in " ".join(result["warnings"])


def test_rows_without_an_image_are_left_out(workspace: Path) -> None:
    with open_workspace(workspace) as opened:
        (record,) = [r for r in opened.catalogue.runs() if r.run.name == "spring_1"]
        (path,) = (opened.archive.root / record.run.run_id / "embeddings").glob("*.npy")
        before = path.read_bytes()
        values = np.load(path)
        values[:170] = np.nan
        np.save(path, values)
        try:
            (entry,) = drift(opened, ["spring_1"], model="spring")["runs"]
        finally:
            path.write_bytes(before)
    assert entry["images"] == 30 and entry["verdict"] == "too few images"


def test_a_model_without_a_reference_says_what_to_do(tmp_path: Path, workspace: Path) -> None:
    with open_workspace(workspace) as opened:
        model = opened.models_folder / opened.catalogue.runs()[0].model_id  # type: ignore[operator]
        bare = tmp_path / "bare"
        bare.mkdir()
        for name in ("backbone.onnx", "head.npz"):
            (bare / name).write_bytes((model / name).read_bytes())
        facts = json.loads((model / "model.json").read_text(encoding="utf-8"))
        del facts["reference"]
        (bare / "model.json").write_text(json.dumps(facts), encoding="utf-8")
        with pytest.raises(ModelError, match="no sample of its training images"):
            drift(opened, model=str(bare))


def test_unknown_runs_and_empty_workspaces(tmp_path: Path, workspace: Path) -> None:
    assert run("drift", "nothing", "-w", workspace, "--model", "spring", status=1)["error"]["code"] == NotFound.code
    with open_workspace(workspace) as opened:
        model = str(opened.models_folder / str(opened.catalogue.runs()[0].model_id))
    init_workspace(tmp_path / "empty")
    empty = run("drift", "-w", tmp_path / "empty", "--model", model, "--report", tmp_path / "empty.html")
    assert empty["runs"] == [] and empty["months"] == []
    assert "No run could be compared" in (tmp_path / "empty.html").read_text(encoding="utf-8")
