"""Sets on WebDAV and in S3, from real servers of both kinds on this computer."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient

from plankter._errors import PlankterError, ReadError
from plankter.service.app import create_app
from plankter.service.fetching import Place, fetch, is_fetched, place_of
from plankter.service.outward import Allowed, Refused
from plankter.service.state import Limits
from plankter.service.uploads import Upload, UploadLimits, UploadStore
from plankter.workflow.progress import silent

USER, PASSWORD = "anna", "wonder-land/23"
KEY, SECRET_KEY = "AKIATESTTESTTESTTEST", "s3cr3t/of+the=key0123456789abcdefghijkl"


def png(seed: int) -> bytes:
    import cv2
    import numpy as np

    image = np.full((40, 40), 200, np.uint8)
    cv2.circle(image, (20, 20), 4 + seed, 30 + seed, -1)
    return bytes(cv2.imencode(".png", image)[1])


FILES = {f"{name}/{n} ü#%.png": png(n + 6 * (name == "beta")) for name in ("alpha", "beta") for n in range(6)}


@pytest.fixture(scope="module")
def webdav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A WebDAV server with a set at ``/dav/my set``; its address."""
    wsgidav = pytest.importorskip("wsgidav.wsgidav_app", reason="wsgidav is not installed")
    wsgi = pytest.importorskip("cheroot.wsgi", reason="cheroot is not installed")
    root = tmp_path_factory.mktemp("dav")
    for name, data in {**FILES, ".hidden/x.png": b"x"}.items():
        path = root / "my set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    config = {
        "provider_mapping": {"/dav": str(root)}, "verbose": 0, "logging": {"enable": False},
        "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
        "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
    }  # fmt: skip
    server = wsgi.Server(("127.0.0.1", 0), wsgidav.WsgiDAVApp(config))
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.bind_addr[1]}/dav/my%20set"
    server.stop()
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def s3(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with a set at ``s3://plankton/my set``; its address."""
    pytest.importorskip("s3fs", reason="s3fs (extra s3) is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    made = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1"
    )
    made.create_bucket(Bucket="plankton")
    for name, data in FILES.items():
        made.put_object(Bucket="plankton", Key=f"my set/{name}", Body=data)
    made.put_object(Bucket="plankton", Key="other/x.png", Body=b"x")
    yield url
    server.stop()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as found:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            found.delenv(name, raising=False)
        yield found


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    return UploadStore(tmp_path / "uploads", UploadLimits()).create("remote")


def fetched(upload: Upload) -> dict[str, bytes]:
    return {p.relative_to(upload.data).as_posix(): p.read_bytes() for p in upload.data.rglob("*") if p.is_file()}


def account(user: str, password: str) -> dict[str, str]:
    return {"user": user, "password": password}


def here(url: str) -> Allowed:
    return Allowed.of(["http://" + url.split("/")[2]])


def test_a_webdav_folder_is_fetched(webdav: str, upload: Upload, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = place_of({"address": webdav + "/", "account": True}, here(webdav))
    told: list[tuple[str, int, int | None]] = []
    fetch(place.facts(), account(USER, PASSWORD), upload, here(webdav), UploadLimits(), lambda *a: told.append(a))
    assert fetched(upload) == FILES and is_fetched(upload)
    assert told[-1] == ("fetching files", 12, 12) and place.words() == "my set on 127.0.0.1"
    assert PASSWORD not in caplog.text and USER not in caplog.text and "anna" not in json.dumps(place.facts())
    fetch(place.facts(), None, upload, here(webdav), UploadLimits(), silent)  # it is here: no account is needed


def test_an_s3_folder_is_fetched(s3: str, upload: Upload, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    given = {"address": "s3://plankton/my set/", "endpoint": s3, "account": True}
    place = place_of(given, here(s3))
    fetch(place.facts(), account(KEY, SECRET_KEY), upload, here(s3), UploadLimits(), silent)
    assert fetched(upload) == FILES
    assert KEY not in caplog.text and SECRET_KEY not in caplog.text and place.words() == "plankton/my set on 127.0.0.1"


def test_what_is_here_already_is_not_fetched_again(webdav: str, upload: Upload) -> None:
    place = place_of({"address": webdav, "account": True}, here(webdav))
    kept, cut = list(FILES)[:2]
    (upload.data / kept).parent.mkdir(parents=True)
    (upload.data / kept).write_bytes(b"k" * len(FILES[kept]))
    (upload.data / cut).write_bytes(b"c")
    fetch(place.facts(), account(USER, PASSWORD), upload, here(webdav), UploadLimits(), silent)
    assert fetched(upload) == {**FILES, kept: b"k" * len(FILES[kept])}


def test_a_wrong_account_is_said_without_it(webdav: str, upload: Upload) -> None:
    place = place_of({"address": webdav, "account": True}, here(webdav))
    with pytest.raises(ReadError) as error:
        fetch(place.facts(), account(USER, "wrong-password"), upload, here(webdav), UploadLimits(), silent)
    assert "wrong-password" not in str(error.value) and not is_fetched(upload)
    with pytest.raises(ReadError, match="not kept on the disk"):
        fetch(place.facts(), None, upload, here(webdav), UploadLimits(), silent)


@pytest.mark.parametrize("limits", [UploadLimits(max_files=11), UploadLimits(max_bytes=100)])
def test_what_is_over_a_limit_is_not_begun(webdav: str, upload: Upload, limits: UploadLimits) -> None:
    place = place_of({"address": webdav, "account": True}, here(webdav))
    with pytest.raises(ReadError, match=r"over the limit|more than 11 files"):
        fetch(place.facts(), account(USER, PASSWORD), upload, here(webdav), limits, silent)
    assert not fetched(upload)


def test_an_empty_or_absent_folder_is_said(webdav: str, s3: str, upload: Upload) -> None:
    for url, given in (
        (webdav, {"address": webdav + "/nothing"}),
        (s3, {"address": "s3://plankton/nothing", "endpoint": s3}),
    ):
        place = place_of({**given, "account": True}, here(url))
        secret = account(USER, PASSWORD) if url == webdav else account(KEY, SECRET_KEY)
        with pytest.raises(ReadError):
            fetch(place.facts(), secret, upload, here(url), UploadLimits(), silent)


def test_a_rule_that_was_withdrawn_holds_for_a_job_that_waits(webdav: str, upload: Upload) -> None:
    place = place_of({"address": webdav, "account": True}, here(webdav))
    with pytest.raises(Refused):
        fetch(place.facts(), account(USER, PASSWORD), upload, Allowed.of(["cloud.example.org"]), UploadLimits(), silent)


def test_a_name_that_means_a_private_address_is_refused(
    webdav: str, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was named, whose name is made to mean an address of the own network (DNS rebinding)."""
    port = int(webdav.split("/")[2].split(":")[1])
    looked_up = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **more: Any) -> Any:
        return looked_up("127.0.0.1" if host in ("rebound.example", b"rebound.example") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    only = Allowed.of([f"http://rebound.example:{port}"])
    address = f"http://rebound.example:{port}/dav/my%20set"
    place = place_of({"address": address, "account": True}, only)
    with pytest.raises(Refused):
        fetch(place.facts(), account(USER, PASSWORD), upload, only, UploadLimits(), silent)
    assert not fetched(upload)


class _Hostile(BaseHTTPRequestHandler):
    """Answers a PROPFIND with names that lead elsewhere, and every other request with a redirect."""

    reply = ""
    redirect = ""
    asked: ClassVar[list[str]] = []

    def do_PROPFIND(self) -> None:
        self.asked.append(self.path)
        if self.redirect:
            self.do_GET()
            return
        body = self.reply.encode()
        self.send_response(207)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.redirect)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hostile() -> Iterator[str]:
    _Hostile.asked, _Hostile.redirect, _Hostile.reply = [], "", ""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=10)


def test_a_redirect_is_not_followed(hostile: str, webdav: str, upload: Upload) -> None:
    _Hostile.redirect = webdav
    both = Allowed.of(["http://" + hostile.split("/")[2], "http://" + webdav.split("/")[2]])
    place = place_of({"address": hostile + "/dav"}, both)
    with pytest.raises(PlankterError):
        fetch(place.facts(), None, upload, both, UploadLimits(), silent)
    assert _Hostile.asked and not fetched(upload)


@pytest.mark.parametrize(
    "name",
    ["../../escape.png", "a/../../../escape.png", "%2e%2e/%2e%2e/escape.png", "..%5C..%5Cescape.png", "a%00b.png"],
)
def test_names_that_lead_out_of_the_upload_are_refused(hostile: str, upload: Upload, name: str) -> None:
    entry = "<d:response><d:href>{}</d:href><d:propstat><d:prop>{}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    folder = entry.format("/dav/", "<d:resourcetype><d:collection/></d:resourcetype>")
    file = entry.format(f"/dav/{name}", "<d:resourcetype/><d:getcontentlength>3</d:getcontentlength>")
    _Hostile.reply = f'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">{folder}{file}</d:multistatus>'
    place = place_of({"address": hostile + "/dav"}, here(hostile))
    with pytest.raises(PlankterError):
        fetch(place.facts(), None, upload, here(hostile), UploadLimits(), silent)
    assert not list(upload.folder.parent.parent.rglob("escape.png")) and not fetched(upload)


def test_a_nextcloud_share_is_its_webdav_folder() -> None:
    only = Allowed.of(["cloud.example.org"])
    for address in (
        "https://cloud.example.org/s/AbCdEf1234567",
        "https://cloud.example.org/index.php/s/AbCdEf1234567/",
    ):
        found = place_of({"address": address}, only)
        assert found == Place("webdav", "https://cloud.example.org/public.php/webdav", "", False, "AbCdEf1234567")
    assert place_of(
        {"address": "s3://b-1/a/", "region": "eu-central-1"}, Allowed.of(["s3.eu-central-1.amazonaws.com"])
    ) == Place("s3", "https://s3.eu-central-1.amazonaws.com", "b-1/a")


# -- the whole way, with a worker of its own
def test_a_set_of_an_address_becomes_a_training_set(demo_workspace: Path, webdav: str) -> None:
    limits = Limits(remote=("http://" + webdav.split("/")[2],))
    with TestClient(create_app(demo_workspace, limits=limits), base_url="http://127.0.0.1:8000") as client:
        form = {"address": webdav, "user": USER, "password": PASSWORD}
        address = client.post("/train", data=form).json()["location"]
        job_id = address.rsplit("/", 1)[1]
        for _ in range(600):
            job = client.get(f"/api/v1/jobs/{job_id}").json()
            if job["state"] not in ("queued", "running"):
                break
            time.sleep(0.2)
        assert job["state"] == "done" and job["result"]["images"] == 12, job
        page = client.get(address).text
        assert "12 images of 2 classes" in page and "my%20set" in page
        assert client.get(page.split('alt="" src="')[1].split('"')[0]).headers["content-type"] == "image/png"
    for path in demo_workspace.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert PASSWORD.encode() not in text and f'"{USER}"'.encode() not in text, path
