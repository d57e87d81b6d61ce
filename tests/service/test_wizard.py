"""The wizard's second step: augmentation that is seen at once, and a table of groups and context."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from served import ended

from plankter._errors import ReadError
from plankter.service.app import create_app
from plankter.service.pages_config import CELL_PX, COLUMNS, GAP_PX, augmented_sheet
from plankter.service.state import Limits
from plankter.vignettes.augment import LIMITS, PRESETS, Augmentation, augmentation_of, augmentation_text
from plankter.workflow.training_table import cut_table, describe_table, read_training_table

HX = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Disks and bars, 15 each."""
    found = tmp_path_factory.mktemp("allowed") / "my set"
    rng = np.random.default_rng(0)
    for name in ("disk", "bar"):
        (found / name).mkdir(parents=True)
        for n in range(15):
            image = np.full((60, 60), 200, np.uint8)
            grey, size = int(rng.integers(0, 90)), int(rng.integers(8, 20))
            if name == "disk":
                cv2.circle(image, (30, 30), size, grey, -1)
            else:
                cv2.rectangle(image, (30 - size, 26), (30 + size, 33), grey, -1)
            cv2.imwrite(str(found / name / f"{n}.png"), image)
    return found


@pytest.fixture(scope="module")
def client(demo_workspace: Path, root: Path) -> Iterator[TestClient]:
    with TestClient(
        create_app(demo_workspace, limits=Limits(roots=(root.parent,))), base_url="http://127.0.0.1:8000"
    ) as found:
        yield found


@pytest.fixture(scope="module")
def looked(client: TestClient, root: Path) -> str:
    """A look at the set on the server; its address."""
    address = str(client.post("/train", data={"folder": str(root)}).json()["location"])
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "done" and job["result"]["images"] == 30, job
    return address


# -- augmentation
@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_read_as_they_are_written(name: str) -> None:
    assert augmentation_text(augmentation_of(name)) == name


def test_settings_differ_from_the_normal_ones() -> None:
    found = augmentation_of("scale=0.1, cutout_p=0")
    assert found == Augmentation(scale=0.1, cutout_p=0.0)
    assert augmentation_of(augmentation_text(found)) == found


@pytest.mark.parametrize(
    "text", ["", "wild", "scale", "scale=", "scale=x", "scale=-1", "scale=nan", "scale=0.51", "turn=1", "a=1,scale=0.1"]
)
def test_settings_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="augmentation"):
        augmentation_of(text)


def test_the_limits_hold_for_every_setting_and_preset() -> None:
    for preset in filter(None, PRESETS.values()):
        assert augmentation_of(",".join(f"{n}={getattr(preset, n)}" for n in LIMITS)) == preset


def test_a_sheet_shows_each_image_as_it_is_and_then_varied() -> None:
    image = np.full((30, 50), 210, np.uint8)
    image[5:15, 5:40] = 20
    sheet = augmented_sheet([image, image], augmentation_of("strong"), px=64, seed=1)
    step = CELL_PX + GAP_PX
    assert sheet.shape == (2 * step + GAP_PX, COLUMNS * step + 2 * GAP_PX, 3)

    def cell(row: int, column: int) -> Any:
        top, left = GAP_PX + row * step, GAP_PX + column * step + (GAP_PX if column else 0)
        return sheet[top : top + CELL_PX, left : left + CELL_PX]

    assert (cell(0, 0) == cell(1, 0)).all()
    assert all((cell(row, column) != cell(0, 0)).any() for row in range(2) for column in range(1, COLUMNS))
    assert (
        augmented_sheet([image], None, px=64, seed=1)[:, :, 0][GAP_PX : GAP_PX + CELL_PX, GAP_PX : GAP_PX + CELL_PX]
        == cell(0, 0)[:, :, 0]
    ).all()
    unchanged = augmented_sheet([image], None, px=64, seed=5)
    assert (unchanged == augmented_sheet([image], None, px=64, seed=6)).all()


