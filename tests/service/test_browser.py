"""The journeys of a user, in a real browser on a real server with real files."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found on this computer")
PATIENCE_MS = 180_000
SIZES = [(1366, 768), (1920, 1080), (820, 1180)]


class Server:
    """`plankter serve` as a process of its own, which can be killed and begun again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "plankter.cli",
            "serve",
            "-w",
            str(self.folder),
            "--port",
            str(self.port),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                with urllib.request.urlopen(self.url + "/ready", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("browser") / "w")
    found.start()
    yield found
    found.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new tab; an error in a script of ours, or a breach of the content policy, fails the test."""
    errors: list[str] = []
    with browser.new_context(viewport={"width": 1366, "height": 768}) as context:
        found = context.new_page()
        found.set_default_timeout(PATIENCE_MS)
        found.on("pageerror", lambda error: errors.append(str(error)))
        found.on("console", lambda m: errors.append(m.text) if "Content Security Policy" in m.text else None)
        yield found
    assert not errors


@pytest.fixture(scope="module")
def demo_zip(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 105 labelled images, as a user's zip."""
    out = tmp_path_factory.mktemp("zip") / "my classes.zip"
    root = shared_data / "labelled" / "flowcam_vliz_demo"
    with zipfile.ZipFile(out, "w") as file:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(root))
    return out


def choose(page: Any, what: Path | list[Path], *, folder: bool = False) -> None:
    page.set_input_files("input[webkitdirectory]" if folder else "input[data-files]:not([webkitdirectory])", what)
    page.wait_for_selector("[data-chosen]:has-text('file')")


def send(page: Any, to: str) -> None:
    page.click("button[type=submit]")
    page.wait_for_url(to)


def ends(page: Any, text: str) -> None:
    """Waits for a link or button with a text; a reason of failure on the page ends the wait."""
    page.wait_for_selector(f"a:has-text('{text}'), button:has-text('{text}'), .bad")
    assert not page.locator(".bad").count(), page.inner_text("main")


def has_a_run(server: Server, page: Any, shared_data: Path) -> None:
    """On the page of runs, with one in it: where a test runs alone, it is analysed first."""
    page.goto(server.url + "/runs")
    if not page.locator("tbody th a").count():
        page.goto(server.url + "/analyse")
        choose(page, shared_data / "flowcam" / "416_Station40_09012015_10x", folder=True)
        send(page, "**/jobs/*")
        ends(page, "Look at the results")
        page.goto(server.url + "/runs")


def test_a_run_is_analysed_and_looked_at(server: Server, page: Any, shared_data: Path) -> None:
    page.goto(server.url)
    page.click("text=Analyse my images")
    choose(page, shared_data / "flowcam" / "416_Station40_09012015_10x", folder=True)
    send(page, "**/jobs/*")
    ends(page, "Look at the results")
    page.click("text=Look at the results")
    assert "3,122 particles" in page.inner_text(".lead") and "mL imaged" in page.inner_text(".lead")
    page.wait_for_selector(".grid img")
    assert page.locator(".grid li").count() == 60
    page.click(".classes tbody tr:nth-child(2) th a")
    page.click("text=most doubtful first")
    page.click("a:has-text('Next')")
    page.wait_for_selector("text=Images 61 to")
    page.click(".grid li:first-child a")
    page.wait_for_selector(".detail")
    assert page.locator(".detail tbody tr").count() == 5
    href = page.locator(".detail a[href*='marinespecies']").first.get_attribute("href")
    assert str(href).rsplit("=", 1)[1].isdigit()
    with page.expect_download() as download:
        page.click("a:has-text('CSV')")
    assert len(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()) == 3123
    page.click("text=run report")
    page.wait_for_selector("h1")


def test_a_head_is_trained_and_used(server: Server, page: Any, demo_zip: Path) -> None:
    page.goto(server.url + "/train")
    choose(page, demo_zip)
    send(page, "**/train/*")
    ends(page, "Next: configuration")
    assert "105 images of 6 classes" in page.inner_text("main")
    page.click("text=Next: configuration")
    page.fill("#name", "my-first")
    page.click("text=Next: hardware")
    ends(page, "Start the training")
    page.click("text=Start the training")
    page.wait_for_url("**/jobs/*")
    ends(page, "Use it for an analysis")
    page.click("text=Use it for an analysis")
    assert "my-first" in page.locator("#model option:checked").inner_text()
    choose(page, demo_zip)
    page.check("input[name=keep][value=no]")
    send(page, "**/results/try/*")
    assert "105 images, model my-first" in page.inner_text(".lead")
    page.click("text=Forget it now")
    page.wait_for_url("**/analyse")


