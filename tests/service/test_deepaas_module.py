"""The functions that a DEEPaaS server calls, without one: what they read, delete, refuse and keep."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from service_images import png, write_set, zipped

from plankter._errors import ReadError, SettingsError
from plankter.service import deepaas_module as module
from plankter.service.platform_files import data_folders, training_images
from plankter.workflow.progress import silent
from plankter.workflow.workspace import init_workspace, open_workspace

HAS_EXTRA = importlib.util.find_spec("deepaas") is not None
needs_extra = pytest.mark.skipif(not HAS_EXTRA, reason="DEEPaaS is not installed: make test-deepaas")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, nothing named by the environment."""
    monkeypatch.chdir(tmp_path)
    for name in (module.WORKSPACE_VARIABLE, module.MODEL_VARIABLE, "PLANKTER_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def uploaded(data: bytes, folder: Path) -> SimpleNamespace:
    path = folder / "tmpabc"
    path.write_bytes(data)
    return SimpleNamespace(name="image", filename=str(path), content_type="image/png", original_filename="a.png")


def test_the_entry_point_names_the_module() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["deepaas.v2.model"] == {"plankter": module.__name__}
    for name in ("get_metadata", "warm", "get_predict_args", "predict", "get_train_args", "train"):
        function = getattr(module, name)
        assert pickle.loads(pickle.dumps(function)) is function  # the server sends them to its processes


def test_a_prediction_needs_no_workspace_and_takes_the_file_away(here: Path) -> None:
    found = module.predict(image=uploaded(png(1), here), topk=2)
    assert len(found["labels"]) == 2 and found["model"] == "flowcam"
    assert list(here.iterdir()) == []


def test_the_modules_answer_is_that_of_our_own_server(here: Path, client) -> None:
    ours = client.post("/v2/models/flowcam/predict/?topk=3", files={"image": ("a.png", png(1), "image/png")}).json()
    assert module.predict(image=uploaded(png(1), here), topk=3) == ours


@needs_extra
@pytest.mark.parametrize(
    ("data", "given", "status", "words"),
    [(b"no image", {}, 422, "expected a"), (png(1), {"topk": 0}, 422, "topk"), (png(1), {"topk": "3"}, 422, "topk"),
     (png(1), {"model": "models:/x/1"}, 404, "name or an id"), (png(1), {"model": ".."}, 404, "name or an id"),
     (png(1), {"model": "other"}, 404, "there are")],
)  # fmt: skip
def test_what_is_wrong_is_raised_as_an_answer(here: Path, data: bytes, given: dict, status: int, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        module.predict(image=uploaded(data, here), **given)
    sent = pickle.loads(pickle.dumps(caught.value))  # as between the server's processes
    assert sent.status == status and words in sent.text and words in str(sent)
    assert list(here.iterdir()) == []


@needs_extra
def test_arguments_are_fields_of_the_servers_library(here: Path) -> None:
    from marshmallow import Schema, ValidationError, fields

    arguments = module.get_predict_args()
    assert type(arguments["image"]) is fields.Field  # nothing else is a file for deepaas-cli
    training = Schema.from_dict(module.get_train_args())()
    assert training.load({"images": "x"})["mode"] == "head"
    with pytest.raises(ValidationError):
        training.load({"images": "x", "balance": "never"})
    answer = Schema.from_dict(module.schema)()
    found = module.predict(image=uploaded(png(1), here))
    assert answer.load({**found, "aphia_ids": [None, 1], "decision": None}) is not None


def test_a_training_makes_the_workspace_and_its_model_predicts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(here / "set", classes=2, images=12)
    found = module.train(images="set", name="mine")
    assert found["name"] == "mine" and found["classes"] == 2 and (here / "plankter-deepaas/plankter.toml").is_file()
    assert list((here / "plankter-deepaas/uploads").glob("*")) == []
    assert module.predict(image=uploaded(png(1), here), model="mine")["model_id"] == found["model_id"]
    assert "mine" in [model["name"] for model in module.get_metadata()["models"]]
    (here / "set.zip").write_bytes(
        zipped({f"in/{label}/{n}.png": png(n, 40 + 30 * label) for label in (0, 1) for n in range(12)})
    )
    again = module.train(images="set.zip", name="zipped", mode="head")
    assert again["classes"] == 2 and list((here / "plankter-deepaas/uploads").glob("*")) == []


def test_images_outside_the_named_folders_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = here / "storage"
    write_set(here / "other", classes=1, images=1)
    storage.mkdir()
    (storage / "link").symlink_to(here / "other")
    (storage / "notes.txt").write_text("x")
    monkeypatch.setenv("PLANKTER_DATA", str(storage))
    init_workspace(here / "w")
    with open_workspace(here / "w") as workspace:
        for asked in ("../other", str(here / "other"), "link", "/etc"):
            with (
                pytest.raises(ReadError, match="outside the folders"),
                training_images(asked, workspace, silent),
            ):
                pass
        for asked in ("notes.txt", "nothing"):
            with pytest.raises(ReadError, match="folder or a zip"), training_images(asked, workspace, silent):
                pass
    assert data_folders({"PLANKTER_DATA": f"/a{os.pathsep}/b"}) == [Path("/a"), Path("/b")]
    assert data_folders({})[-1] == here.resolve()


FAKE_RCLONE = """#!{python}
import os, shutil, sys
command, mark, remote, to = sys.argv[1:]
assert (command, mark) == ("copy", "--")
if os.environ.get("RCLONE_CONFIG_RSHARE_PASS") != "secret":
    sys.exit("Failed to copy: 401 Unauthorized")
shutil.copytree(os.environ["FAKE_REMOTE"], to, dirs_exist_ok=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for rclone")
def test_a_remote_is_copied_by_rclone_with_the_platforms_account(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_workspace(here / "w")
    monkeypatch.setenv("PATH", str(here / "bin"))
    with open_workspace(here / "w") as workspace:
        with pytest.raises(SettingsError, match="not installed"), training_images("rshare:set", workspace, silent):
            pass
        (here / "bin").mkdir()
        program = here / "bin" / "rclone"
        program.write_text(FAKE_RCLONE.format(python=sys.executable))
        program.chmod(0o755)
        monkeypatch.setenv("FAKE_REMOTE", str(write_set(here / "remote", classes=2, images=1)))
        with pytest.raises(SettingsError, match="401"), training_images("rshare:set", workspace, silent):
            pass
        monkeypatch.setenv("RCLONE_CONFIG_RSHARE_PASS", "secret")
        with training_images("rshare:set", workspace, silent) as folder:
            assert sorted(path.name for path in folder.iterdir()) == ["class_0", "class_1"]
        assert list((workspace.folder / "uploads").iterdir()) == []