def test_the_part_of_the_form_follows_what_is_chosen(client: TestClient, looked: str) -> None:
    part = client.get(f"{looked}/augmentation?preset=gentle").text
    assert 'name="augmentation" value="gentle"' in part and 'id="scale" name="scale" min="0" max="0.5"' in part
    own = client.get(f"{looked}/augmentation?scale=0.11&cutout_p=1").text
    text = re.search(r'name="augmentation" value="([^"]+)"', own)
    assert text and augmentation_of(text[1]) == Augmentation(scale=0.11, cutout_p=1.0)
    picture = re.search(r'src="([^"]+)"', own)
    assert picture
    answer = client.get(picture[1].replace("&amp;", "&"))
    shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown.shape[0] == 2 * (CELL_PX + GAP_PX) + GAP_PX and len(np.unique(shown)) > 20
    assert client.get(f"{looked}/augmentation?preset=wild").status_code == 422
    assert client.get(f"{looked}/augmented?how=scale%3D9").status_code == 422


# -- the table
def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_are_numbers_dates_or_text(tmp_path: Path) -> None:
    path = table(
        tmp_path, "depth;file;date;note;empty\n3;a/1.png;2024-01-02;x;\n;a/2.png;;4;\n4.5;b/1.png;2024-02-01;y;\n"
    )
    rows, file, columns = describe_table(path)
    assert rows == 3 and file == "file"
    assert [(c.name, c.kind, c.known, c.example) for c in columns] == [
        ("depth", "number", 2, "3"), ("date", "date", 2, "2024-01-02"), ("note", "text", 3, "x"), ("empty", "text", 0, ""),
    ]  # fmt: skip
    with pytest.raises(ReadError, match="file"):
        describe_table(table(tmp_path, "a,b\n1,2\n"))


def test_a_table_is_cut_to_what_was_chosen(tmp_path: Path) -> None:
    path = table(tmp_path, 'filename,station,Split,depth\na/1.png,"x, y",train,1\nb/1.png,z,judge,2\n')
    cut_table(path, tmp_path / "o.csv", {"station": "group"})
    found = read_training_table(tmp_path / "o.csv", ["a/1.png", "b/1.png"])
    assert found.groups == ("x, y", "z") and found.parts == ("train", "judge") and found.columns == ({}, {})
    with pytest.raises(ReadError, match="no column 'nothing'"):
        cut_table(path, tmp_path / "o.csv", {"nothing": "group"})


def test_a_table_of_other_images_is_refused(client: TestClient, looked: str) -> None:
    for body in (b"file,depth\nother.png,3\n", b"name,depth\nx,3\n", b"\xff\xfe\x00", b"file\ndisk/0.png\n", b""):
        assert client.put(f"{looked}/table", content=body).status_code == 422, body
    assert "No table yet" in client.get(f"{looked}/table").text


def test_groups_and_context_of_a_table_reach_the_training(client: TestClient, looked: str) -> None:
    rows = [
        f"{name}/{n}.png,s{n % 5},{10 * n},{2 if name == 'disk' else 9},x"
        for name in ("disk", "bar")
        for n in range(15)
    ]
    text = "file,station,depth_m,month,<b>note\n" + "\n".join(rows)
    assert "30 rows and 4 columns" in client.put(f"{looked}/table?name=t.csv", content=text.encode()).json()["message"]
    part = client.get(f"{looked}/table").text
    assert "context:depth_m" in part and "context:month" in part and "context:station" not in part and "<b>" not in part
    form = {"mode": "head", "name": "with-context", "group": "station", "context:depth_m": "yes", "context:month": "yes",
            "force_context": "yes", "augmentation": "gentle"}  # fmt: skip
    to = client.post(f"{looked}/estimate", data=form, headers=HX).headers["HX-Redirect"]
    assert ended(client, to.rsplit("/", 1)[1])["state"] == "done"
    page = client.get(to).text
    assert "depth_m" in page and "station" in page
    begun = client.post(to.replace("/hardware/", "/start/"), headers=HX).headers["HX-Redirect"]
    job = ended(client, begun.rsplit("/", 1)[1])
    assert job["state"] == "done", job
    assert job["result"]["split"]["grouped_by"] == "group"
    assert any("context" in text for text in job["result"]["warnings"])
    card = client.get("/api/v1/models").json()["models"]
    assert any(model["name"] == "with-context" for model in card)


