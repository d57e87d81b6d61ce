"""Files to predictions: ours beside `planktonclas`, on the same files and the same cores, in one run.

    python benchmarks/bench_peer.py IMAGES --peer PEERS_PYTHON [--model flowcam] [--files 2000] [--repeat 5]

IMAGES is a folder of images at any depth; every n-th in the order of their paths is taken. The peer (0.2.4) needs an
environment of its own: `python -m venv peer && peer/bin/pip install planktonclas==0.2.4`. Its part is
`peer_predict.py`. Without --peer only our side is measured.

Ours: `plankter.workflow.predict.predict`, from a folder to a CSV file with five classes an image. Bare network: the
same ONNX file in OpenVINO on vignettes that lie decoded and letterboxed in memory. The peer's imports and the building
of its network are not timed; ours is given with and without the network's loading. Timings of ours are interleaved.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from plankter.vignettes.codec import read_image
from plankter.vignettes.letterbox import letterbox, size_inputs
from plankter.workflow.engine import load_backbone
from plankter.workflow.predict import image_files, predict
from plankter.workflow.workspace import find_model

Timing = tuple[float, float]  # wall-clock and CPU seconds


def chosen_files(images: Path, count: int) -> list[Path]:
    """Every n-th image below a folder, so that all its classes take part; the same ones every time."""
    files = image_files(images)
    return files[:: max(1, len(files) // count)][:count]


def timed(step: Callable[[], Any]) -> Timing:
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_ours(folder: Path, model_name: str, repeat: int, precision: str) -> tuple[dict[str, list[Timing]], str]:
    """Interleaved timings of the bare network, of its loading, and of predict from folder to CSV."""
    model = find_model(model_name)
    images = [read_image(path, grey=True) for path in image_files(folder)]
    pixels = np.stack([letterbox(image, model.input_px) for image in images])
    sizes = size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images])
    backbone = load_backbone(model, precision=precision)
    backbone.embed(pixels, sizes)
    found: dict[str, list[Timing]] = {"bare": [], "load": [], "predict": []}
    out = folder.parent / "predictions.csv"
    for _ in range(repeat):
        found["bare"].append(timed(lambda: backbone.embed(pixels, sizes)))
        found["load"].append(timed(lambda: load_backbone(model, precision=precision)))
        found["predict"].append(timed(lambda: predict(folder, out, model=model_name, precision=precision)))
    return found, backbone.precision


def measure_peer(files: list[Path], python: Path, scratch: Path) -> dict[str, Any]:
    """What `peer_predict.py` printed."""
    listed = scratch / "files.txt"
    listed.write_text("\n".join(map(str, files)) + "\n", encoding="utf-8")
    script = Path(__file__).with_name("peer_predict.py")
    done = subprocess.run([python, script, listed], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--peer", type=Path, help="the Python that planktonclas is installed for")
    parser.add_argument("--model", default="flowcam")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        for number, path in enumerate(chosen_files(args.images, args.files)):
            shutil.copyfile(path, folder / f"{number:06d}{path.suffix}")
        files = image_files(folder)
        found, precision = measure_ours(folder, args.model, (args.repeat + 1) // 2, args.precision)
        peer = measure_peer(files, args.peer, Path(scratch)) if args.peer else None
        later, _ = measure_ours(folder, args.model, args.repeat // 2, args.precision)
    report(len(files), {name: found[name] + later[name] for name in found}, precision, peer)


def report(n: int, found: dict[str, list[Timing]], precision: str, peer: dict[str, Any] | None) -> None:
    load = min(wall for wall, _ in found["load"])
    walls = {name: sorted(wall for wall, _ in found[name]) for name in found}
    print(f"{n} files, network in {precision}; images/s: best, median, per CPU second")
    for name, less in (("bare", 0.0), ("predict", 0.0), ("predict, network loaded", load)):
        timings = found[name.partition(",")[0]]
        middle = statistics.median(wall for wall, _ in timings)
        cpu = min(cpu for _, cpu in timings) - (min(c for _, c in found["load"]) if less else 0)
        best = walls[name.partition(",")[0]][0]
        print(f"  {name:<26}{n / (best - less):9.0f}{n / (middle - less):9.0f}{n / cpu:9.0f}")
    print(f"  share of the bare network, network loaded: {100 * walls['bare'][0] / (walls['predict'][0] - load):.0f} %")
    if peer is None:
        return
    print(f"  {'planktonclas predict':<26}{peer['images_per_s']:9.1f}{'':9}{peer['files'] / peer['cpu_seconds']:9.1f}")
    print(f"  ({peer['network']} at {peer['px']} px, {peer['parameters']:,} parameters, built by {peer['built_by']})")
    middle = statistics.median(walls["predict"])
    for name, seconds in (("best", walls["predict"][0]), ("median", middle)):
        with_load, without = (peer["seconds"] / s for s in (seconds, seconds - load))
        print(f"  {name} beside the peer: {without:.0f} times, {with_load:.0f} with the network's loading")
    cpu = min(c for _, c in found["predict"]) - min(c for _, c in found["load"])
    print(f"  per CPU second: {peer['cpu_seconds'] / cpu:.0f} times (where the machine is busy, read this)")


if __name__ == "__main__":
    main()
