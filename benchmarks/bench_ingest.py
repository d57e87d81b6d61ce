"""Ingest beside a straightforward loop, in one run on one machine.

    pip install scikit-image && python benchmarks/bench_ingest.py ../shared/data/flowcam/416_Station40_09012015_10x

The loop: PIL opens each collage, crops each box, saves a PNG, and `regionprops_table` measures the mask's objects.
Ours: everything `plankter ingest` does (hashes, vignettes, masks, morphology, archive, catalogue), twice: after
start-up, that is after a small simulated run has gone into the same workspace, so that modules are loaded and the
worker processes are there; and as the first ingest of a workspace, which starts its workers meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.workflow.ingest import WORTH_WORKERS, ingest
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


def ours(run: Path, folder: Path, warm_up: Path | None) -> tuple[float, int]:
    """Seconds of one ingest into a new workspace, and how many worker processes took part."""
    with open_workspace(init_workspace(folder)) as workspace:
        if warm_up is not None:
            found, _ = ingest(workspace, [warm_up])
            assert found[0].status == "ingested", found[0].reason
        started = time.perf_counter()
        found, _ = ingest(workspace, [run])
        seconds = time.perf_counter() - started
        assert found[0].status == "ingested", found[0].reason
        return seconds, len(workspace.workers.process_ids())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--common-only", action="store_true", help="leave out the loop that takes all our measures")
    args = parser.parse_args()
    warm: list[float] = []
    first: list[float] = []
    theirs = {"14 common properties": (COMMON, False), "our measures where it has them": (SAME, True)}
    if args.common_only:
        theirs.popitem()
    times: dict[str, list[float]] = {name: [] for name in theirs}
    particles = workers = 0
    warnings.simplefilter("ignore")  # skewness of a particle of one grey
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "small"
        simulate_flowcam_run(small, name="small", particles=WORTH_WORKERS, seed=1)
        for number in range(args.repeat):
            first.append(ours(args.run, Path(scratch) / f"first{number}", None)[0])
            seconds, workers = ours(args.run, Path(scratch) / f"warm{number}", small)
            warm.append(seconds)
            for name, (properties, moments) in theirs.items():
                out = Path(scratch) / f"{name} {number}"
                out.mkdir()
                started = time.perf_counter()
                particles = straightforward(args.run, out, properties, moments)
                times[name].append(time.perf_counter() - started)
    print(f"{args.repeat} repetitions, {workers} worker processes beside the parent; best (median)")
    for name, seconds_of in (("after start-up", warm), ("as the first ingest of a workspace", first)):
        best, median = min(seconds_of), statistics.median(seconds_of)
        rates = f"{particles / best:.0f} ({particles / median:.0f}) particles/s"
        print(f"plankter ingest, 56 measures, {name}: {rates}, {best:.2f} ({median:.2f}) s")
    for name, seconds_of in times.items():
        best, median = min(seconds_of), statistics.median(seconds_of)
        ratio = f"ratio to the ingest after start-up {best / min(warm):.1f} ({median / statistics.median(warm):.1f})"
        print(f"PIL + regionprops, {name}: {particles / best:.0f} particles/s, {best:.2f} ({median:.2f}) s, {ratio}")


if __name__ == "__main__":
    main()
