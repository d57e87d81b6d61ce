"""What a finished network says of the training images: soft targets for a network that learns from it.

    python training/teach.py --checkpoint CHECKPOINT --cache OUT/cache/train.npz --out TARGETS

Means of the scores over two views (as it lies and turned by half), written as a float16 array (images, classes) in the
order of the cache that ``training/train_flowcam.py`` made. Made once, so that learning from a teacher costs no time at
every step (Shen et al. 2021, "A fast knowledge distillation framework", keep labels the same way).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from plankter.classify.networks import build_backbone
from plankter.classify.networks.layers import Classifier
from plankter.vignettes.letterbox import size_inputs

BATCH = 256
FLIPS = ((), (1, 2))


def load_teacher(checkpoint: Path) -> tuple[Classifier, int]:
    """The averaged network of a checkpoint of ``train_flowcam.py`` and the side of its vignettes in px."""
    state = torch.load(checkpoint, weights_only=True)
    model = Classifier(build_backbone(state["network"]), len(state["classes"]))
    model.load_state_dict(state["average"])
    return model.to(memory_format=torch.channels_last).eval(), int(state["px"])


@torch.inference_mode()
def mean_scores(model: Classifier, data: dict[str, np.ndarray], px: int, flips: tuple = FLIPS) -> np.ndarray:
    """Shares (images, classes) in float16, each row the mean over the views of one vignette."""
    bf16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    out: list[np.ndarray] = []
    started = time.time()
    for start in range(0, len(data["labels"]), BATCH):
        rows = slice(start, start + BATCH)
        small = torch.from_numpy(
            np.stack([cv2.resize(p, (px, px), interpolation=cv2.INTER_AREA) for p in data["pixels"][rows]])
        )
        sizes = torch.from_numpy(size_inputs(data["sizes"][rows, 0], data["sizes"][rows, 1]))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            views = [torch.softmax(model(small.flip(flip) if flip else small, sizes).float(), 1) for flip in flips]
        out.append(torch.stack(views).mean(0).numpy().astype(np.float16))
        if start // BATCH % 50 == 0:
            print(f"{start + BATCH} images, {(start + BATCH) / (time.time() - started):.0f}/s", flush=True)
    return np.concatenate(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="npy")
    args = parser.parse_args()
    model, px = load_teacher(args.checkpoint)
    with np.load(args.cache) as kept:
        data = {k: kept[k] for k in kept.files}
    targets = mean_scores(model, data, px)
    np.save(args.out, targets)
    agrees = float(np.mean(targets.argmax(1) == data["labels"]))
    print(f"{len(targets)} images; the teacher agrees with {agrees:.1%} of the labels")


if __name__ == "__main__":
    main()
