"""Chooses the real vignettes that ship with the package: a few of each of the common classes, in one stored zip.

    python training/make_synthetic_vignettes.py --images TRAIN_DIR --exclude VAL_DIR --splits dated.csv \
        --out src/plankter/synthetic/vignettes.zip

TRAIN_DIR holds one folder a class, from the training archive only: what ships must never be an image that models are
judged by. `--exclude` (a folder of the same layout) and `--splits` (CSV with file and split) name those to avoid.
"""

from __future__ import annotations

import argparse
import csv
import zipfile
from pathlib import Path

import numpy as np

from plankter.synthetic.real import threshold_mask
from plankter.vignettes.codec import decode_image

CLASSES = {
    "Actinoptychus": 3, "Artefact": 2, "Asterionella": 3, "Bacillaria_paxillifer": 3, "Bacteriastrum": 3,
    "Bellerochea": 3, "Bubbles": 3, "Centric_Diatom": 3, "Chaetoceros": 4, "Chaetoceros_danicus": 3, "Ciliophora": 3,
    "Copepoda_adult": 2, "Detritus": 4, "Dinoflagellata": 3, "Ditylum_brightwellii": 3, "Eucampia": 3,
    "Faecal_pellet": 3, "Fibers": 3, "Guinardia_delicatula": 3, "Guinardia_flaccida": 3, "Helicotheca_tamesis": 3,
    "Lithodesmium_undulatum": 3, "Melosira": 3, "Nauplii": 2, "Noctilucales": 2, "Odontella_aurita+Ralfsiella_minima": 3,
    "Paralia": 3, "Pennate_Diatom": 3, "Pollen": 3, "Protoperidinium": 4, "Pseudo-nitzschia": 3, "Rhizosolenia": 3,
    "Skeletonema": 3, "Thalassiosira+Porosira": 3, "Tintinnina": 3, "Tripos": 3, "Tripos_fusus": 2,
}  # fmt: skip
MAX_SIDE_PX, MIN_SIDE_PX, MAX_BYTES = 260, 40, 5000
DATE = (2024, 1, 1, 0, 0, 0)


def acceptable(path: Path) -> bool:
    """Of middling size, in one piece inside its frame, and dark enough that a simple threshold finds it."""
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        return False
    grey = decode_image(data, path=path, grey=True)
    if not MIN_SIDE_PX <= max(grey.shape) <= MAX_SIDE_PX:
        return False
    mask = threshold_mask(grey)
    border = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    return 0.06 < mask.mean() < 0.8 and border.mean() < 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--exclude", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    avoid = {path.name for path in options.exclude.rglob("*.jpg")}
    with options.splits.open(encoding="utf-8", newline="") as handle:
        avoid |= {row["file"] for row in csv.DictReader(handle) if row["split"] == "val"}
    rng = np.random.default_rng(options.seed)
    total = 0
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_STORED) as archive:
        for class_name, wanted in CLASSES.items():
            names = sorted(p.name for p in (options.images / class_name).glob("*.jpg") if p.name not in avoid)
            chosen: list[Path] = []
            for name in rng.permutation(names).tolist():
                path = options.images / class_name / name
                if len(chosen) < wanted and acceptable(path):
                    chosen.append(path)
            for path in sorted(chosen):
                info = zipfile.ZipInfo(f"{class_name}/{path.name}", DATE)
                archive.writestr(info, path.read_bytes())
            total += len(chosen)
            print(f"{class_name}: {len(chosen)} of {len(names)}")
    print(f"{total} vignettes of {len(CLASSES)} classes, {options.out.stat().st_size:,} bytes; avoided {len(avoid):,}")


if __name__ == "__main__":
    main()