def test_a_model_is_evaluated_and_a_set_transformed(server: Server, page: Any, demo_zip: Path) -> None:
    page.goto(server.url + "/models")
    page.click("article a:text-is('flowcam')")
    choose(page, demo_zip)
    send(page, "**/jobs/*")
    ends(page, "Read the report")
    page.click("text=Read the report")
    page.wait_for_selector("h1:has-text('How good is flowcam')")
    page.goto(server.url + "/transform")
    choose(page, demo_zip)
    page.select_option("#like", "")
    page.fill("#copies", "1")
    send(page, "**/jobs/*")
    ends(page, "Download the set")
    assert "210 images written from 105" in page.inner_text("main")
    page.wait_for_selector("figure img")


def test_an_evaluation_is_looked_into(server: Server, page: Any, demo_zip: Path) -> None:
    page.goto(server.url + "/models/flowcam")
    choose(page, demo_zip)
    send(page, "**/jobs/*")
    ends(page, "Confusion matrix and thresholds")
    page.click("text=Confusion matrix and thresholds")
    page.wait_for_selector("[data-said]:has-text('105 of 105 images accepted')")
    before = {
        name: page.inner_text(f"[data-figures] [data-figure={name}]") for name in ("precision", "recall", "coverage")
    }
    assert before["coverage"] == "100.0 %" and before["precision"] == before["recall"]
    page.focus("#t-all")
    page.keyboard.press("End")  # a score of 1
    page.wait_for_selector("[data-figure=left]:has-text('105')")
    page.keyboard.press("Home")
    page.wait_for_selector("[data-figure=left]:text-is('0')")
    place = page.locator("[data-classes] tbody tr").first.get_attribute("data-class")
    page.select_option("#t-add", place)
    page.keyboard.press("End")  # the slider of the class has the focus
    page.wait_for_selector(f"[data-class='{place}'] [data-figure=recall]:text-is('0.0 %')")
    page.click("button:has-text('Remove')")
    page.wait_for_selector("[data-figure=left]:text-is('0')")
    page.click("text=All classes")
    page.focus("[data-matrix] td a[tabindex='0']")
    first = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    count, label = page.evaluate(
        "() => [document.activeElement.innerText, document.activeElement.getAttribute('aria-label')]"
    )
    assert label != first and page.locator("[data-matrix] a[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell .grid img")
    assert page.locator("#cell .grid li").count() == min(int(count), 48) and "true=" in page.url
    page.click("#cell .grid li:first-child a")
    page.wait_for_selector("#detail :text('its folder says')")
    assert page.evaluate("() => document.querySelector('#cell .grid img').naturalWidth") > 0


def test_two_evaluations_are_compared_and_drift_is_shown(
    server: Server, page: Any, demo_zip: Path, shared_data: Path
) -> None:  # fmt: skip
    page.goto(server.url + "/compare")
    page.select_option("#against", label=page.locator("#against option").first.inner_text())
    choose(page, demo_zip)
    send(page, "**/comparisons/*")
    page.wait_for_selector("h2:has-text('Classes won and lost'), .bad")
    assert "can be told from chance" in page.inner_text(".lead") and page.locator("figure svg circle").count() == 2
    page.goto(server.url + "/compare")
    page.click("button:has-text('Compare')")
    page.wait_for_url("**/comparisons/*")
    page.wait_for_selector("h2:has-text('Who was right'), .bad")
    assert not page.locator(".bad").count(), page.inner_text("main")
    has_a_run(server, page, shared_data)
    page.goto(server.url + "/drift")
    page.click("button:has-text('Compare')")
    page.wait_for_selector("button:has-text('Compare again'), .bad")
    page.click("figure svg a")
    assert "#run-" in page.url and page.locator("tr:target .verdict").count() == 1


def test_the_map_leads_to_the_runs_of_a_place(server: Server, page: Any, shared_data: Path, tmp_path: Path) -> None:
    has_a_run(server, page, shared_data)
    name = page.locator("tbody th a").first.inner_text()
    table = tmp_path / "samples.csv"
    table.write_text(
        f"run,sample,station,latitude,longitude,time\n{name},s40,40,51.5,2.9,2015-01-09T10:00:00Z\n", encoding="utf-8"
    )
    page.set_input_files("form[data-table] input", table)
    page.wait_for_selector("#notice:has-text('1 run got a sample')")
    page.wait_for_selector("svg a[aria-label^='40, 51.5° N 2.9° E']")  # the page loads itself again
    page.focus("svg a[aria-label^='40, ']")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('1 run of position 51.5000,2.9000')")
    page.focus("svg a[aria-label^='2015-01-09']")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('1 run of 2015-01-09')")
    assert name in page.inner_text("tbody")


