"""Who may ask what."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from plankter.service import server
from plankter.service.access import COOKIE, Access, host_name, is_loopback
from plankter.service.app import create_app


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False),
    ("192.168.1.5", False), ("evil.example", False), ("localhost.evil.example", False), ("", False),
])  # fmt: skip
def test_loopback_is_this_computer_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(("header", "name"), [
    ("127.0.0.1:8000", "127.0.0.1"), ("LOCALHOST", "localhost"), ("[::1]:80", "::1"), ("evil.example:8000", "evil.example"),
    ("[::1].evil.example", "[::1].evil.example"), ("[::1]", "::1"),
])  # fmt: skip
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_another_name_for_this_computer_is_refused(client: TestClient) -> None:
    answer = client.get("/api/v1/status", headers={"Host": "evil.example:8000"})
    assert answer.status_code == 421 and answer.headers["content-type"] == "application/problem+json"
    assert client.get("/", headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
])  # fmt: skip
def test_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/api/v1/uploads", headers=headers).status_code == 403
    assert client.get("/api/v1/status", headers=headers).status_code == 200  # its pages cannot read the answer


def test_our_own_pages_and_scripts_may(client: TestClient) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"}
    assert client.post("/api/v1/uploads", headers=own).status_code == 201
    assert client.post("/api/v1/uploads").status_code == 201


def test_pages_run_only_the_servers_own_scripts(client: TestClient) -> None:
    for path in ("/", "/api/v1/status", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path
    text = client.get("/analyse").text
    assert "<script>" not in text and "style=" not in text and "onclick" not in text


def test_a_token_of_the_address_works_once(demo_workspace: Path) -> None:
    told: list[str] = []
    with TestClient(
        create_app(demo_workspace, loopback=False, announce=told.append), base_url="http://lab.example"
    ) as c:
        assert c.get("/").status_code == 401
        assert c.get("/api/v1/status").status_code == 401
        assert c.get("/health").status_code == 200
        assert c.get("/?token=wrong", follow_redirects=False).status_code == 401
        first = c.get(f"/runs?start=0&token={told[0]}", follow_redirects=False)
        assert first.status_code == 303 and first.headers["location"] == "/runs?start=0"
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and told[0].lower() not in cookie
        assert c.get("/").status_code == 200 and len(told) == 2
        c.cookies.clear()
        assert c.get(f"/?token={told[0]}").status_code == 401
        assert c.get("/", cookies={COOKIE: told[0]}).status_code == 401
        token = c.app.state.access.api_token  # type: ignore[attr-defined]
        assert c.get("/api/v1/status", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert c.get("/api/v1/status", headers={"Authorization": f"Bearer {told[1]}"}).status_code == 401


def test_who_is_not_signed_in_sees_how_and_may_paste_the_whole_address(demo_workspace: Path) -> None:
    told: list[str] = []
    app = create_app(demo_workspace, loopback=False, announce=told.append)
    with TestClient(app, base_url="http://lab.example") as c:
        page = c.get("/runs").text
        assert (
            "<h1>Sign in</h1>" in page
            and 'name="token"' in page
            and 'href="/jobs"' not in page
            and "not the newest" not in page
        )
        assert "not the newest one" in c.get("/?token=wrong").text
        pasted = {"token": f" http://lab.example:8000/?token={told[0]}\n"}
        answer = c.get("/", params=pasted, follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        assert "From plankton images" in c.get("/").text and 'href="/jobs"' in c.get("/").text


def test_tokens_are_long_and_differ() -> None:
    tokens = {Access(loopback=False).token for _ in range(50)}
    assert len(tokens) == 50 and all(len(token) >= 40 for token in tokens)


def test_the_printed_address_opens_from_elsewhere() -> None:
    assert server._name_of("0.0.0.0") == server._name_of("::") == socket.gethostname()
    assert (server._name_of("::1"), server._name_of("db.example.org")) == ("[::1]", "db.example.org")
