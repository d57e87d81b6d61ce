"""A server that is killed at random moments keeps its word; `kill_under_load.py` does the same for longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kill_under_load import Promised, kept, kill_under_load

from plankter.client import Client


def test_a_server_that_is_killed_keeps_its_word(tmp_path: Path) -> None:
    broken, counts = kill_under_load(tmp_path, kills=5, seed=7)
    assert not broken
    assert counts["done"] and counts["uploads"] and counts["stations"]


def test_a_word_that_is_not_kept_is_told(serve: Callable[[Path], Any], demo_workspace: Path, tmp_path: Path) -> None:
    server = serve(demo_workspace)
    (tmp_path / "a").write_bytes(b"12345")
    with Client(server.address) as client:
        upload = client.upload(tmp_path / "a")
        client._server.json("PUT", "/samples", b"run,sample,station\ndemo_4x,S,4\n")
        here = {upload: 5}, 4, 5, {}
        assert kept(client, Promised(*here)) == []
        broken = kept(client, Promised({upload: 6}, 5, 9, {"20260101-000000-00000000": ""}))
    assert len(broken) == 3 and "6 bytes" in broken[0] and "station 5" in broken[1] and "is gone" in broken[2]
