"""Classify from the archive beside the bare network, in one run on one machine.

    python benchmarks/bench_classify.py RUN_FOLDER

Bare network: the same backbone on vignettes that lie decoded and letterboxed in memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import letterbox, size_inputs
from plankter.workflow.classify import classify
from plankter.workflow.engine import load_backbone
from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import find_model, init_workspace, open_workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, open_workspace(init_workspace(Path(scratch) / "w")) as workspace:
        ingest(workspace, [args.run])
        (record,) = workspace.catalogue.runs()
        model = find_model("flowcam")
        archived = workspace.archive.open(record.run.run_id)
        indices, _, _ = archived.vignette_index()
        images = [decode_image(data, grey=True) for _, data in archived.read_vignettes(indices)]
        pixels = np.stack([letterbox(image, model.input_px) for image in images])
        sizes = size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images])
        backbone = load_backbone(model, threads=workspace.threads)
        backbone.embed(pixels[:256], sizes[:256])
        whole, bare, start = [], [], []
        for _ in range(args.repeat):
            started = time.perf_counter()
            backbone.embed(pixels, sizes)
            bare.append(time.perf_counter() - started)
            started = time.perf_counter()
            load_backbone(model, threads=workspace.threads)
            start.append(time.perf_counter() - started)
            started = time.perf_counter()
            classify(workspace)
            whole.append(time.perf_counter() - started)
        n = len(images)
        print(f"bare network ({backbone.precision})      {n / min(bare):9.0f} vignettes/s")
        net = min(whole) - min(start)
        print(f"classify from the archive {n / net:9.0f} vignettes/s, archive and catalogue written")
        print(f"  with the network's load {n / min(whole):9.0f} vignettes/s ({min(start):.2f} s of loading)")
        print(f"share of the bare network {100 * min(bare) / net:9.0f} %")


if __name__ == "__main__":
    main()
