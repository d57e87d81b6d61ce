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
