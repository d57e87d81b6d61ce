"""Evaluation and explanation through the workflow, with the model that ships and one made from it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from plankter._errors import ImageError, NotFound, PlankterError, ReadError, SettingsError
from plankter.classify.head import load_head, save_head
from plankter.classify.models import built_in_models, read_model_json, write_model_json
from plankter.classify.splits import judges
from plankter.workflow.evaluate import evaluate
from plankter.workflow.evaluation_images import class_rows, compare_images, read_images, tables_beside
from plankter.workflow.explain import explain

CLASSES = ("Bubbles", "Copepoda_adult", "Tripos")
KEYS = {
    "model_id", "precision", "images", "classes", "unknown_folders", "failures", "top1", "top3", "top5", "macro_f1",
    "weighted_f1", "balanced_accuracy", "log_loss", "ece", "seconds", "images_per_s",
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in three classes, one unknown folder and one broken image."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for c, name in enumerate((*CLASSES, "Whales")):
        (folder / name).mkdir()
        for number in range(6 + c):
            pixels = cv2.GaussianBlur(rng.integers(0, 255, (50, 60), np.uint8), (0, 0), 1 + 3 * c)
            cv2.imwrite(str(folder / name / f"{name}_{number}.png"), pixels)
    (folder / "Bubbles" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network with a head that knows neither Tripos nor most other classes, in another order."""
    source, folder = built_in_models()["flowcam"], tmp_path_factory.mktemp("other") / "small"
    folder.mkdir()
    shutil.copy(source / "backbone.onnx", folder)
    facts, head = read_model_json(source), load_head(source)
    kept = ("Nauplii", "Copepoda_adult", "Bubbles")
    columns = [facts["class_ids"].index(c) for c in kept]
    save_head(folder / "head.npz", head.weight[:, columns], head.bias[columns])
    write_model_json(
        folder, name="small", backbone_name="n", dim=head.dim, input_px=facts["backbone"]["input_px"], class_ids=kept,
        class_counts=(3, 4, 5), temperature=1.0, card={},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def reported(images: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Everything asked for at once."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "mix.csv").write_text("class,count\nbubbles,70\nCopepoda_adult,20\nNauplii,10\n", encoding="utf-8")
    with (folder / "groups.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["File", "year", "net"])
        rows.writerow(["Bubbles/Bubbles_0.png", "2021", "A"])
        rows.writerow(["Bubbles_1.png", "2022", ""])
        rows.writerow(["Copepoda_adult_3.png", "2021", "B"])
    found = evaluate(
        images, report=folder / "new" / "r.html", mix=str(folder / "mix.csv"), groups=folder / "groups.csv",
        against=str(other), precision="f32",
    )  # fmt: skip
    return found, folder / "new"


def test_without_options_the_keys_are_those_of_the_architecture(images: Path) -> None:
    found = evaluate(images)
    assert set(found) == KEYS
    assert (found["images"], found["classes"], found["failures"]) == (21, 3, 1)
    assert found["unknown_folders"] == ["Whales"]


def test_the_report_and_its_numbers_stand_side_by_side(reported: tuple[dict[str, Any], Path]) -> None:
    found, folder = reported
    assert sorted(path.name for path in folder.iterdir()) == ["r.html", "r.json"]
    assert set(found) == KEYS | {"report", "numbers", "reweighted", "groups", "comparison"}
    numbers = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert numbers["images"] == 21 and numbers["unknown_folders"] == ["Whales"]
    assert [failure["file"] for failure in numbers["failures"]] == ["Bubbles/broken.jpg"]
    for name in ("top1", "top3", "macro_f1", "log_loss", "ece", "balanced_accuracy"):
        assert numbers["figures"][name]["value"] == found[name]
        assert numbers["figures"][name]["low"] <= found[name] <= numbers["figures"][name]["high"]
    assert sum(images for _, _, images in numbers["confusion"]["cells"]) == 21
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "Whales" in page and page.count("data:image/jpeg") > 3 and len(page) < 8_000_000


def test_re_weighting_follows_the_table(reported: tuple[dict[str, Any], Path]) -> None:
    found, folder = reported
    other = found["reweighted"]
    assert other["mix"] == "mix.csv" and other["classes_without_images"] == ["Nauplii"]
    assert other["share_without_images"] == pytest.approx(0.1)
    numbers = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    recall = {entry["class_id"]: entry["recall"] for entry in numbers["per_class"]}
    expected = (70 * recall["Bubbles"] + 20 * recall["Copepoda_adult"]) / 90
    assert other["figures"]["top1"]["value"] == pytest.approx(expected, abs=1e-4)
    assert [bin_["classes"] for bin_ in numbers["class_size"]["mix"]] == [1, 1, 1]  # 0, 20 and 70 in the table


def test_groups_find_images_by_path_or_by_name(reported: tuple[dict[str, Any], Path]) -> None:
    years = {row["group"]: row["images"] for row in reported[0]["groups"]["year"]}
    assert years == {"2021": 2, "2022": 1}
    assert {row["group"]: row["images"] for row in reported[0]["groups"]["net"]} == {"A": 1, "B": 1}


def test_models_are_compared_where_both_know_the_class(reported: tuple[dict[str, Any], Path]) -> None:
    found = reported[0]["comparison"]
    assert found["against"]["name"] == "small" and found["images"] == 13  # no Tripos
    assert sum(found[name] for name in ("both", "only_first", "only_second", "neither")) == 13
    assert 0 <= found["p"] <= 1 and found["top1"]["low"] <= found["top1"]["value"] <= found["top1"]["high"]


def test_a_model_beside_itself_is_no_better(images: Path) -> None:
    found = evaluate(images, against="flowcam")["comparison"]
    assert found["p"] == 1 and found["only_first"] == found["only_second"] == 0
    assert found["top1"]["value"] == found["macro_f1"]["high"] == 0


def test_halves_divide_the_images_by_name(images: Path) -> None:
    names = [path.name for c in CLASSES for path in (images / c).glob("*.png")]
    judging = sum(judges(name) for name in names)
    assert 0 < judging < len(names)
    assert evaluate(images, half="judge")["images"] == judging
    assert evaluate(images, half="fit")["images"] == len(names) - judging


@pytest.mark.parametrize("mix", ["balanced", "training"])
def test_named_mixes(images: Path, mix: str) -> None:
    found = evaluate(images, mix=mix)
    other = found["reweighted"]["figures"]
    assert found["reweighted"]["mix"] == mix
    if mix == "balanced":
        assert other["top1"]["value"] == pytest.approx(found["balanced_accuracy"], abs=1e-4)


def test_what_cannot_be_used_is_refused_and_nothing_is_written(images: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="all, fit, judge"):
        evaluate(images, half="third")
    with pytest.raises(SettingsError, match=r"ends in \.html"):
        evaluate(images, report=tmp_path / "r.pdf")
    with pytest.raises(SettingsError, match="class mix cannot be read"):
        evaluate(images, mix=str(tmp_path / "none.csv"))
    with pytest.raises(NotFound, match="no model 'nope'"):
        evaluate(images, against="nope")
    with pytest.raises(ReadError, match="named as a class"):
        evaluate(images / "Whales")
    for text, message in (("name,year\na,1\n", "column 'file'"), ("file\na\n", "column 'file'")):
        (tmp_path / "g.csv").write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError, match=message):
            evaluate(images, groups=tmp_path / "g.csv")
    (tmp_path / "g.csv").write_text("file,year\nelsewhere.png,1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="no image of the folder"):
        evaluate(images, groups=tmp_path / "g.csv")
    (tmp_path / "g.csv").write_bytes(b"file,year\n\xff\xfe,1\n")
    with pytest.raises(SettingsError, match="CSV in UTF-8"):
        evaluate(images, groups=tmp_path / "g.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.csv"]


def test_an_explanation_names_the_class_and_draws_it(images: Path, tmp_path: Path) -> None:
    image = images / "Tripos" / "Tripos_0.png"
    found = explain(image, tmp_path / "new" / "e.png", patch_px=20, precision="f32")
    assert found["class_id"] == found["best"][0]["class_id"] and found["patch_px"] == 20
    assert found["score"] == pytest.approx(found["best"][0]["score"], abs=1e-4)
    assert 0 <= found["x_px"] < 60 and 0 <= found["y_px"] < 50
    assert cv2.imread(str(tmp_path / "new" / "e.png")) is not None
    asked = explain(image, tmp_path / "f.png", class_name="copepoda adult", patch_px=25, precision="f32")
    assert asked["class_id"] == "Copepoda_adult" and asked["best"] == found["best"]


@pytest.mark.parametrize("method", ["occlusion", "rise", "cam"])
def test_every_method_draws_and_is_checked(images: Path, tmp_path: Path, method: str) -> None:
    image = np.full((80, 80), 190, np.uint8)  # a rod in one corner: what the model sees, if it sees anything
    cv2.line(image, (8, 10), (38, 22), 40, 5)
    cv2.imwrite(str(tmp_path / "rod.png"), image)
    found = explain(tmp_path / "rod.png", tmp_path / "e.png", method=method, masks=200, precision="f32")
    assert found["method"] == method and (tmp_path / "e.png").stat().st_size > 5_000
    assert ("masks" in found, "patch_px" in found, "largest_part" in found) == (
        method == "rise", method == "occlusion", method == "cam",
    )  # fmt: skip
    check = found["check"]
    assert all(0 <= check[name] <= 1 for name in ("deletion", "insertion", "random_deletion", "random_insertion"))
    if method != "cam":  # three cells a side are too coarse to promise it
        assert check["better_than_random"]


def test_a_particle_of_a_workspace_goes_by_its_name(tmp_path: Path) -> None:
    from plankter.synthetic.flowcam import simulate_flowcam_run
    from plankter.workflow.ingest import ingest
    from plankter.workflow.workspace import init_workspace, open_workspace

    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        ingest(workspace, [simulate_flowcam_run(tmp_path / "r", name="r", particles=5, seed=1).folder])
        run_id = workspace.catalogue.runs()[0].run.run_id
        found = explain(Path(f"{run_id}:3"), tmp_path / "e.png", method="cam", workspace=workspace, precision="f32")
        ((_, png),) = workspace.archive.open(run_id).read_vignettes([3])
        (tmp_path / "same.png").write_bytes(png)
        same = explain(tmp_path / "same.png", tmp_path / "f.png", method="cam", precision="f32")
        assert found["best"] == same["best"] and found["check"] == same["check"] and found["image"] == f"{run_id}:3"
        for absent in (f"{run_id}:5", "nowhere:1"):
            with pytest.raises(NotFound):
                explain(Path(absent), tmp_path / "g.png", workspace=workspace)
        with pytest.raises(PlankterError):
            explain(Path(f"../{run_id}:1"), tmp_path / "g.png", workspace=workspace)


def test_a_head_of_chance_gives_another_map(images: Path, other: Path, tmp_path: Path) -> None:
    """The sanity test of Adebayo et al. 2018 (NeurIPS): a map that stays when the weights are drawn anew is an edge finder."""
    from plankter.classify.models import load_model
    from plankter.classify.saliency_rise import rise_map
    from plankter.vignettes.codec import read_image
    from plankter.workflow.engine import load_engine
    from plankter.workflow.explain import _activation, _scores

    head, facts = load_head(other), read_model_json(other)
    vignette = read_image(images / "Copepoda_adult" / "Copepoda_adult_1.png", grey=True)

    def maps(folder: Path) -> list[np.ndarray]:
        engine = load_engine(load_model(folder), precision="f32")
        return [
            _activation(engine, vignette, 1),
            rise_map(vignette, lambda v: _scores(engine, v), 1, masks=100).fall,
        ]

    own = maps(other)
    alike = []
    for seed in range(16):  # one head of chance may look at the same place by chance
        mixed = tmp_path / f"mixed{seed}"
        shutil.copytree(other, mixed)
        # drawn, not permuted: sums kept would keep the map of all features together, which all classes share
        weight = np.random.default_rng(seed).normal(0, head.weight.std(), head.weight.shape).astype(np.float32)
        save_head(mixed / "head.npz", weight, head.bias)
        write_model_json(
            mixed, name="mixed", backbone_name="n", dim=head.dim, input_px=facts["backbone"]["input_px"],
            class_ids=tuple(facts["class_ids"]), class_counts=(3, 4, 5), temperature=1.0, card={},
        )  # fmt: skip
        alike.append([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(own, maps(mixed), strict=True)])
    activation, rise = np.array(alike).T
    # one particle: a map is for it or against it, and chance has as many of the one as of the other
    assert abs(rise.mean()) < 0.35 and 5 <= (rise > 0).sum() <= 11
    # coarse, and every feature lies on the particle: the map may turn round but hardly move (docs/evaluation.md)
    assert activation.min() < -0.5 and activation.mean() < 0.7


def test_explanations_that_cannot_be_are_refused(images: Path, tmp_path: Path) -> None:
    image = images / "Tripos" / "Tripos_0.png"
    with pytest.raises(SettingsError, match=r"ends in \.png"):
        explain(image, tmp_path / "e.jpg")
    with pytest.raises(SettingsError, match="overwrite"):
        explain(image, image)
    with pytest.raises(SettingsError, match="1 px or more"):
        explain(image, tmp_path / "e.png", patch_px=0)
    with pytest.raises(SettingsError, match="occlusion, rise, cam"):
        explain(image, tmp_path / "e.png", method="shap")
    with pytest.raises(SettingsError, match="2 masks"):
        explain(image, tmp_path / "e.png", method="rise", masks=1)
    with pytest.raises(NotFound, match="no class 'Whale'"):
        explain(image, tmp_path / "e.png", class_name="Whale")
    with pytest.raises(ImageError):
        explain(images / "Bubbles" / "broken.jpg", tmp_path / "e.png")
    assert list(tmp_path.iterdir()) == []


def test_the_answers_that_are_kept_give_the_same_numbers(images: Path, other: Path, tmp_path: Path) -> None:
    found = evaluate(images, against=str(other), precision="f32", keep=tmp_path)
    assert set(found) == KEYS | {"comparison"}
    first, second = (read_images(path) for path in tables_beside(tmp_path).values())
    assert (len(first), first.model, second.model) == (21, "flowcam", "small")
    assert float(np.mean(first.true == first.given)) == pytest.approx(found["top1"], abs=1e-5)
    f1 = [row["f1"] for row in class_rows(first) if row["images"]]
    assert sum(f1) / len(f1) == pytest.approx(found["macro_f1"], abs=1e-5)
    beside = compare_images(first, second)
    for name in ("images", "both", "only_first", "only_second", "neither", "p", "top1", "macro_f1", "first", "second"):
        assert beside[name] == found["comparison"][name], name
    assert beside["left_out"] == 8 and beside["other_content"] == 0  # no Tripos in the second
