"""The wizard's own journeys in a real browser: a folder of the server, augmentation that is seen, a table; a run that is
only tried; a reference of the user's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from plankter.synthetic import simulate_flowcam_run

journeys = pytest.importorskip("test_browser", reason="playwright is not installed")
pytestmark = journeys.pytestmark
browser, page = journeys.browser, journeys.page
choose, send, ends, Server = journeys.choose, journeys.send, journeys.ends, journeys.Server


@pytest.fixture(scope="module")
def classes(shared_data: Path) -> Path:
    return shared_data / "labelled" / "flowcam_vliz_demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, classes: Path) -> Iterator[Any]:
    found = Server(
        tmp_path_factory.mktemp("wizard") / "w",
        "--allow-root",
        str(classes.parent),
        "--allow-remote",
        "cloud.example.org",
    )
    found.start()
    yield found
    found.end(signal.SIGTERM)


def shown(page: Any, name: str) -> None:
    """Keeps a picture of the page where PLANKTER_SHOTS names a folder."""
    if shots := os.environ.get("PLANKTER_SHOTS"):
        page.screenshot(path=f"{shots}/{name}.png", full_page=True)


def test_a_folder_of_the_server_is_trained_on_with_a_table(
    server: Any, page: Any, classes: Path, tmp_path: Path
) -> None:
    names = sorted(p.relative_to(classes).as_posix() for p in classes.rglob("*") if p.suffix in (".png", ".jpg"))
    table = tmp_path / "samples.csv"
    rows = [f"{name},s{n % 7},{3 * (n % 5)},net" for n, name in enumerate(names)]
    table.write_text("file,sample,depth_m,gear\n" + "\n".join(rows), encoding="utf-8")
    page.goto(server.url + "/train")
    page.click("summary:has-text('A folder on this server'), summary:has-text('a folder on this server')")
    page.click("#folders button:has-text('/')")
    page.click(f"#folders button:has-text('{classes.name}/')")
    page.wait_for_selector(f"code:has-text('{classes.name}')")
    send(page, "**/train/*")
    ends(page, "Next: configuration")
    assert "105 images of 6 classes" in page.inner_text("main") and page.inner_text("h1") == classes.name
    page.click("text=Next: configuration")
    page.wait_for_selector("#table:has-text('No table yet')")
    assert page.is_visible("#head") and not page.is_visible("#classifier") and not page.is_visible("#epochs")
    page.check("input[value=classical]")
    assert page.is_visible("#classifier") and not page.is_visible("#head") and not page.is_visible("#preset")
    page.check("input[value=head]")
    page.set_input_files("form[data-table] input", table)
    page.wait_for_selector("legend:has-text('Context')")
    assert page.input_value("#group") == "sample"
    page.check("input[name='context:depth_m']")
    page.check("input[name=force_context]")
    page.fill("#name", "of-the-server")
    page.click("text=Next: hardware")
    ends(page, "Start the training")
    facts = page.inner_text("dl.facts")
    assert "images of one sample" in facts and "depth_m" in facts
    page.click("text=Start the training")
    page.wait_for_url("**/jobs/*")
    ends(page, "Use it for an analysis")
    assert "Model of-the-server" in page.inner_text("main")


def test_augmentation_is_seen_while_it_is_set(server: Any, page: Any, classes: Path) -> None:
    page.goto(server.url + "/train")
    choose(page, classes, folder=True)
    send(page, "**/train/*")
    ends(page, "Next: configuration")
    page.click("text=Next: configuration")
    page.wait_for_selector("#preset", state="attached")
    # where torch is missing the choice is shut; the page's part about it is the same
    page.eval_on_selector("input[value=finetune]", "choice => { choice.disabled = false; choice.click(); }")
    loaded = (
        "() => { const i = document.querySelector('#augmentation img'); return i.complete && i.naturalWidth > 900; }"
    )
    page.wait_for_function(loaded)
    first = page.get_attribute("#augmentation img", "src")
    page.select_option("#preset", "strong")
    page.wait_for_selector("#augmentation img[src*='how=strong']")
    page.click("summary:has-text('Each change by itself')")
    page.focus("#cutout_p")
    page.keyboard.press("End")
    page.wait_for_selector("input[name=augmentation][value*='cutout_p=1,']", state="attached")
    assert page.input_value("#preset") == "" and page.evaluate("() => document.activeElement.id") == "cutout_p"
    page.wait_for_function(loaded)
    assert page.get_attribute("#augmentation img", "src") != first
    shown(page, "augmentation")
    page.select_option("#preset", "none")
    page.wait_for_selector("#augmentation:has-text('nothing is varied')")
    assert not page.query_selector("#cutout_p")


def test_a_run_is_tried_and_forgotten(server: Any, page: Any, tmp_path: Path) -> None:
    run = simulate_flowcam_run(tmp_path / "i", name="tried_4x", particles=30, seed=9).folder
    page.goto(server.url + "/analyse")
    choose(page, run, folder=True)
    page.check("input[name=keep][value=no]")
    send(page, "**/jobs/*")
    ends(page, "Look at the results")
    address = page.url
    assert "Nothing of this is kept" in page.inner_text("main")
    shown(page, "tried")
    with page.expect_download() as download:
        page.click("a:text-is('CSV')")
    assert len(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()) == 31
    page.click("text=Look at the results")
    page.wait_for_selector(".grid img")
    page.click("text=Forget it now")
    page.wait_for_url("**/analyse")
    page.goto(address)
    assert "no job" in page.inner_text("main")
    assert (
        not list((server.folder / "jobs").glob("*/workspace"))
        and "tried_4x" not in (server.folder / "service" / "server.log").read_text()
    )


def test_a_run_that_was_tried_is_gone_after_a_kill(server: Any, page: Any, tmp_path: Path) -> None:
    run = simulate_flowcam_run(tmp_path / "i", name="killed_4x", particles=30, seed=9).folder
    page.goto(server.url + "/analyse")
    choose(page, run, folder=True)
    page.check("input[name=keep][value=no]")
    send(page, "**/jobs/*")
    ends(page, "Look at the results")
    job = page.url.rsplit("/", 1)[1]
    assert (server.folder / "jobs" / job / "workspace").is_dir()
    server.end(signal.SIGKILL)
    assert (server.folder / "jobs" / job / "workspace").is_dir()
    server.start()
    assert not (server.folder / "jobs" / job).exists()
    assert not [path for path in server.folder.rglob("*killed_4x*")]


def test_a_set_is_made_like_a_reference_of_ones_own(server: Any, page: Any, classes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    for n, path in enumerate(sorted(classes.rglob("*.png"))[:12] or sorted(classes.rglob("*.jpg"))[:12]):
        cv2.imwrite(str(folder / f"{n}.png"), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    page.goto(server.url + "/transform")
    choose(page, classes, folder=True)
    page.click("summary:has-text('like a set of my own')")
    page.set_input_files("[data-drop=like_upload] input[webkitdirectory]", folder)
    page.wait_for_selector("[data-drop=like_upload] [data-chosen]:has-text('12 files')")
    send(page, "**/jobs/*")
    ends(page, "Download the set")
    page.wait_for_selector("figure img")
    shown(page, "like-my-own")
    assert "105 images written from 105" in page.inner_text("main")
