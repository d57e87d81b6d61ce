"""A source behind a password: reading rights are enough, writing needs its own, and no password is ever said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import institute
import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from plankter._errors import StoreError
from plankter.cli import app
from plankter.workflow.connect import connect
from plankter.workflow.workspace import init_workspace, open_workspace
from plankter.workflow.write_back import write_back

SECRET = "p/ss:word@"
RESULTS = '\n[results]\ninto = "beside"\n'


@pytest.fixture
def host(guarded: Any) -> Any:
    host = guarded.address.removeprefix("mongodb://")
    with MongoClient[dict[str, Any]](guarded.address, username="writer", password=SECRET, authSource="w") as client:
        institute.fill(client.w, 12, broken=False)
        yield host
        for name in ("rois", "fs.files", "fs.chunks", "plankter_quantities"):
            client.w[name].delete_many({})


def test_a_user_who_may_only_read_is_enough(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOURCE_PASSWORD", SECRET)
    monkeypatch.setenv("PLANKTER_MONGODB_PASSWORD", SECRET)
    caplog.set_level(logging.DEBUG)
    reading = f"mongodb://reader:${{SOURCE_PASSWORD}}@{host}/w"
    mapping = institute.write_mapping(tmp_path, reading, RESULTS)
    folder = init_workspace(tmp_path / "w")
    with open_workspace(folder) as workspace:
        assert len(connect(workspace, mapping)["runs"]) == 2
        at = institute.WHEN
        (first, *_) = workspace.catalogue.runs()
        from plankter.types import Annotation, Verdict

        workspace.catalogue.annotate([Annotation(first.run.run_id, 0, "x", Verdict.CONFIRMED, "ada", at)])
        with pytest.raises(StoreError, match="no right") as caught:
            write_back(workspace, mapping)
        assert SECRET not in str(caught.value)
        writing = institute.write_mapping(tmp_path, reading, f'{RESULTS}address = "mongodb://writer@{host}/w"\n')
        assert write_back(workspace, writing)["documents"] == 1
    held = [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert held == [] and SECRET not in caplog.text


def test_the_command_line_says_no_password(host: str, tmp_path: Path) -> None:
    address = f"mongodb://writer:wrong-one@{host}/w"
    said = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--catalogue", address])
    assert said.exit_code == 1 and "wrong-one" not in said.output + said.stderr and "refused" in said.stderr
    assert not (tmp_path / "w" / "plankter.toml").exists()
    good = "mongodb://writer:p%2Fss%3Aword%40@" + host + "/w"
    made = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--catalogue", good])
    assert made.exit_code == 0, made.stderr
    assert (tmp_path / "w" / "plankter.toml").stat().st_mode & 0o077 == 0
    moved = CliRunner().invoke(app, ["migrate", "sqlite:c.sqlite", "-w", str(tmp_path / "w"), "--json"])
    assert moved.exit_code == 0 and "word%40" not in moved.output and "writer:***@" in moved.output
