"""Folders of the server and connections outward: what was not named stays shut."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from plankter._errors import NotFound, PlankterError, ReadError, SettingsError
from plankter.service.app import create_app
from plankter.service.outward import Allowed, Refused, guarded
from plankter.service.sources import ENVIRONMENT, Sources, allowed_sources, folder_facts
from plankter.service.state import Limits
from plankter.service.uploads import UploadLimits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "allowed"
    (found / "set" / "a").mkdir(parents=True)
    (found / "set" / "a" / "1.png").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "2.png").write_bytes(b"y")
    return found


@pytest.fixture
def sources(root: Path) -> Sources:
    return allowed_sources([root], [], UploadLimits())


# -- folders
def test_a_folder_below_a_root_is_found_by_its_real_path(sources: Sources, root: Path) -> None:
    assert sources.checked_folder(str(root / "set" / ".." / "set")) == root / "set"
    assert sources.folder("set/a") == root / "set" / "a"


@pytest.mark.parametrize(
    "text", ["", " ", "/", "/etc", "..", "../secret", "set/../../secret", "set/a/1.png", "no", "a\0b", "x" * 3000]
)
def test_all_others_are_refused_with_the_same_words(sources: Sources, text: str) -> None:
    with pytest.raises(NotFound, match="no such folder among those"):
        sources.folder(text)


def test_nothing_is_allowed_by_default(root: Path) -> None:
    with pytest.raises(NotFound):
        Sources().folder(str(root))
    with pytest.raises(Refused):
        Sources().hosts().check_url("https://cloud.example.org/a")


@pytest.mark.parametrize("at", ["set", "set/a"])
@pytest.mark.parametrize("target", ["../secret", "../secret/2.png", "../nothing"])
def test_a_link_that_leaves_the_root_is_refused(sources: Sources, root: Path, at: str, target: str) -> None:
    (root / at / "link").symlink_to(root / target)
    with pytest.raises(ReadError, match="leads out of what may be read"):
        sources.checked_folder("set")


def test_a_link_to_a_folder_is_followed_to_the_links_in_it(sources: Sources, root: Path) -> None:
    (root / "other").mkdir()
    (root / "other" / "self").symlink_to(root / "other")
    (root / "set" / "inside").symlink_to(root / "other")
    assert sources.checked_folder("set") == root / "set"
    (root / "other" / "out").symlink_to(root.parent / "secret")
    with pytest.raises(ReadError):
        sources.checked_folder("set")


def test_a_root_that_is_swapped_for_a_link_is_refused(sources: Sources, root: Path) -> None:
    (root / "set").rename(root / "kept")
    (root / "set").symlink_to(root.parent / "secret")
    with pytest.raises(NotFound):
        sources.folder("set")


def test_what_is_neither_file_nor_folder_is_refused(sources: Sources, root: Path) -> None:
    os.mkfifo(root / "set" / "pipe.png")
    with pytest.raises(ReadError, match="neither"):
        sources.checked_folder("set")


def test_the_folders_of_a_page_stay_below_the_roots(sources: Sources, root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / ".hidden").mkdir()
    assert folder_facts(sources, "")["folders"] == [str(root)]
    found = folder_facts(sources, str(root))
    assert found["folders"] == [str(root / "set")] and found["up"] == "" and found["files"] == 0
    assert folder_facts(sources, str(root / "set"))["up"] == str(root)
    with pytest.raises(NotFound):
        folder_facts(sources, str(root.parent))


def test_a_worker_is_told_through_its_environment(sources: Sources) -> None:
    assert Sources.of_environment(sources.environment()) == sources
    assert Sources.of_environment({}) == Sources() and list(sources.environment()) == [ENVIRONMENT]


def test_a_wrong_root_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="allow-root"):
        create_app(tmp_path, limits=Limits(roots=(tmp_path / "nothing",)))


# -- where connections may go
@pytest.mark.parametrize(("rule", "url"), [
    ("cloud.example.org", "https://cloud.example.org/remote.php/dav"), ("Cloud.Example.org.", "https://CLOUD.example.org./a"),
    ("cloud.example.org:8443", "https://cloud.example.org:8443"), ("http://nas", "http://nas/a"), ("http://nas", "https://nas/a"),
    ("192.0.2.7", "https://192.0.2.7/"), ("10.0.0.0/8", "https://10.1.2.3/"), ("::1", "https://[::1]/"),
    ("127.0.0.1", "https://[::ffff:127.0.0.1]/"),
])  # fmt: skip
def test_a_named_host_may_be_asked(rule: str, url: str) -> None:
    Allowed.of([rule]).check_url(url)


@pytest.mark.parametrize(("rule", "url"), [
    ("cloud.example.org", "https://evil.example/"), ("cloud.example.org", "http://cloud.example.org/"),
    ("cloud.example.org", "https://cloud.example.org.evil.example/"), ("cloud.example.org", "https://cloud.example.org:22/"),
    ("cloud.example.org", "ftp://cloud.example.org/"), ("cloud.example.org", "file:///etc/passwd"),
    ("cloud.example.org", "https://user:pw@cloud.example.org/"), ("cloud.example.org", "https://evil.example#@cloud.example.org"),
    ("cloud.example.org", "https://sub.cloud.example.org/"), ("cloud.example.org", "https:///x"), ("cloud.example.org", "https://x:y/"),
    ("cloud.example.org", "https://cloud.example.org/a\r\nHost: b"), ("10.0.0.0/8", "https://11.0.0.1/"),
    ("10.0.0.0/8", "https://[::1]/"), ("cloud.example.org:8443", "https://cloud.example.org/"),
])  # fmt: skip
def test_no_other_host_may(rule: str, url: str) -> None:
    with pytest.raises((Refused, SettingsError)):
        Allowed.of([rule]).check_url(url)


@pytest.mark.parametrize(
    "text", ["a b", "*.example.org", "host/path", "https://", "u@host", "host:port", "host:99999999"]
)
def test_a_rule_that_names_no_host(text: str) -> None:
    with pytest.raises(SettingsError, match="allow-remote"):
        Allowed.of([text])


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1",
    "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "::", "not-an-address",
])  # fmt: skip
def test_private_addresses_are_refused_unless_named(address: str) -> None:
    rules = Allowed.of(["cloud.example.org"])
    with pytest.raises(Refused):
        rules.check_address(address, 443)
    if address != "not-an-address":
        Allowed.of(["cloud.example.org", address]).check_address(address, 443)
        with pytest.raises(Refused, match="port 22"):
            Allowed.of(["cloud.example.org", address]).check_address(address, 22)


def test_public_addresses_may_be_connected_to() -> None:
    Allowed.of(["cloud.example.org"]).check_address("93.184.216.34", 443)
    Allowed.of(["cloud.example.org"]).check_address("2606:2800:220:1::1", 443)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_the_guard_judges_every_connection_of_the_process(listening: int) -> None:
    found: list[BaseException | None] = []

    def connect(host: str = "127.0.0.1") -> None:
        try:
            socket.create_connection((host, listening), timeout=5).close()
            found.append(None)
        except (PlankterError, OSError) as error:
            found.append(error)

    with guarded(Allowed.of([f"cloud.example.org:{listening}"])) as refused:
        with pytest.raises(Refused, match="private network"), socket.socket() as plain:
            plain.connect(("127.0.0.1", listening))
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        connect("localhost")
    assert all(isinstance(error, Refused) for error in found) and len(refused) == 3
    with guarded(Allowed.of([f"127.0.0.1:{listening}"])):
        connect()
    connect()
    assert found[-2:] == [None, None]


# -- on the pages
@pytest.fixture(scope="module")
def allowing(demo_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    root = tmp_path_factory.mktemp("roots") / "data"
    root.mkdir()
    limits = Limits(roots=(root,), remote=("cloud.example.org",))
    with TestClient(create_app(demo_workspace, limits=limits), base_url="http://127.0.0.1:8000") as client:
        yield client, root


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_sources_stand_on_the_pages_only_where_they_are_allowed(
    client: TestClient, allowing: tuple[TestClient, Path]
) -> None:
    for page in ("/train", "/analyse", "/transform"):
        assert "folder on this server" not in client.get(page).text and "WebDAV" not in client.get(page).text
        text = allowing[0].get(page).text
        assert "folder on this server" in text and "cloud.example.org" in text
    assert str(allowing[1]) in allowing[0].get("/folders").text
    assert client.get("/folders").status_code == 200 and "/" not in client.get("/folders").text.split("<ul")[1].split(
        "</ul>"
    )[0].replace("</", "")
    assert allowing[0].get("/folders", params={"at": "/etc"}).status_code == 404


@pytest.mark.parametrize(("form", "status"), [
    ("folder=%2Fetc", 404), ("address=https%3A%2F%2Fevil.example%2Fa", 422), ("address=ftp%3A%2F%2Fcloud.example.org", 422),
    ("address=http%3A%2F%2Fcloud.example.org%2Fa", 422), ("address=s3%3A%2F%2Fbucket%2Fa", 422),
    ("address=s3%3A%2F%2Fbucket%2Fa&endpoint=http%3A%2F%2F169.254.169.254", 422),
    ("address=https%3A%2F%2Fu%3Apw%40cloud.example.org%2Fa", 422), ("address=https%3A%2F%2Fcloud.example.org%2Fa%3Fx%3D1", 422),
])  # fmt: skip
def test_sources_that_are_refused(allowing: tuple[TestClient, Path], form: str, status: int) -> None:
    answer = allowing[0].post("/train", content=form, headers={**FORM, "HX-Request": "true"})
    assert answer.status_code == status and "pw" not in answer.text, answer.text


def test_one_source_at_a_time(allowing: tuple[TestClient, Path]) -> None:
    client, root = allowing
    body = {"kind": "inspect", "arguments": {"folder": str(root), "remote": {"address": "https://cloud.example.org/a"}}}
    assert client.post("/api/v1/jobs", json=body).status_code == 422
