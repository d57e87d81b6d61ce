"""Training steps with and without float32 gradients of depthwise convolutions, and with freed memory given back or kept.

    python benchmarks/bench_depthwise.py

Under bfloat16, forward and backward and optimiser step of a whole network on the processor, once as
`plankter.classify.networks.layers` does it and once with torch's own convolution. Both take turns, step by step, so that other
work on the machine meets both; the best step of each counts, and its processor seconds stand beside. The last line: how much of
the processor time of the same steps the kernel took before and after `keep_freed_memory`, which cannot be taken back.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from plankter.classify.finetune_setup import keep_freed_memory
from plankter.classify.networks import build_backbone
from plankter.classify.networks import layers as network_layers
from plankter.classify.networks.layers import Classifier

NETWORKS = ("mobilenet_v2", "efficientnet_lite0")
CLASSES = 95


class _Plain:
    """What stands in for `_DepthwiseBf16`: torch's own convolution, its gradients in bfloat16."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])


@contextmanager
def plain_gradients() -> Iterator[None]:
    """Depthwise convolutions as torch has them."""
    kept = network_layers._DepthwiseBf16
    network_layers._DepthwiseBf16 = _Plain
    try:
        yield
    finally:
        network_layers._DepthwiseBf16 = kept


class Training:
    """One network with its optimiser and one batch of noise."""

    def __init__(self, name: str, px: int, batch: int) -> None:
        torch.manual_seed(0)
        self.model = Classifier(build_backbone(name), CLASSES).to(memory_format=torch.channels_last)
        self.model.train()
        self.optimiser = torch.optim.AdamW(self.model.parameters())
        self.vignettes = torch.randint(0, 255, (batch, px, px), dtype=torch.uint8)
        self.sizes, self.labels = torch.rand(batch, 3), torch.randint(0, CLASSES, (batch,))

    def step(self) -> tuple[float, float]:
        """Wall-clock and processor seconds of one step."""
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(self.vignettes, self.sizes)
        loss = F.cross_entropy(logits.float(), self.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return time.perf_counter() - wall, time.process_time() - cpu


def compare(name: str, px: int, batch: int, steps: int) -> dict[str, object]:
    """Images a second with and without, and their ratio."""
    ours, plain = Training(name, px, batch), Training(name, px, batch)
    found: dict[str, list[tuple[float, float]]] = {"float32_gradients": [], "bfloat16_gradients": []}
    for _ in range(steps + 1):
        found["float32_gradients"].append(ours.step())
        with plain_gradients():
            found["bfloat16_gradients"].append(plain.step())
    best = {key: min(wall for wall, _ in times[1:]) for key, times in found.items()}  # the first step also plans
    cpu = {key: min(seconds for _, seconds in times[1:]) for key, times in found.items()}
    return {
        "network": name, "px": px, "batch": batch,
        **{f"{key}_images_per_s": round(batch / seconds, 1) for key, seconds in best.items()},
        "ratio": round(best["bfloat16_gradients"] / best["float32_gradients"], 2),
        "ratio_of_processor_seconds": round(cpu["bfloat16_gradients"] / cpu["float32_gradients"], 2),
    }  # fmt: skip


def memory(name: str, px: int, batch: int, steps: int) -> dict[str, object]:
    """Images a second and the kernel's share of the processor time, freed memory given back and then kept."""
    training = Training(name, px, batch)
    training.step()
    found: dict[str, object] = {"network": name, "px": px, "batch": batch}
    for how in ("given_back", "kept"):
        if how == "kept":
            keep_freed_memory()
            training.step()
        before = os.times()
        wall = [training.step()[0] for _ in range(steps)]
        after = os.times()
        kernel, user = after.system - before.system, after.user - before.user
        found |= {
            f"{how}_images_per_s": round(batch / statistics.median(wall), 1),
            f"{how}_kernel_share": round(kernel / (kernel + user), 3),
        }
    return found


def main() -> None:
    """Prints one JSON object a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in NETWORKS:
        print(json.dumps(compare(name, asked.px, asked.batch, asked.steps)), flush=True)
    print(json.dumps(memory(NETWORKS[0], asked.px, asked.batch, 2 * asked.steps)), flush=True)


if __name__ == "__main__":
    main()
