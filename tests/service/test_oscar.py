"""The OSCAR service: what it reads, answers and refuses, as functions and through a stand-in for OSCAR."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oscar_stand_in import Oscar
from service_images import png, zipped

from plankter._errors import NotFound, PlankterError, ReadError, SettingsError
from plankter.service import oscar
from plankter.service.predicting import Batcher, Engines

FOLDER = Path(__file__).parents[2] / "deploy" / "oscar"
on_unix = pytest.mark.skipif(os.name == "nt", reason="OSCAR runs a shell script")


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def written(path: Path, value: Any) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def service() -> dict[str, Any]:
    """The entry of service.yaml."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (entry,) = yaml.safe_load((FOLDER / "service.yaml").read_text(encoding="utf-8"))["functions"]["oscar"]
    (found,) = entry.values()
    return dict(found)


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    found = Engines(None)
    yield found
    found.close()


@pytest.fixture
def batcher_of(engines: Engines) -> Any:
    def find(name: str | None) -> Batcher:
        return engines.get(name or "flowcam")

    return find


def test_images_zips_and_requests_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    image = oscar.read_request(written(tmp_path / "event-file-1", png(1)))
    assert image is not None and image.images == [("event-file-1", png(1))]
    packed = oscar.read_request(written(tmp_path / "b", zipped({"x/1.png": png(1), "x/2.png": png(2)})))
    assert packed is not None and [name for name, _ in packed.images] == ["x/1.png", "x/2.png"]
    file = {"key": "image", "file_format": "png", "data": in_base64(png(1))}
    asked = oscar.read_request(written(tmp_path / "c.json", {"oscar-files": [file], "topk": "3", "scores": True}))
    assert asked == oscar.Request([("image.png", png(1))], 3, True, None)
    several = {
        "oscar-files": [file, {**file, "data": "%%%"}, {"key": "z", "data": in_base64(zipped({"a.png": png(2)}))}]
    }
    found = oscar.read_request(written(tmp_path / "d.json", several))
    assert found is not None and [name for name, _ in found.images] == ["1-image.png", "2-image.png", "a.png"]
    assert [type(data) for _, data in found.images] == [bytes, str, bytes] and "base64" in str(found.images[1][1])
    earlier = oscar.read_request(written(tmp_path / "e.json", {"oscar-files": {"image": in_base64(png(1))}}))
    assert earlier is not None and earlier.images == [("image", png(1))]
    assert oscar.read_request(written(tmp_path / "f.json", {"help": ""})) is None


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [(b"{not json", ReadError, "expected JSON"), ({"oscar-files": []}, SettingsError, "at least one"),
     ({"oscar-files": [1]}, SettingsError, "file 1"), ({"oscar-files": [{"key": "a"}]}, SettingsError, "file 1"),
     ({"other": 1}, SettingsError, "no argument 'other'"), ({"oscar-files": [{"data": ""}], "topk": 0}, SettingsError, "topk"),
     ({"oscar-files": [{"data": ""}], "topk": True}, SettingsError, "topk"),
     ({"oscar-files": [{"data": ""}], "topk": "²"}, SettingsError, "topk"),
     ({"oscar-files": [{"data": ""}], "model": "../m"}, NotFound, "no model"),
     (zipped({"../a.png": png(1)}), ReadError, "no name"), (zipped({"notes.txt": b"x"}), ReadError, "no image"),
     (b"{" + b'"a":[' * 100_000, ReadError, "JSON")],
)  # fmt: skip
def test_requests_that_cannot_be_used_are_refused(
    tmp_path: Path, value: Any, error: type[PlankterError], words: str
) -> None:
    with pytest.raises(error, match=words):
        oscar.read_request(written(tmp_path / "x.json", value))


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscar, "MAX_INPUT_BYTES", 10)
    with pytest.raises(ReadError, match="over the limit of 10"):
        oscar.read_request(written(tmp_path / "a.png", png(1)))


def test_inputs_are_those_that_the_environment_names(tmp_path: Path) -> None:
    image, script = written(tmp_path / "a.png", png(1)), written(tmp_path / "script.sh", b"")
    assert oscar.inputs_of({"INPUT_FILE_PATH": str(image), "TMP_INPUT_DIR": "/nowhere"}) == [image]
    assert oscar.inputs_of({"TMP_INPUT_DIR": str(tmp_path)}) == [image]
    assert oscar.inputs_of({}, [str(image), str(image)]) == [image, image]
    for environment in ({}, {"INPUT_FILE_PATH": str(tmp_path / "none")}):
        with pytest.raises(SettingsError, match="no input"):
            oscar.inputs_of(environment)
    image.unlink()
    with pytest.raises(SettingsError, match="empty"):
        oscar.inputs_of({"TMP_INPUT_DIR": str(script.parent)})


