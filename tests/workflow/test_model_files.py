"""Models as one file: the same file for the same model, and nothing taken in that is not a whole, unchanged model."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import Conflict, ModelError, NotFound, PlankterError
from plankter.classify.head import save_head
from plankter.classify.models import built_in_models, load_model, write_model_json
from plankter.workflow.model_files import MANIFEST, model_file_name, unpacked_model, write_model_file
from plankter.workflow.models import export_model, import_model, list_models
from plankter.workflow.workspace import find_model, init_workspace, open_workspace

NETWORK = bytes.fromhex("08083a0612046d61696e")  # an ONNX model whose graph has a name and nothing else


def make_model(
    folder: Path, name: str = "tiny", network: bytes = NETWORK, classes: int = 2, trainable: bytes | None = None
) -> Path:
    folder.mkdir(parents=True)
    if trainable is not None:
        (folder / "trainable.onnx").write_bytes(trainable)
    (folder / "backbone.onnx").write_bytes(network)
    save_head(folder / "head.npz", np.ones((6, classes)), np.zeros(classes))
    (folder / "CARD.md").write_text("# tiny\n", encoding="utf-8")
    write_model_json(
        folder, name=name, backbone_name="none", dim=6, input_px=24, class_ids=("a", "b"), class_counts=(3, 4),
        temperature=1.25, card={"license": "Apache-2.0", "metrics": {"top1": 0.5}},
    )  # fmt: skip
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_model_file(load_model(make_model(tmp_path / "model")), tmp_path / "tiny.zip")


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def rewrite(file: Path, **changed: bytes | None) -> Path:
    """A zip of the same members, some changed, added or (None) left out."""
    kept = members(file) | {name.replace("__", "."): data for name, data in changed.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in kept.items():
            if data is not None:
                archive.writestr(name, data)
    return file


def manifest_with(file: Path, **facts: object) -> bytes:
    return json.dumps(json.loads(members(file)[MANIFEST]) | facts).encode()


def test_a_model_gives_the_same_file_wherever_and_whenever_it_lies(tmp_path: Path, file: Path) -> None:
    copy = shutil.copytree(tmp_path / "model", tmp_path / "elsewhere")
    (copy / "Thumbs.db").write_bytes(b"left by the system")
    os.utime(copy / "model.json", (0, 0))
    (copy / "head.npz").chmod(0o600)
    again = write_model_file(load_model(copy), tmp_path / "again.zip")
    assert again.read_bytes() == file.read_bytes()
    assert list(members(file)) == [MANIFEST, "CARD.md", "backbone.onnx", "head.npz", "model.json"]
    with zipfile.ZipFile(file) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert not list(tmp_path.glob(".*"))


def test_export_names_the_file_by_model_and_id(tmp_path: Path) -> None:
    model = load_model(make_model(tmp_path / "model", name="../North Sea/è 2"))
    assert model_file_name(model) == f"North_Sea_2-{model.model_id}.plankter-model.zip"
    found = export_model(str(tmp_path / "model"), None, tmp_path)
    assert Path(found["path"]) == tmp_path / model_file_name(model)
    assert found["bytes"] == Path(found["path"]).stat().st_size


def test_export_refuses_a_model_that_is_not_itself_any_more(tmp_path: Path) -> None:
    model = load_model(make_model(tmp_path / "model"))
    (model.folder / "CARD.md").write_text("# other\n", encoding="utf-8")
    with pytest.raises(ModelError, match="changed since it was loaded"):
        write_model_file(model, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_the_shipped_model_goes_out_and_comes_in(tmp_path: Path) -> None:
    out = export_model("flowcam", None, tmp_path)
    folder = init_workspace(tmp_path / "w")
    with open_workspace(folder) as workspace:
        found = import_model(Path(out["path"]), workspace)
        assert found["status"] == "imported" and found["model_id"] == out["model_id"]
        assert Path(found["path"]) == folder / "models" / out["model_id"]
        for path in Path(found["path"]).iterdir():
            assert path.read_bytes() == (built_in_models()["flowcam"] / path.name).read_bytes()
        assert import_model(Path(out["path"]), workspace)["status"] == "unchanged"
        assert sorted(p.name for p in (folder / "models").iterdir()) == [out["model_id"]]


def test_the_network_that_a_training_starts_from_is_part_of_the_model(tmp_path: Path) -> None:
    plain, more = (load_model(make_model(tmp_path / n, trainable=t)) for n, t in (("a", None), ("b", NETWORK)))
    assert plain.model_id != more.model_id
    with unpacked_model(write_model_file(more, tmp_path / "b.zip")) as model:
        assert model.model_id == more.model_id and (model.folder / "trainable.onnx").read_bytes() == NETWORK
    (more.folder / "trainable.onnx").write_bytes(NETWORK + b" ")
    with pytest.raises(ModelError, match="changed since the model was made"):
        load_model(more.folder)


def test_an_imported_model_is_listed_and_found_by_name_and_id(tmp_path: Path, file: Path) -> None:
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        found = import_model(file, workspace)
        listed = {entry["model_id"]: entry for entry in list_models(workspace)["models"]}
        assert listed[found["model_id"]]["name"] == "tiny" and listed[found["model_id"]]["top1"] == 0.5
        for name in ("tiny", found["model_id"]):
            assert find_model(name, workspace).folder == workspace.models_folder / found["model_id"]


def test_import_without_a_workspace_needs_a_folder(tmp_path: Path, file: Path) -> None:
    with pytest.raises(NotFound, match="no workspace to import into"):
        import_model(file, None)
    found = import_model(file, None, tmp_path / "new" / "folder")
    assert load_model(tmp_path / "new" / "folder").model_id == found["model_id"]
    assert import_model(file, None, tmp_path / "new" / "folder")["status"] == "unchanged"
    with pytest.raises(Conflict, match="something else"):
        import_model(file, None, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: rewrite(f, backbone__onnx=NETWORK[:-1] + b"x"), "changed since the model was made"),
        (lambda f: rewrite(f, head__npz=members(f)["head.npz"] + b"\0"), "changed since the model was made"),
        (lambda f: rewrite(f, CARD__md=b"# of another"), "was announced: its files were changed"),
        (lambda f: rewrite(f, model__json=members(f)["model.json"].replace(b"1.25", b"1.26")), "was announced"),
        (lambda f: rewrite(f, model__json=b"{"), "expected JSON"),
        (lambda f: rewrite(f, **{MANIFEST: manifest_with(f, model_id="0" * 16)}), "was announced"),
        (lambda f: rewrite(f, **{MANIFEST: manifest_with(f, model_id=7)}), "model_id must be a text"),
        (lambda f: rewrite(f, **{MANIFEST: manifest_with(f, package_version=2)}), "newer than this plankter"),
        (lambda f: rewrite(f, **{MANIFEST: manifest_with(f, package_version="1")}), "whole number"),
        (lambda f: rewrite(f, **{MANIFEST: manifest_with(f, files=[])}), "lists other files"),
        (lambda f: rewrite(f, **{MANIFEST: b"["}), "expected JSON"),
        (lambda f: rewrite(f, **{MANIFEST: b"[" * 100_000}), "expected JSON"),
        (lambda f: rewrite(f, **{MANIFEST: b"[]"}), "package_version"),
        (lambda f: rewrite(f, **{MANIFEST: None}), "no model file"),
        (lambda f: rewrite(f, CARD__md=None), "lists other files"),
        (lambda f: rewrite(f, head__npz=None, **{MANIFEST: without(f, "head.npz")}), "head.npz: cannot be read"),
        (lambda f: rewrite(f, install__sh=b"rm"), "'install.sh', which is no file of a model"),
        (lambda f: rewrite(f, weights__bin=b""), "which is no file of a model"),
        (lambda f: rewrite(f, **{"../model__json": b"{}"}), "which is no file of a model"),
        (lambda f: rewrite(f, **{"/etc/passwd": b""}), "which is no file of a model"),
        (lambda f: rewrite(f, **{f"m{i}": b"" for i in range(40)}), "holds 45 files"),
    ],
)  # fmt: skip
def test_what_was_changed_or_does_not_belong_is_refused(
    tmp_path: Path, file: Path, change: Callable[[Path], Path], message: str
) -> None:
    change(file)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match=message) as caught, unpacked_model(file, tmp_path):
        pass
    assert caught.value.path == str(file)
    assert sorted(tmp_path.iterdir()) == before


def without(file: Path, name: str) -> bytes:
    facts = json.loads(members(file)[MANIFEST])
    del facts["files"][name]
    return json.dumps(facts).encode()


def test_a_model_sealed_with_what_must_not_be_in_it_is_refused(tmp_path: Path) -> None:
    tensor = bytes.fromhex("7001")  # data_location = EXTERNAL
    graph = bytes([0x2A, len(tensor)]) + tensor
    networks = {"lies in another file": bytes([0x3A, len(graph)]) + graph, "expected an ONNX network": b"\x80\x04."}
    for number, (message, network) in enumerate(networks.items()):
        folder = make_model(tmp_path / str(number), network=network)
        file = write_model_file(load_model(folder), tmp_path / f"{number}.zip")
        with pytest.raises(ModelError, match=message), unpacked_model(file):
            pass
        folder = make_model(tmp_path / f"{number} trainable", trainable=network)
        file = write_model_file(load_model(folder), tmp_path / f"{number}.zip")
        with pytest.raises(ModelError, match=message), unpacked_model(file):
            pass
    folder = make_model(tmp_path / "wide", classes=3)  # the head gives another number of classes than model.json
    file = write_model_file(load_model(folder), tmp_path / "wide.zip")
    with pytest.raises(ModelError, match="fits 6 numbers and 3 classes"), unpacked_model(file):
        pass


def test_a_pickle_for_a_head_is_not_opened(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    np.savez(folder / "head.npz", weight=np.array([{"a": 1}], dtype=object), bias=np.zeros(2))
    write_model_json(
        folder, name="bad", backbone_name="none", dim=6, input_px=24, class_ids=("a", "b"), class_counts=(1, 1),
        temperature=1.0, card={},
    )  # fmt: skip
    file = write_model_file(load_model(folder), tmp_path / "bad.zip")
    with pytest.raises(ModelError, match="Object arrays cannot be loaded"), unpacked_model(file):
        pass


def test_links_doubles_bombs_and_no_zips_are_refused(tmp_path: Path, file: Path) -> None:
    for kind in ("link", "double", "bomb", "cut", "text"):
        bad = shutil.copyfile(file, tmp_path / f"{kind}.zip")
        if kind in ("link", "double", "bomb"):
            kept = members(file)
            with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in kept.items():
                    info = zipfile.ZipInfo(name)
                    if kind == "link" and name == "CARD.md":
                        info.external_attr, data = (stat.S_IFLNK | 0o777) << 16, b"/etc/passwd"
                    if kind == "bomb" and name == "head.npz":
                        info.compress_type, data = zipfile.ZIP_DEFLATED, bytes(20_000_000)
                    archive.writestr(info, data)
                if kind == "double":
                    with pytest.warns(UserWarning, match="Duplicate name"):
                        archive.writestr("CARD.md", b"another")
        elif kind == "cut":
            bad.write_bytes(file.read_bytes()[:-40])
        else:
            bad.write_text("no zip", encoding="utf-8")
        with pytest.raises(PlankterError) as caught, unpacked_model(bad, tmp_path):
            pass
        assert str(bad) in str(caught.value)
    assert not list(tmp_path.glob(".incoming*"))


def test_a_refused_file_leaves_the_workspace_as_it_was(tmp_path: Path, file: Path) -> None:
    rewrite(file, CARD__md=b"# of another")
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        with pytest.raises(ModelError):
            import_model(file, workspace)
        assert workspace.catalogue.models() == {}
        assert not workspace.models_folder.exists()
