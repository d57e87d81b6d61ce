"""Writes measures.md of docs/reference from the table of measures: python docs/make_reference.py"""

from __future__ import annotations

from pathlib import Path

from plankter.features.measures_table import MEASURES
from plankter.features.morphology import MORPHOLOGY

HERE = Path(__file__).parent / "reference"

INTRODUCTION = """\
Made from `src/plankter/features/measures_table.py` by `docs/make_reference.py`.

Below, c is the scale in um per px, f the fringe in px that the instrument subtracts (0 where it has none), and
k(d) = max(d - f, d/2). Measures in um, um2 and um3 are unknown without a scale. The mask is the instrument's; where
it gave none, `plankter.vignettes.masks.own_mask` makes one. A mask may hold several objects: every measure spans all
of them. The last column names the same quantity in VisualSpreadsheet's list or, for `volume_abd`, `volume_esd`,
`circularity`, `convexity`, `transparency`, the geodesic ones and the aspect ratios, in its export.

**Diameters, length and width are fringe-corrected, as in VisualSpreadsheet: they are not pixel measures times the
scale.** `area_uncorrected_um2` and `filled_area_uncorrected_um2` are.
"""


def measures_page() -> str:
    """Every measure: name, unit, definition, source, the instrument's name."""
    name, version = MORPHOLOGY
    lines = [f"# Measures (feature set `{name}`, version {version})", "", INTRODUCTION]
    lines += ["| measure | unit | definition | source | VisualSpreadsheet |", "| --- | --- | --- | --- | --- |"]
    for item in MEASURES:
        column = "" if item.instrument_column is None else f"`{item.instrument_column}`"
        definition = item.definition.replace("|", "\\|")
        lines.append(f"| `{item.name}` | {item.unit} | {definition} | {item.source} | {column} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "measures.md").write_text(measures_page(), encoding="utf-8")