def test_many_files_are_answered_with_one_model_each_under_its_name(tmp_path: Path, batcher_of: Any) -> None:
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir(), out.mkdir()
    paths = [
        written(given / "a.png", png(1)), written(given / "a.bmp", png(1)), written(given / "broken.png", b"no image"),
        written(given / "c.json", {"oscar-files": [{"data": in_base64(png(1))}, {"data": in_base64(b"x")}], "topk": 2}),
    ]  # fmt: skip
    answers, refused = oscar.answer_all(paths, out, batcher_of)
    assert refused == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.bmp.json", "a.json", "broken.json", "c.json"]
    assert answers[0]["images"][0]["top"] == answers[1]["images"][0]["top"]
    good, bad = json.loads((out / "c.json").read_text(encoding="utf-8"))["images"]
    assert len(good["top"]) == 2 and good["top"] == answers[0]["images"][0]["top"][:2]
    assert bad["failure"] and not bad["top"]
    assert json.loads((out / "broken.json").read_text(encoding="utf-8"))["images"][0]["failure"]


def test_the_answer_is_that_of_the_api(tmp_path: Path, batcher_of: Any, client) -> None:
    (found,), _ = oscar.answer_all([written(tmp_path / "a.png", png(1))], tmp_path, batcher_of)
    body = {"images": [{"file": "a.png", "data": in_base64(png(1))}]}
    assert client.post("/api/v1/predict/many?scores=false", json=body).json() == found


def test_damaged_members_of_a_zip_are_named(tmp_path: Path, batcher_of: Any) -> None:
    data = bytearray(zipped({"a.png": png(1), "b.png": png(2)}))
    at = data.index(b"b.png") + 5
    data[at + 20 : at + 30] = struct.pack("10x")
    (found,), refused = oscar.answer_all([written(tmp_path / "s.zip", bytes(data))], tmp_path, batcher_of)
    assert refused == 0
    assert [(image["file"], image["failure"] is None) for image in found["images"]] == [
        ("a.png", True),
        ("b.png", False),
    ]


@on_unix
def test_a_file_in_the_bucket_becomes_json_in_the_other(tmp_path: Path) -> None:
    here = Oscar(service(), FOLDER, tmp_path)
    done = here.put("cast 1.png", png(1))
    assert done.status == 0, done.log
    found = json.loads((here.results / "cast 1.json").read_text(encoding="utf-8"))
    assert found["model"] == "flowcam" and len(found["images"][0]["top"]) == 5
    assert json.loads(done.log) == found  # the log of a request is its answer: nothing else may stand in it


def test_a_name_that_no_file_could_have_is_answered(tmp_path: Path, batcher_of: Any) -> None:
    body = b'{"oscar-files": [{"key": "\\ud800/../x", "data": "%s"}]}' % in_base64(png(1)).encode()
    (found,), refused = oscar.answer_all([written(tmp_path / "a.json", body)], tmp_path, batcher_of)
    assert refused == 0 and found["images"][0]["file"] == "\ud800/../x"
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == found


@on_unix
def test_a_request_is_answered_with_json(tmp_path: Path) -> None:
    here = Oscar(service(), FOLDER, tmp_path)
    file = {"key": "image", "file_format": "png", "data": in_base64(png(1))}
    done = here.request(json.dumps({"oscar-files": [file], "topk": 2}).encode())
    assert done.status == 0, done.log
    assert len(json.loads(base64.b64decode(done.answer))["images"][0]["top"]) == 2
    helped = here.request(b'{"help": ""}')
    assert helped.status == 0 and "oscar-files" in json.loads(helped.log)["help"]


@on_unix
@pytest.mark.parametrize("body", [b"no image", b'{"oscar-files": 1}'])
def test_a_failure_is_one(tmp_path: Path, body: bytes) -> None:
    here = Oscar(service(), FOLDER, tmp_path)
    done = here.put("x.json", body)
    assert done.status == 1
    (found,) = [json.loads(path.read_text(encoding="utf-8")) for path in here.results.iterdir()]
    assert "error" in found or found["images"][0]["failure"]


def test_a_start_without_an_input_or_with_an_unknown_model_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert oscar.main([], {}) == 2
    assert json.loads(capsys.readouterr().out)["error"]["hint"].startswith("OSCAR names it")
    image = written(tmp_path / "a.png", png(1))
    environment = {"INPUT_FILE_PATH": str(image), "TMP_OUTPUT_DIR": str(tmp_path), oscar.MODEL_VARIABLE: "other"}
    assert oscar.main([], environment) == 1
    assert "no model 'other'" in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["error"]["message"]
