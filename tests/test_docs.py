"""The reference pages are what the program says today."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "tables.md"])
def test_reference_pages_are_fresh(name: str) -> None:
    pages = runpy.run_path(str(DOCS / "make_commands.py"))["PAGES"]
    hint = "stale: run python docs/make_commands.py"
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == pages[name](), hint


def test_links_between_pages_lead_somewhere() -> None:
    import re

    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_every_column_of_the_store_is_documented() -> None:
    import pyarrow.parquet as pq

    from plankter.store.sqlite_schema import METADATA

    page = (DOCS / "reference" / "store.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    for table in METADATA.tables.values():
        for column in table.columns:
            assert f"`{column.name}`" in rows[f"`{table.name}`"], f"{table.name}.{column.name}"
    golden = Path(__file__).parent / "store" / "archives" / "v0.1" / "archive"
    for path in golden.glob("*/instrument.parquet"):
        for name in pq.read_schema(path).names:
            assert name.startswith("instrument.") or f"`{name}`" in page, name
