"""Ingest beside a straightforward loop, in one run on one machine.

    pip install scikit-image && python benchmarks/bench_ingest.py ../shared/data/flowcam/416_Station40_09012015_10x

The loop: PIL opens each collage, crops each box, saves a PNG, and `regionprops_table` measures the mask's objects.
Ours: everything `plankter ingest` does after start-up (hashes, vignettes, masks, morphology, archive, catalogue).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import init_workspace, open_workspace

# what a first script measures
COMMON = (
    "area", "area_filled", "area_convex", "perimeter", "axis_major_length", "axis_minor_length", "eccentricity",
    "feret_diameter_max", "solidity", "intensity_mean", "intensity_min", "intensity_max", "bbox", "centroid",
)  # fmt: skip
# and what it needs for the measures that plankter takes, as far as scikit-image has them
SAME = (*COMMON, "equivalent_diameter_area", "orientation", "moments_hu", "intensity_std")


def straightforward(run: Path, out: Path, properties: tuple[str, ...], with_moments: bool) -> int:
    import numpy as np
    from PIL import Image
    from scipy.stats import kurtosis, skew
    from skimage.measure import regionprops_table

    def skewness(mask: np.ndarray, grey: np.ndarray) -> float:
        return float(skew(grey[mask].astype(float)))

    def kurtosis_of(mask: np.ndarray, grey: np.ndarray) -> float:
        return float(kurtosis(grey[mask].astype(float)))

    def median(mask: np.ndarray, grey: np.ndarray) -> float:
        return float(np.median(grey[mask]))

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
        grey = np.asarray(vignette.convert("L"))
        extra = (skewness, kurtosis_of, median) if with_moments else ()
        regionprops_table(labels, grey, properties=properties, extra_properties=extra)
    return len(particles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    ours: list[float] = []
    theirs: dict[str, list[float]] = {"14 common properties": [], "our measures where it has them": []}
    particles = 0
    warnings.simplefilter("ignore")  # skewness of a particle of one grey
    for _ in range(args.repeat):
        with tempfile.TemporaryDirectory() as scratch:
            with open_workspace(init_workspace(Path(scratch) / "w")) as workspace:
                started = time.perf_counter()
                found, _ = ingest(workspace, [args.run])
                ours.append(time.perf_counter() - started)
                assert found[0].status == "ingested", found[0].reason
            for (name, times), (properties, moments) in zip(
                theirs.items(), ((COMMON, False), (SAME, True)), strict=True
            ):
                out = Path(scratch) / name
                out.mkdir()
                started = time.perf_counter()
                particles = straightforward(args.run, out, properties, moments)
                times.append(time.perf_counter() - started)
    fast = min(ours)
    print(f"plankter ingest (56 measures): {particles / fast:.0f} particles/s ({fast:.2f} s)")
    for name, times in theirs.items():
        slow = min(times)
        print(f"PIL + regionprops, {name}: {particles / slow:.0f} particles/s ({slow:.2f} s), ratio {slow / fast:.1f}")


if __name__ == "__main__":
    main()