def test_a_job_is_cancelled(server: Server, page: Any, demo_zip: Path) -> None:
    page.goto(server.url + "/transform")
    choose(page, demo_zip)
    page.select_option("#like", "")
    page.fill("#copies", "100")
    send(page, "**/jobs/*")
    page.wait_for_selector(".tag.running")
    page.click("button:has-text('Cancel')")
    page.wait_for_selector(".tag.cancelled")
    page.wait_for_selector("button:has-text('Do it again')")
    assert page.query_selector("a:has-text('Download the set')") is None


def test_a_killed_server_loses_no_job(server: Server, page: Any, demo_zip: Path) -> None:
    page.goto(server.url + "/transform")
    choose(page, demo_zip)
    page.select_option("#like", "")
    page.fill("#copies", "15")
    send(page, "**/jobs/*")
    page.wait_for_selector(".tag.running")
    address = page.url
    server.end(signal.SIGKILL)
    server.start()
    page.goto(address)
    ends(page, "Download the set")
    assert "1,680 images written" in page.inner_text("main")


def test_bad_uploads_are_said_clearly(server: Server, page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "notes.zip"
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr("../../escape.png", b"x")
    page.goto(server.url + "/analyse")
    page.click("button[type=submit]")
    page.wait_for_selector("#notice:has-text('Choose files first')")
    choose(page, bad)
    send(page, "**/jobs/*")
    page.wait_for_selector(".bad")
    assert "would be written outside" in page.inner_text(".bad")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_can_be_read(server: Server, browser: Any, scheme: str) -> None:
    """No page is wider than the window, and all text has the contrast of WCAG AA; pictures of the pages are kept where
    PLANKTER_SHOTS names a folder."""
    shots = os.environ.get("PLANKTER_SHOTS")
    for width, height in SIZES:
        with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:
            tab = context.new_page()
            tab.goto(server.url + "/jobs")
            jobs = [str(a.get_attribute("href")) for a in tab.locator("tbody th a").all()]
            tab.goto(server.url + "/runs")
            runs = [str(a.get_attribute("href")) for a in tab.locator("tbody th a").all()]
            more = [path for run in runs[:1] for path in (run, run.replace("/runs/", "/results/run/"))]
            for start, inside in (("/models", "/evaluations/"), ("/compare", "/comparisons/")):
                tab.goto(server.url + start)
                more += [str(a.get_attribute("href")) for a in tab.locator(f"a[href^='{inside}']").all()][:1]
            for path in ("/", "/analyse", "/train", "/transform", "/runs", "/models", "/models/flowcam", "/compare", "/drift", "/jobs", "/api",
                         "/nothing", *jobs[:3], *more):  # fmt: skip
                tab.goto(server.url + path)
                wide = tab.evaluate(_WIDE)
                assert wide <= width, f"{path} is {wide} px wide in a window of {width}"
                faint = tab.evaluate(_FAINT)
                assert not faint, f"{path} ({scheme}): {faint[:5]}"
                if shots:
                    name = path.strip("/").replace("/", "-") or "home"
                    tab.screenshot(path=f"{shots}/{name}-{width}-{scheme}.png")


def test_the_pages_work_by_keyboard(server: Server, page: Any) -> None:
    page.goto(server.url)
    page.keyboard.press("Tab")
    assert page.evaluate(_FOCUSED) == "Skip to the content"
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(_FOCUSED))
    assert "Analyse" in seen and any(text.startswith("Train on my images") for text in seen)
    page.goto(server.url + "/analyse")
    page.focus("button[type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#notice:has-text('Choose files first')")


# the page's content policy forbids code from texts in the page itself; these run beside it
_WIDE = "() => document.documentElement.scrollWidth"
_FOCUSED = "() => document.activeElement.innerText.trim()"
_FAINT = """() => {
  const light = c => { const v = c.map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const paper = node => { for (let n = node; n; n = n.parentElement) { const c = rgb(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] > .5) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || node.matches(":disabled, option, .skip")) continue;
    const a = light(rgb(getComputedStyle(node).color).slice(0, 3)), b = light(paper(node));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push(node.textContent.trim().slice(0, 30) + " " + ratio.toFixed(2));
  }
  return found;
}"""