@pytest.mark.parametrize(
    "given",
    [
        [],
        "x",
        {"job": "../x"},
        {"job": 3},
        {"context": "depth"},
        {"context": [1]},
        {"path": "/etc/passwd"},
        {"group": 3},
    ],
)
def test_tables_that_cannot_be(client: TestClient, looked: str, root: Path, given: Any) -> None:
    body = {"kind": "train", "arguments": {"folder": str(root), "table": given}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code in (404, 422), answer.text


# -- what a look at a set tells
def test_images_that_cannot_be_decoded_are_named_and_not_shown(client: TestClient, root: Path) -> None:
    folder = root.parent / "with bad ones"
    for name in ("disk", "bar"):
        (folder / name).mkdir(parents=True)
        for path in sorted((root / name).iterdir())[:4]:
            (folder / name / path.name).write_bytes(path.read_bytes())
    (folder / "bar" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n, and then no image")
    address = client.post("/train", data={"folder": str(folder)}).json()["location"]
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "done", job
    (problem,) = [found for found in job["result"]["problems"] if found["problem"] == "unreadable"]
    assert problem["count"] == 1 and problem["names"] == ["bar/00.png"]
    assert not any("bar/00.png" in entry["samples"] for entry in job["result"]["classes"])
    assert "bar/00.png" in client.get(address).text


def test_a_class_of_which_nothing_can_be_read_is_told_before_anything_is_configured(
    client: TestClient, root: Path
) -> None:
    folder = root.parent / "with a dead class"
    for name in ("disk", "bar"):
        (folder / name).mkdir(parents=True)
        for path in sorted((root / name).iterdir())[:4]:
            (folder / name / path.name).write_bytes(path.read_bytes())
    (folder / "cut").mkdir()
    (folder / "cut" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n, and then no image")
    address = client.post("/train", data={"folder": str(folder)}).json()["location"]
    assert ended(client, address.rsplit("/", 1)[1])["state"] == "done"
    page = client.get(address).text
    assert "No image can be read of cut" in page and "Next: configuration" not in page and ">unreadable<" in page


def test_images_of_a_folder_are_analysed_where_they_lie(client: TestClient, root: Path, tmp_path: Path) -> None:
    folder = root.parent / "to analyse"
    folder.mkdir()
    for n, path in enumerate(sorted((root / "disk").iterdir())[:4]):
        (folder / f"{n}.png").write_bytes(path.read_bytes())
    before = sorted(folder.iterdir())
    address = client.post("/analyse", data={"folder": str(folder), "model": "flowcam"}).json()["location"]
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "done" and job["result"]["files"] == 4, job
    results = f"/results/job/{job['id']}"
    assert client.get(f"{results}/images/1/picture").content == (folder / "1.png").read_bytes()
    assert sorted(folder.iterdir()) == before and job["title"] == "to analyse"
    (tmp_path / "other.png").write_bytes(b"\x89PNG\r\n\x1a\n a secret")
    (folder / "1.png").unlink()
    (folder / "1.png").symlink_to(tmp_path / "other.png")
    assert client.get(f"{results}/images/1/picture").status_code == 404
    job = ended(client, client.post("/analyse", data={"folder": str(folder)}).json()["location"].rsplit("/", 1)[1])
    assert job["state"] == "failed" and "leads out of what may be read" in job["reason"]
