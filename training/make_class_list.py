"""Makes src/plankter/taxa/vliz_flowcam.csv from the class table of the VLIZ set:

    python training/make_class_list.py vliz_class_counts.csv src/plankter/taxa/vliz_flowcam.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

ARTEFACTS = {"Artefact", "Bubbles"}
NON_LIVING = {"Detritus", "Fibers", "Faecal_pellet", "Pollen", "Remnant"}
QUALIFIERS = {
    "Bacillariophyceae_type1_colony": "colony", "Pennate_Diatom_colony": "colony", "Phytoplankton_Colony": "colony",
    "Copepoda_adult": "adult", "Crustaceae-part": "part", "Dinoflagellate_cyst": "cyst", "Egg+Cyst": "egg or cyst",
    "Nauplii": "nauplius", "Porifera_spicule": "spicule", "Veliger_larvae_D-shaped": "D-shaped veliger",
}  # fmt: skip


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    with source.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["class"])
    with target.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class_id", "name", "aphia_id", "qualifier", "kind", "parent", "merged_into"])
        for row in rows:
            name, aphia = row["class"], row["aphia_id"]
            kind = "artefact" if name in ARTEFACTS else "non-living" if name in NON_LIVING else "living"
            aphia_id = aphia if aphia.isdigit() else ""
            writer.writerow([name, name.replace("_", " "), aphia_id, QUALIFIERS.get(name, ""), kind, "", ""])


if __name__ == "__main__":
    main()
