"""plankter.toml: read with defaults, refused where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from plankter._errors import NewerWorkspace, SettingsError
from plankter._settings import FILE_NAME, SETTINGS, load_settings, settings_text


def write(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return folder


def test_a_new_file_gives_the_defaults(tmp_path: Path) -> None:
    found = load_settings(write(tmp_path, settings_text("sqlite:catalogue.sqlite")), {})
    assert found == {setting.name: setting.default for setting in SETTINGS}


def test_the_catalogue_address_survives_quoting(tmp_path: Path) -> None:
    address = 'mongodb://a:"b\\c'
    assert load_settings(write(tmp_path, settings_text(address)), {})["workspace.catalogue"] == address


def test_the_environment_overrides(tmp_path: Path) -> None:
    folder = write(tmp_path, settings_text("sqlite:x"))
    assert load_settings(folder, {"PLANKTER_COMPUTE_THREADS": "3"})["compute.threads"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workspace]\nformat = 1\n[clasify]\nmodel = 'x'\n", "unknown setting 'clasify.model'"),
        ("[workspace]\nformat = 1\n[compute]\nthreads = 'many'\n", "compute.threads: expected a whole number"),
        ("[workspace]\nformat = 1\n[classify]\nmodel = 3\n", "classify.model: expected text"),
        ("[workspace\n", "expected TOML"),
        ("", "format"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("[", r"\[")) as caught:
        load_settings(write(tmp_path, text), {})
    assert caught.value.path == str(tmp_path / FILE_NAME)


def test_a_newer_workspace_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, "[workspace]\nformat = 99\n[unheard]\nof = 1\n")
    with pytest.raises(NewerWorkspace, match="format 99"):
        load_settings(folder, {})


def test_no_workspace_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="plankter init"):
        load_settings(tmp_path, {})
