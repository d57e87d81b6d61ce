"""Makes the int8 variant of a model: its network's weights and activations in 8 bits, everything else as it was.

    python training/quantise.py MODEL_FOLDER --images DIR --out FOLDER [--calibration 1900] [--preset mixed]

DIR holds one folder a class and must be training images, never those that judge. Needs `pip install nncf onnx
onnxruntime` (NNCF: Apache-2.0) in an environment of its own. The first convolution stays in floating point: OpenVINO
2026.4 reads a quantiser behind the conversion of 8-bit pixels wrongly (embeddings at a cosine of 0.3 with the right
ones); what was made is compared with the original in OpenVINO and not written where they differ.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from plankter.classify.models import TRAINABLE_FILE, file_sha256, load_model
from plankter.features.backbones import BATCH, OpenVinoBackbone
from plankter.vignettes.codec import read_image
from plankter.vignettes.letterbox import letterbox, size_inputs
from plankter.workflow.predict import image_files

LOWEST_COSINE = 0.98
Batch = dict[str, np.ndarray]


def calibration_images(folder: Path, count: int, side: int, seed: int = 1) -> list[Batch]:
    """As many images of each class as make up ``count``, letterboxed, in batches."""
    rng = random.Random(seed)
    classes = [image_files(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    each = max(1, count // len(classes))
    files = [file for found in classes for file in rng.sample(found, min(each, len(found)))]
    rng.shuffle(files)
    images = [read_image(path, grey=True) for path in files]
    pixels = np.stack([letterbox(image, side) for image in images])
    sizes = size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images])
    starts = range(0, len(pixels) - BATCH + 1, BATCH)
    return [{"vignettes": pixels[s : s + BATCH], "sizes": sizes[s : s + BATCH]} for s in starts]


def without_casts(network: Any) -> Any:
    """The same network with its float16 weights as float32: NNCF does not look through the casts."""
    from onnx import numpy_helper

    graph = network.graph
    kept = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        tensor = kept.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is None:
            nodes.append(node)
            continue
        graph.initializer.append(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0])
        )
        graph.initializer.remove(tensor)
    del graph.node[:]
    graph.node.extend(nodes)
    return network


def quantised(path: Path, batches: list[Batch], preset: str) -> Any:
    import nncf
    import onnx

    network = onnx.shape_inference.infer_shapes(without_casts(onnx.load(path)))
    first = next(node.name for node in network.graph.node if node.op_type == "Conv")
    return nncf.quantize(
        network, nncf.Dataset(batches), preset=nncf.QuantizationPreset(preset), subset_size=len(batches),
        target_device=nncf.TargetDevice.CPU, ignored_scope=nncf.IgnoredScope(names=[first]),
    )  # fmt: skip


def likeness(one: Path, other: Path, batches: list[Batch]) -> float:
    """Mean cosine between the embeddings of two networks in OpenVINO."""
    cosines = []
    networks = [OpenVinoBackbone(path, precision="f32") for path in (one, other)]
    for batch in batches[:8]:
        a, b = (network.embed(batch["vignettes"], batch["sizes"]) for network in networks)
        cosines.append((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9))
    return float(np.concatenate(cosines).mean())


def main() -> None:
    import onnx

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=1900)
    parser.add_argument(
        "--keep-trainable", action="store_true", help="keep the network as it was, for trainings to start from"
    )
    parser.add_argument("--preset", choices=["mixed", "performance"], default="mixed")
    args = parser.parse_args()
    model = load_model(args.model)
    batches = calibration_images(args.images, args.calibration, model.input_px)
    network = quantised(args.model / "backbone.onnx", batches, args.preset)
    shutil.copytree(args.model, args.out)
    if args.keep_trainable:
        shutil.copy(args.model / "backbone.onnx", args.out / TRAINABLE_FILE)
    onnx.save(network, args.out / "backbone.onnx")
    cosine = likeness(args.model / "backbone.onnx", args.out / "backbone.onnx", batches)
    print(f"cosine with the original {cosine:.4f}, {(args.out / 'backbone.onnx').stat().st_size:,} bytes")
    if cosine < LOWEST_COSINE:
        shutil.rmtree(args.out)
        raise SystemExit(f"the int8 network differs from the original: cosine {cosine:.3f} < {LOWEST_COSINE}")
    path = args.out / "model.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["backbone"] |= {
        "name": f"{facts['backbone']['name']}_int8",
        "sha256": file_sha256(args.out / "backbone.onnx"),
    }
    if args.keep_trainable:
        facts["trainable"] = {"file": TRAINABLE_FILE, "sha256": file_sha256(args.out / TRAINABLE_FILE)}
    facts["card"]["int8"] = (
        f"weights and activations in 8 bits (NNCF, {args.preset}), ranges from {len(batches) * BATCH} training images"
    )
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {load_model(args.out).model_id}")


if __name__ == "__main__":
    main()
