"""Images by address stay below their root, whatever the address is dressed as."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.formats.mapped_values import Unfit
from plankter.store import source_images
from plankter.store.source_images import OUTSIDE, _below, _fetched, url_below

ROOT = "https://images.example.org/rois/"


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("a/1.png", ROOT + "a/1.png"), ("å 1.png", None), ("%C3%A5.png", ROOT + "%C3%A5.png"),
        ("a/./1.png?x=1", ROOT + "a/1.png?x=1"), (ROOT + "b.png", ROOT + "b.png"), ("/rois/c.png", ROOT + "c.png"),
        ("..", None), ("../secret", None), ("a/../../secret", None), ("%2e%2e/secret", None), ("%252e%252e/x", None),
        ("/etc/passwd", None), ("//evil.org/rois/x", None), ("http://images.example.org/rois/x", None),
        ("https://evil.org/rois/x", None), ("https://images.example.org:8080/rois/x", None), ("file:///etc/passwd", None),
        ("https://a:b@images.example.org/rois/x", None), ("https://images.example.org@evil.org/rois/x", None),
        ("ftp://images.example.org/rois/x", None), ("a\\..\\..\\x", None), ("a\nb", None), ("javascript:alert(1)", None),
        ("https://[broken/rois/", None), ("/roisx/a.png", None),
    ],
)  # fmt: skip
def test_addresses(reference: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(Unfit, match=OUTSIDE):
            url_below(ROOT, reference)
    else:
        assert url_below(ROOT, reference) == url


@given(st.text(max_size=40))
def test_no_address_leaves_the_root(reference: str) -> None:
    try:
        found = url_below(ROOT, reference)
    except Unfit:
        return
    assert found.startswith(ROOT) and ".." not in found.split("?")[0].split("/")


@given(st.text(max_size=40))
def test_no_path_leaves_the_root(reference: str) -> None:
    root = Path(__file__).parent
    try:
        found = _below(str(root), reference)
    except Unfit:
        return
    assert found.is_relative_to(root.resolve())


class _Server(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/in/good":
            self._answer(200, b"pixels")
        elif self.path == "/in/away":
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
        elif self.path == "/in/busy":
            self._answer(503 if self.asked.count("/in/busy") < 2 else 200, b"late")
        elif self.path == "/in/large":
            self._answer(200, b"x" * 100)
        else:
            self._answer(404, b"")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def root() -> Iterator[str]:
    _Server.asked = []
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/in"
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetching(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_images, "MAX_IMAGE_BYTES", 50)
    assert _fetched(root, "good") == b"pixels"
    assert _fetched(root, "busy") == b"late"
    for reference, words in (("none", "HTTP 404"), ("away", "HTTP 302"), ("large", "too large"), ("../x", OUTSIDE)):
        with pytest.raises(Unfit, match=words):
            _fetched(root, reference)
    assert "/secret" not in _Server.asked and "/x" not in _Server.asked


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_images, "TRIES", 1)
    with pytest.raises(Unfit, match="does not answer"):
        _fetched("http://127.0.0.1:9/in", "good")
