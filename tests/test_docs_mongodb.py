"""The page on MongoDB names every key, collection and option there is, and its mapping is one."""

from __future__ import annotations

import re
from pathlib import Path

from plankter.formats.mapping_file import KEYS, read_mapping
from plankter.store.mongodb_address import PASSWORD_VARIABLE
from plankter.store.mongodb_schema import COLLECTIONS

PAGE = (Path(__file__).parents[1] / "docs" / "mongodb.md").read_text(encoding="utf-8")


def test_its_mapping_can_be_read(tmp_path: Path) -> None:
    start = PAGE.index("    [source]\n")
    lines = PAGE[start : PAGE.index("### Every key")].splitlines()
    path = tmp_path / "mapping.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in lines), encoding="utf-8")
    found = read_mapping(path)
    assert found.results is not None and found.label is not None and found.label.list == "annotations"
    assert found.sample.values["latitude_deg"].of({"position": [2.5, 51.5]}) == 51.5


def test_every_key_and_collection_is_there() -> None:
    named = set(re.findall(r"`([^`]+)`", PAGE))
    for section, keys in KEYS.items():
        for key in keys:
            assert key.lstrip("*") in named, f"[{section}] {key}"
    for name in COLLECTIONS:
        assert name in named, name
    assert PASSWORD_VARIABLE in named


def test_the_compose_file_asks_for_a_replica_set_and_watches() -> None:
    text = (Path(__file__).parents[1] / "docker-compose.yml").read_text(encoding="utf-8")
    assert "--replSet" in text and "rs.initiate" in text and "plankter watch" in text and "\t" not in text
