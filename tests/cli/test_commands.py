"""The command line as users and scripts meet it."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from plankter.cli import app
from plankter.synthetic.flowcam import simulate_flowcam_run


def run(*arguments: object, status: int = 0) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_flowcam_run(
        tmp_path_factory.mktemp("source") / "st7", name="st7", particles=60, seed=5, classified=True
    ).folder


@pytest.fixture(scope="module")
def workspace(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    run("init", folder)
    (found,) = run("ingest", source, "-w", folder)["runs"]
    assert found["status"] == "ingested" and found["particles"] == 60 and found["flags"] == []
    run("classify", "-w", folder)
    return folder


def test_status_counts_every_particle(workspace: Path) -> None:
    found = run("status", "-w", workspace)
    assert (found["runs"], found["particles"], found["predicted"]) == (1, 60, 60)
    assert sum(entry["predicted"] for entry in found["by_class"].values()) == 60


def test_a_second_ingest_changes_nothing(workspace: Path, source: Path) -> None:
    (found,) = run("ingest", source, "-w", workspace)["runs"]
    assert found["status"] == "unchanged" and found["particles"] == 60


def test_a_renamed_copy_in_a_zip_is_the_same_run(workspace: Path, source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        for path in source.iterdir():
            archive.write(path, f"elsewhere/{path.name}")
    (found,) = run("ingest", tmp_path / "copy.zip", "-w", workspace)["runs"]
    assert found["status"] == "unchanged"


def test_changed_pixels_are_refused_and_added_files_update(source: Path, tmp_path: Path) -> None:
    copy, folder = tmp_path / "st7", tmp_path / "w"
    copy.mkdir()
    for path in source.iterdir():
        if not path.name.endswith("_bin.tif"):
            (copy / path.name).write_bytes(path.read_bytes())
    run("init", folder)
    assert run("ingest", copy, "-w", folder)["runs"][0]["status"] == "ingested"
    for path in source.glob("*_bin.tif"):
        (copy / path.name).write_bytes(path.read_bytes())
    assert run("ingest", copy, "-w", folder)["runs"][0]["status"] == "updated"
    collage = sorted(copy.glob("st7_0*1.tif"))[0]
    pixels = cv2.imread(str(collage))
    cv2.imwrite(str(collage), 255 - pixels)
    (found,) = run("ingest", copy, "-w", folder, status=1)["runs"]
    assert found["status"] == "refused" and collage.name in found["reason"]
    assert run("check", "--deep", "-w", folder)["problems"] == []


def test_classify_writes_a_report_and_names_its_model(workspace: Path) -> None:
    found = run("classify", "st7", "-w", workspace)
    (entry,) = found["runs"]
    assert entry["predicted"] == 60 and entry["failures"] == 0
    page = Path(entry["report"]).read_text(encoding="utf-8")
    assert "st7" in page and "<script" not in page
    models = run("models", "-w", workspace)["models"]
    assert found["model_id"] in {model["model_id"] for model in models}


def test_imported_labels_stand_and_survive_a_rebuild(workspace: Path) -> None:
    before = run("status", "-w", workspace)
    run("rebuild", "-w", workspace)
    assert run("status", "-w", workspace) == before
    assert run("check", "-w", workspace)["problems"] == []
    out = Path(run("export", "csv", "-w", workspace)["path"])
    with (out / "particles.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and {row["status"] for row in rows} == {"imported"}


def test_parquet_and_csv_say_the_same(workspace: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    found = run("export", "parquet", "-w", workspace, "--out", tmp_path / "p")
    table = pq.read_table(tmp_path / "p" / "particles.parquet")
    assert found["rows"]["particles.parquet"] == table.num_rows == 60
    run("export", "csv", "-w", workspace, "--out", tmp_path / "c")
    with (tmp_path / "c" / "particles.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == table.column("predicted").to_pylist()
    assert [float(row["esd_um"]) for row in rows] == pytest.approx(table.column("esd_um").to_pylist(), rel=1e-6)
    assert "csv" in run("export", "xml", "-w", workspace, status=1)["error"]["message"]


def test_samples_are_attached_later(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("run,sample_id,lat\nst7,north-7,51.5\nghost,x,1\n", encoding="utf-8")
    found = run("sample", tmp_path / "s.csv", "-w", workspace, status=1)
    assert [row["sample_id"] for row in found["attached"]] == ["north-7"] and found["unknown_runs"] == ["ghost"]
    run("classify", "north-7", "-w", workspace)


def test_backup_and_restore(workspace: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "b.zip", "-w", workspace)
    run("restore", tmp_path / "b.zip", tmp_path / "again")
    assert run("status", "-w", tmp_path / "again") == run("status", "-w", workspace)
    assert run("check", "--deep", "-w", tmp_path / "again")["problems"] == []
    assert "error" in run("restore", tmp_path / "b.zip", tmp_path / "again", status=1)


def test_remove_takes_a_run_out(source: Path, tmp_path: Path) -> None:
    run("init", tmp_path / "w")
    (found,) = run("ingest", source, "-w", tmp_path / "w")["runs"]
    run("remove", found["run_id"], "-w", tmp_path / "w")
    assert run("status", "-w", tmp_path / "w")["particles"] == 0
    assert run("ingest", source, "-w", tmp_path / "w")["runs"][0]["status"] == "ingested"


def test_doctor_tells_what_it_is_and_what_it_is_not(source: Path, tmp_path: Path) -> None:
    (entry,) = run("doctor", source)["paths"]
    assert entry["reader"] == "flowcam" and entry["runs"] == 1 and entry["bytes_needed"] > 0
    (tmp_path / "notes.docx").write_bytes(b"PK")
    (entry,) = run("doctor", tmp_path / "notes.docx", status=1)["paths"]
    assert entry["reader"] is None and entry["problems"]


def test_predict_and_evaluate_without_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("Copepoda_adult", "Bubbles", "no_such_class"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(f"images/{name}/{number}.png", rng.integers(0, 255, (40, 60), dtype=np.uint8))
    (tmp_path / "images" / "Bubbles" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    found = run("predict", "--images", "images", "--out", "p.csv")
    assert (found["files"], found["predicted"], found["failures"]) == (10, 9, 1)
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert rows["Bubbles/broken.jpg"]["failure"] and not rows["Bubbles/broken.jpg"]["class_1"]
    row = rows["Bubbles/0.png"]
    scores = [float(row[f"score_{k}"]) for k in range(1, 6)]
    assert scores == sorted(scores, reverse=True) and not row["failure"]
    said = [found for found in rows.values() if not found["failure"]]
    assert len(said) == 9 and all(found["reason"] for found in said)
    assert {found["decision"] for found in said} <= {"", "Artefact"}  # noise is no plankton
    found = run("evaluate", "--images", "images")
    assert (found["images"], found["classes"], found["failures"]) == (6, 2, 1)
    assert found["unknown_folders"] == ["no_such_class"]
    assert 0 <= found["top1"] <= found["top3"] <= found["top5"] <= 1


def test_errors_are_one_object_and_wrong_arguments_exit_2(tmp_path: Path) -> None:
    error = run("status", "-w", tmp_path, status=1)["error"]
    assert error["code"] == "settings" and "plankter init" in error["hint"]
    run("init", tmp_path)
    assert run("init", tmp_path, status=1)["error"]["code"] == "conflict"
    assert "flowcam" in run("classify", "--model", "nope", "-w", tmp_path, status=1)["error"]["message"]
    assert "no run 'x'" in run("classify", "x", "-w", tmp_path, status=1)["error"]["message"]
    assert CliRunner().invoke(app, ["ingest"]).exit_code == 2
    for wrong in (
        ["burn"],
        ["export"],
        ["import"],
        ["import", "flowcam"],
        ["list", "--file", "x"],
        ["list", "flowcam"],
    ):
        assert CliRunner().invoke(app, ["models", *wrong]).exit_code == 2


def test_one_bad_run_among_twenty(tmp_path: Path) -> None:
    for number in range(20):
        simulate_flowcam_run(tmp_path / "in", name=f"r{number:02}", particles=4, seed=number)
    broken = tmp_path / "in" / "r07" / "r07.lst"
    broken.write_text("999\nnum-fields|2\n", encoding="utf-8")
    run("init", tmp_path / "w")
    found = run("ingest", tmp_path / "in", "-w", tmp_path / "w", status=1)["runs"]
    assert sorted(entry["status"] for entry in found) == ["ingested"] * 19 + ["refused"]
    (bad,) = [entry for entry in found if entry["status"] == "refused"]
    assert "r07" in bad["source"] and "999" in bad["reason"]


def test_a_path_that_is_not_there_stops_no_other(source: Path, tmp_path: Path) -> None:
    run("init", tmp_path / "w")
    found = run("ingest", tmp_path / "typo", source, "-w", tmp_path / "w", status=1)["runs"]
    assert [(entry["status"], Path(entry["source"]).name) for entry in found] == [
        ("refused", "typo"),
        ("ingested", "st7.lst"),
    ]


def test_every_verb_takes_a_workspace() -> None:
    import typer

    for name, command in typer.main.get_command(app).commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"-w", "--json"} <= options, name


def test_init_and_restore_go_where_w_says(tmp_path: Path) -> None:
    run("init", "-w", tmp_path / "a")
    run("backup", tmp_path / "b.zip", "-w", tmp_path / "a")
    run("restore", tmp_path / "b.zip", "-w", tmp_path / "c")
    assert run("status", "-w", tmp_path / "c")["runs"] == 0


def test_listings(workspace: Path) -> None:
    assert len(run("taxa")["taxa"]) == 95
    assert any(model["name"] == "flowcam" and model["classes"] == 95 for model in run("models")["models"])
    assert {p["name"] for p in run("plugins")["plugins"]} >= {"flowcam", "sqlite", "memory", "csv", "parquet"}
    assert run("models", "show", "flowcam")["card"].startswith("#")


def test_a_model_is_exported_imported_and_used(tmp_path: Path, source: Path) -> None:
    made = run("models", "export", "flowcam", "--out", tmp_path)
    assert Path(made["path"]).name == f"flowcam-{made['model_id']}.plankter-model.zip"
    assert run("models", "import", "--file", made["path"], "-w", tmp_path, status=1)["error"]["code"] == "not_found"
    run("init", tmp_path / "w")
    found = run("models", "import", "--file", made["path"], "-w", tmp_path / "w")
    assert found["status"] == "imported" and found["model_id"] == made["model_id"]
    assert run("models", "import", "--file", made["path"], "-w", tmp_path / "w")["status"] == "unchanged"
    run("models", "import", "--file", made["path"], "--out", tmp_path / "folder")
    assert run("models", "show", tmp_path / "folder")["model_id"] == made["model_id"]
    run("ingest", source, "-w", tmp_path / "w")
    assert run("classify", "--model", made["model_id"], "-w", tmp_path / "w")["model_id"] == made["model_id"]
    text = CliRunner().invoke(app, ["models", "export", "flowcam", "--out", str(tmp_path / "again.zip")]).stdout
    assert "again.zip" in text and (tmp_path / "again.zip").read_bytes() == Path(made["path"]).read_bytes()


def test_a_changed_model_file_is_refused_in_one_object(tmp_path: Path) -> None:
    made = Path(run("models", "export", "flowcam", "--out", tmp_path)["path"])
    data = bytearray(made.read_bytes())
    data[len(data) // 2] ^= 1
    made.write_bytes(data)
    run("init", tmp_path / "w")
    error = run("models", "import", "--file", made, "-w", tmp_path / "w", status=1)["error"]
    assert error["path"] == str(made) and error["code"] in ("model", "unreadable")
    assert {m["name"] for m in run("models", "-w", tmp_path / "w")["models"]} == {"flowcam", "flowcam-small"}
