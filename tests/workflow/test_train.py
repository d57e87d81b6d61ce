"""Training as a whole: models that predict, figures from images nothing has seen, folders that tell how it went."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shape_images import SHAPES, tiny_model, write_shapes

from plankter._errors import Conflict, ModelError, NotFound, PlankterError, SettingsError
from plankter.classify.lda import combine, fit_lda, gather, load_statistics
from plankter.classify.models import load_model, read_model_json
from plankter.classify.novelty import load_reference
from plankter.store.base import ParticleFilter
from plankter.types import Annotation, Sample, Source, Verdict
from plankter.workflow import training_inputs
from plankter.workflow.compare import chosen_candidates, compare
from plankter.workflow.evaluate import evaluate
from plankter.workflow.predict import predict
from plankter.workflow.train import train
from plankter.workflow.training_config import TrainConfig
from plankter.workflow.workspace import init_workspace, open_workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, SHAPES, range(24))
    (root / "rod" / "cut.png").write_bytes((root / "rod" / "rod1.png").read_bytes()[:200])
    lines = [f"{shape}{k}.png,s{k % 6},{k % 12 + 1},{k}" for shape in SHAPES for k in range(24)]
    (root.parent / "groups.csv").write_text("file,sample,month,depth_m\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of a tiny network, whose backbone the tests train on."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trained(folder: Path, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    return train(
        TrainConfig(name="shapes", seed=3, model=tiny), folder=folder, table=folder.parent / "groups.csv", out=out
    )


def test_a_head_is_right_and_everything_odd_is_reported(trained: dict[str, Any]) -> None:
    assert (trained["name"], trained["mode"], trained["classes"], trained["images"]) == ("shapes", "head", 3, 72)
    assert trained["evaluation"]["top1"] >= 0.8
    assert trained["split"]["grouped_by"] == "sample"
    (problem,) = trained["problems"]
    assert problem["problem"] == "unreadable" and problem["names"] == ["rod/cut.png"]
    assert json.loads(json.dumps(trained, allow_nan=False)) == trained


def test_the_run_folder_tells_all(trained: dict[str, Any]) -> None:
    run = Path(trained["folder"])
    for name in ("config.json", "splits.csv", "curves.csv", "environment.json", "evaluation.json", "log.txt", "model"):
        assert (run / name).exists(), name
    with (run / "splits.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    part_of: dict[str, set[str]] = {}
    for row in rows:
        part_of.setdefault(row["group"], set()).add(row["split"])
    assert all(len(parts - {""}) <= 1 for parts in part_of.values())
    assert len(part_of) == 7
    counted = {part: sum(row["split"] == part for row in rows) for part in ("train", "tune", "judge")}
    assert counted == {part: trained["split"][part] for part in counted}
    assert [row["image"] for row in rows if not row["split"]] == ["rod/cut.png"]
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8")) == trained
    assert "numpy" in json.loads((run / "environment.json").read_text(encoding="utf-8"))["packages"]
    card = (run / "model" / "CARD.md").read_text(encoding="utf-8")
    assert "too few for thresholds" in card and "| rod | - | 16 | 4 | 4 |" in card


def test_the_model_predicts_as_it_was_judged(trained: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    model = load_model(Path(trained["model"]))
    assert model.model_id == trained["model_id"] and model.class_ids == SHAPES
    assert load_reference(model.folder) is not None
    facts = read_model_json(model.folder)
    assert facts["calibration"]["images"] == trained["split"]["tune"]
    with (Path(trained["folder"]) / "splits.csv").open(encoding="utf-8-sig", newline="") as file:
        judged = [row["image"] for row in csv.DictReader(file) if row["split"] == "judge"]
    for name in judged:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, tmp_path / name)
    found = evaluate(tmp_path, model=trained["model"])
    for metric in ("images", "top1", "macro_f1"):
        assert found[metric] == pytest.approx(trained["evaluation"][metric], abs=1e-5), metric
    assert found["log_loss"] == pytest.approx(trained["evaluation"]["log_loss"], abs=0.02)
    assert predict(folder, tmp_path / "p.csv", model=trained["model"])["failures"] == 1


def test_a_class_joins_without_the_old_images(trained: dict[str, Any]) -> None:
    old = load_statistics(Path(trained["model"]) / "statistics.npz")
    more = np.random.default_rng(0).normal(size=(30, old.dim)).astype(np.float32) + old.means.mean(axis=0)
    both = combine(old, gather(more.astype(np.float32), np.zeros(30, np.int64), ("new",)))
    assert both.class_ids == (*SHAPES, "new") and fit_lda(both).weight.shape == (old.dim, 4)


@pytest.mark.parametrize("asked", [{"head": "logistic", "balance": "loss"}, {"balance": "resample"}])
def test_other_heads_and_balances(folder: Path, tiny: str, tmp_path: Path, asked: dict[str, str]) -> None:
    found = train(TrainConfig(model=tiny, **asked), folder=folder, out=tmp_path)
    assert found["evaluation"]["top1"] > 0.6 and found["balance"]["method"] == asked["balance"]
    assert any("one by one" in text for text in found["warnings"])


@pytest.mark.parametrize(("classifier", "features"), [("forest", "both"), ("boosting", "measures")])
def test_classical_models(folder: Path, tiny: str, tmp_path: Path, classifier: str, features: str) -> None:
    pytest.importorskip("sklearn")
    config = TrainConfig(mode="classical", classifier=classifier, features=features, model=tiny)
    found = train(config, folder=folder, out=tmp_path / "o")
    assert found["evaluation"]["top1"] > 0.6
    again = evaluate(folder, model=found["model"])
    assert again["top1"] > 0.8 and again["failures"] == 1


def test_context_joins_the_head(folder: Path, tiny: str, tmp_path: Path) -> None:
    table = folder.parent / "groups.csv"
    (tmp_path / "c.csv").write_text(
        "\n".join(",".join(line.split(",")[i] for i in (0, 2, 3)) for line in table.read_text().splitlines()) + "\n"
    )
    found = train(TrainConfig(model=tiny), folder=folder, table=table, context=tmp_path / "c.csv", out=tmp_path / "o")
    assert read_model_json(Path(found["model"]))["inputs"]["context"] == ["depth_m", "month_sin", "month_cos"]
    assert evaluate(folder, model=found["model"])["context"]["images_known"] == 0
    _judged_again(found, folder, tmp_path)
    with pytest.raises(SettingsError, match="takes none"):
        train(TrainConfig(mode="classical", model=tiny), folder=folder, context=tmp_path / "c.csv", out=tmp_path / "o")
    (tmp_path / "c.csv").write_text("file,station\ndisc1.png,north\n")
    with pytest.raises(SettingsError, match="station"):
        train(TrainConfig(model=tiny), folder=folder, context=tmp_path / "c.csv", out=tmp_path / "o")


def _judged_again(found: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """With its table a model is judged as it was in training; without, or with what does not fit, it says so."""
    with (Path(found["folder"]) / "splits.csv").open(encoding="utf-8-sig", newline="") as file:
        judged = [row["image"] for row in csv.DictReader(file) if row["split"] == "judge"]
    images, table = tmp_path / "judged", tmp_path / "c.csv"
    for name in judged:
        (images / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(folder / name, images / name)
    given = evaluate(images, model=found["model"], context=table)
    assert given["context"] == {"columns": ["depth_m", "month_sin", "month_cos"], "images_known": len(judged)}
    for metric in ("images", "top1", "macro_f1"):
        assert given[metric] == pytest.approx(found["evaluation"][metric], abs=1e-5), metric
    assert given["log_loss"] == pytest.approx(found["evaluation"]["log_loss"], abs=0.02)
    deep = tmp_path / "deep.csv"  # so deep that nothing but the depth decides
    deep.write_text("file,sampled_at,depth_m\n" + "\n".join(f"{name},2020-03-01,1e6" for name in judged) + "\n")
    assert evaluate(images, model=found["model"], context=deep)["top1"] == pytest.approx(1 / 3, abs=1e-4)
    predict(images, tmp_path / "p.csv", model=found["model"], context=deep)
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len({row["class_1"] for row in csv.DictReader(file)}) == 1
    (tmp_path / "less.csv").write_text("file,month\ndisc1.png,3\n" + f"{judged[0]},3\n")
    with pytest.raises(SettingsError, match="lacks depth_m"):
        evaluate(images, model=found["model"], context=tmp_path / "less.csv")
    (tmp_path / "less.csv").write_text("file,depth_m\n" + f"{judged[0]},3\n")
    with pytest.raises(SettingsError, match="lacks date"):
        evaluate(images, model=found["model"], context=tmp_path / "less.csv")
    with pytest.raises(SettingsError, match="takes no context"):
        evaluate(folder, context=table)
    with pytest.raises(SettingsError, match="takes no context"):
        predict(folder, tmp_path / "p.csv", context=table)


def test_a_split_of_the_users_own_is_taken(folder: Path, tiny: str, tmp_path: Path) -> None:
    lines = [f"{s}{k}.png,{'judge' if k >= 16 else 'tune' if k >= 12 else 'train'}" for s in SHAPES for k in range(24)]
    (tmp_path / "split.csv").write_text("file,split\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = train(TrainConfig(model=tiny), folder=folder, table=tmp_path / "split.csv", out=tmp_path / "o")
    assert {k: found["split"][k] for k in ("train", "tune", "judge")} == {"train": 36, "tune": 12, "judge": 24}


def test_a_killed_training_goes_on_where_it_was(
    folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr(training_inputs, "PIECE", 32)
    seen: list[int] = []
    embed_rows = training_inputs._embed_rows

    def dies(engine: Any, images: Any, rows: Any, progress: Any = None) -> Any:
        if progress is not None:
            if len(seen) == 1:
                raise Killed
            seen.append(rows[0])
        return embed_rows(engine, images, rows, progress)

    monkeypatch.setattr(training_inputs, "_embed_rows", dies)
    with pytest.raises(Killed):
        train(TrainConfig(model=tiny), folder=folder, out=tmp_path)
    (left,) = tmp_path.iterdir()
    assert not (left / "evaluation.json").exists()
    later: list[int] = []

    def counts(engine: Any, images: Any, rows: Any, progress: Any = None) -> Any:
        if progress is not None:
            later.append(rows[0])
        return embed_rows(engine, images, rows, progress)

    monkeypatch.setattr(training_inputs, "_embed_rows", counts)
    found = train(TrainConfig(model=tiny), folder=folder, out=tmp_path)
    assert found["resumed"] and Path(found["folder"]) == left and later == [32, 64]
    whole = train(TrainConfig(model=tiny), folder=folder, out=tmp_path / "again")
    assert not whole["resumed"] and whole["evaluation"] == found["evaluation"]
    assert (Path(whole["model"]) / "head.npz").read_bytes() == (Path(found["model"]) / "head.npz").read_bytes()
    other = train(TrainConfig(seed=5, model=tiny), folder=folder, out=tmp_path)
    assert not other["resumed"] and Path(other["folder"]) != left


def test_an_estimate_trains_nothing(folder: Path, tiny: str, tmp_path: Path) -> None:
    for config in (
        TrainConfig(model=tiny),
        TrainConfig(head="logistic", model=tiny),
        TrainConfig(mode="classical", model=tiny),
    ):
        if config.mode == "classical":
            pytest.importorskip("sklearn")
        found = train(config, folder=folder, out=tmp_path / "o", estimate_only=True)
        assert found["estimate_s"] > 0 and found["images"] == 73
    assert not (tmp_path / "o").exists()


def test_from_a_workspaces_labels(folder: Path, tiny: str, tmp_path: Path) -> None:
    from plankter.synthetic.flowcam import simulate_flowcam_run
    from plankter.workflow.classify import classify
    from plankter.workflow.ingest import ingest

    init_workspace(tmp_path / "w")
    with open_workspace(tmp_path / "w") as workspace:
        for seed in (1, 2, 3):
            source = simulate_flowcam_run(
                tmp_path / f"r{seed}", name=f"r{seed}", particles=40, seed=seed, classified=True
            )
            ingest(workspace, [source.folder])
        with pytest.raises(NotFound, match="--imported"):
            train(TrainConfig(model=tiny), workspace=workspace)
        found = train(TrainConfig(imported=True, name="mine", model=tiny), workspace=workspace)
        assert found["split"]["grouped_by"] == "sample" and found["images"] == 120
        assert Path(found["folder"]).parent == tmp_path / "w" / "trainings"
        assert classify(workspace, model="mine")["model_id"] == found["model_id"]
        at = datetime(2026, 1, 1, tzinfo=UTC)
        record = workspace.catalogue.runs()[0]
        facts = [
            Annotation(record.run.run_id, i, SHAPES[i % 2], Verdict.CORRECTED, "me", at, Source.PERSON)
            for i in range(20)
        ]
        workspace.catalogue.annotate(facts)
        mine = train(TrainConfig(model=tiny), workspace=workspace)
        assert mine["images"] == 20 and mine["classes"] == 2 and mine["name"] == "workspace-head"
        with pytest.raises(Conflict, match="'mine' already"):
            train(TrainConfig(name="mine", model=tiny), workspace=workspace)
        with pytest.raises(SettingsError, match="goes with --images"):
            train(TrainConfig(model=tiny), workspace=workspace, table=tmp_path / "t.csv")


def test_context_comes_from_the_samples(tiny: str, tmp_path: Path) -> None:
    """Four runs of four samples: labels depend on the temperature, which the samples know."""
    from plankter.synthetic.flowcam import simulate_flowcam_run
    from plankter.workflow.classify import classify
    from plankter.workflow.ingest import ingest

    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for seed in (1, 2, 3, 4):
            source = simulate_flowcam_run(tmp_path / f"r{seed}", name=f"r{seed}", particles=30, seed=seed)
            ingest(workspace, [source.folder])
        for number, record in enumerate(workspace.catalogue.runs()):
            known = {"temperature_degC": 4.0 + number % 2 * 12} if number < 4 else {}
            workspace.catalogue.put_sample(Sample(record.run.sample_id, environment=known))
            facts = [
                Annotation(record.run.run_id, i, SHAPES[number % 2], Verdict.CORRECTED, "me", at, Source.PERSON)
                for i in range(30)
            ]
            workspace.catalogue.annotate(facts)
        config = TrainConfig(model=tiny, name="warm")
        found = train(config, workspace=workspace, context=Path("temperature_degC"))
        assert any(text.startswith("context") and "it helps" in text for text in found["warnings"])
        assert classify(workspace, model="warm")["runs"][0]["predicted"] == 30
        record = workspace.catalogue.runs()[0]
        page, _ = workspace.catalogue.page(ParticleFilter(run_id=record.run.run_id))
        assert {row.predicted for row in page} == {SHAPES[0]}
        with pytest.raises(NotFound, match="no sample knows salinity"):
            train(TrainConfig(model=tiny), workspace=workspace, context=Path("salinity"))


def test_what_cannot_be_asked(folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ({"mode": "magic"}, {"head": "svm"}, {"balance": "some"}, {"features": "all"}):
        with pytest.raises(SettingsError, match="must be one of"):
            TrainConfig(**wrong)
    with pytest.raises(SettingsError, match="no workspace"):
        train(TrainConfig(model=tiny), out=tmp_path)
    with pytest.raises(Conflict, match="flowcam"):
        train(TrainConfig(name="flowcam"), folder=folder, out=tmp_path)
    with pytest.raises(SettingsError, match="slash"):
        train(TrainConfig(name="../x"), folder=folder, out=tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ModelError, match="needs torch") as caught:
        train(TrainConfig(mode="finetune"), folder=folder, out=tmp_path)
    assert "plankter[train]" in str(caught.value)


def test_all_images_unreadable_is_one_clear_message(tiny: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
    with pytest.raises(PlankterError, match="none of the 2 images can be read"):
        train(TrainConfig(model=tiny), folder=tmp_path / "in", out=tmp_path / "o")


def test_a_class_of_which_no_image_can_be_read_is_named(folder: Path, tiny: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "in")
    (copy / "dead").mkdir()
    (copy / "dead" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n, and then no image")
    with pytest.raises(PlankterError, match="no image can be read of dead") as caught:
        train(TrainConfig(model=tiny), folder=copy, out=tmp_path / "o")
    assert "take its folder out" in str(caught.value.hint)


def test_a_comparison_sets_candidates_beside_each_other(
    folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    asked = f"{Path(tiny).name}+lda,measures+forest"
    found = compare(TrainConfig(model=tiny), folder=folder, out=tmp_path, candidates=asked)
    assert {row["name"] for row in found["rows"]} == set(asked.split(","))
    for row in found["rows"]:
        assert row["failure"] is None and row["images_per_s"] > 0 and row["memory_mb"] > 50
        assert row["parameters"] > 2000 and 0 <= row["top1"] <= 1
    assert Path(found["picture"]).read_text(encoding="utf-8").startswith("<svg")
    assert "measures+forest" in Path(found["csv"]).read_text(encoding="utf-8-sig")
    monkeypatch.setattr("plankter.workflow.compare.train", lambda *a, **k: pytest.fail("trained again"))
    assert compare(TrainConfig(model=tiny), folder=folder, out=tmp_path, candidates=asked)["rows"] == found["rows"]
    with pytest.raises(SettingsError, match="no candidate 'resnet'"):
        chosen_candidates(TrainConfig(model=tiny), "resnet")
    assert all(config.mode != "finetune" for config in chosen_candidates(TrainConfig(model=tiny), None).values())
