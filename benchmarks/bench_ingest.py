"""Ingest beside a straightforward loop, in one run on one machine.

    pip install scikit-image && python benchmarks/bench_ingest.py ../shared/data/flowcam/416_Station40_09012015_10x

The loop: PIL opens each collage, crops each box, saves a PNG, and `regionprops_table` measures the mask's objects.
Ours: everything `plankter ingest` does after start-up (hashes, vignettes, masks, morphology, archive, catalogue).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import init_workspace, open_workspace

PROPERTIES = (
    "area", "area_filled", "area_convex", "perimeter", "major_axis_length", "minor_axis_length", "eccentricity",
    "feret_diameter_max", "solidity", "mean_intensity", "min_intensity", "max_intensity", "bbox", "centroid",
)  # fmt: skip


def straightforward(run: Path, out: Path) -> int:
    import numpy as np
    from PIL import Image
    from skimage.measure import regionprops_table

    from plankter.readers.base import RunSource
    from plankter.readers.flowcam import FlowCamReader

    (listed,) = run.glob("*.lst")
    particles = FlowCamReader().read(RunSource("flowcam", listed, str(listed))).particles
    collages: dict[str, tuple[Image.Image, Image.Image]] = {}
    for index in range(len(particles)):
        page = str(particles.page[index])
        if page not in collages:
            mask = Image.open(run / page.replace(".tif", "_bin.tif"))
            collages[page] = (Image.open(run / page), mask)
            for image in collages[page]:
                image.load()
        x, y, w, h = (int(v) for v in particles.box[index])
        vignette, mask = (image.crop((x, y, x + w, y + h)) for image in collages[page])
        vignette.save(out / f"{index:06}.png")
        mask.save(out / f"{index:06}_mask.png")
        labels = (np.asarray(mask) > 0).astype(np.uint8)
        regionprops_table(labels, np.asarray(vignette.convert("L")), properties=PROPERTIES)
    return len(particles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    ours, theirs, particles = [], [], 0
    for _ in range(args.repeat):
        with tempfile.TemporaryDirectory() as scratch:
            with open_workspace(init_workspace(Path(scratch) / "w")) as workspace:
                started = time.perf_counter()
                found, _ = ingest(workspace, [args.run])
                ours.append(time.perf_counter() - started)
                assert found[0].status == "ingested", found[0].reason
            (Path(scratch) / "loop").mkdir()
            started = time.perf_counter()
            particles = straightforward(args.run, Path(scratch) / "loop")
            theirs.append(time.perf_counter() - started)
    fast, slow = min(ours), min(theirs)
    print(f"plankter ingest       {particles / fast:9.0f} particles/s  ({fast:.2f} s)")
    print(f"PIL + regionprops     {particles / slow:9.0f} particles/s  ({slow:.2f} s)")
    print(f"ratio                 {slow / fast:9.1f}")


if __name__ == "__main__":
    main()
