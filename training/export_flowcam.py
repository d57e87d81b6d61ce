"""Makes the shipped model of a checkpoint of ``train_flowcam.py``: ONNX with float16 weights, head, model.json, card.

    PYTHONPATH=src:training python training/export_flowcam.py --checkpoint checkpoint.pt --out src/plankter/classify/builtin/flowcam

``--card facts.json`` adds facts (data, metrics, limits, ...) to model.json and CARD.md. ``--images DIR`` (one folder
a class) only compares the exported network with torch; nothing is fitted on these images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from plankter.classify.export_onnx import export_backbone
from plankter.classify.head import load_head, save_head
from plankter.classify.models import write_model_json
from plankter.classify.networks import build_backbone
from plankter.classify.networks.layers import Classifier
from plankter.features.backbones import OpenVinoBackbone
from plankter.vignettes.letterbox import letterbox, size_inputs

NETWORK_NAMES = {"mobilenet_v2": "MobileNetV2 1.0", "efficientnet_lite0": "EfficientNet-Lite0"}


def load_checkpoint(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The averaged network of a checkpoint, ready to be exported, and the checkpoint itself."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    model = Classifier(build_backbone(state.get("network", "mobilenet_v2")), len(state["classes"]))
    model.load_state_dict(state["average"])
    model.train(False)
    return model, state


def compare(
    model: Classifier, folder: Path, images: Path, classes: list[str], px: int, precision: str
) -> dict[str, Any]:
    """How far the exported model is from torch on real images, and how often each names the folder's class."""
    files = [(f, c) for c, name in enumerate(classes) for f in sorted((images / name).glob("*"))[:15]]
    pixels = [cv2.imread(str(f), cv2.IMREAD_GRAYSCALE) for f, _ in files]
    vignettes = np.stack([letterbox(p, px) for p in pixels])
    sizes = size_inputs([p.shape[1] for p in pixels], [p.shape[0] for p in pixels])
    true = np.array([c for _, c in files])
    with torch.no_grad():
        parts = zip(torch.from_numpy(vignettes).split(256), torch.from_numpy(sizes).split(256), strict=True)
        wanted = torch.cat([model.backbone(v, s) for v, s in parts])
        expected = torch.softmax(model.head(wanted), 1).numpy()
    backbone, head = OpenVinoBackbone(folder / "backbone.onnx", precision=precision), load_head(folder)
    embeddings = backbone.embed(vignettes, sizes)
    scores = head.scores(embeddings)
    return {
        "precision": backbone.precision,
        "images": len(files),
        "max_abs_embedding": float(np.abs(embeddings - wanted.numpy()).max()),
        "max_abs_score": float(np.abs(scores - expected).max()),
        "same_top1": float(np.mean(scores.argmax(1) == expected.argmax(1))),
        "top1_torch": float(np.mean(expected.argmax(1) == true)),
        "top1_exported": float(np.mean(scores.argmax(1) == true)),
    }


def card_text(name: str, facts: dict[str, Any], classes: list[str], counts: list[int]) -> str:
    """CARD.md: the facts for people, then every class with its training images."""
    lines = [f"# {name}", ""]
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"## {key}", "", *(f"- {k}: {v}" for k, v in value.items()), ""]
        elif isinstance(value, list):
            items = [", ".join(f"{k} {x}" for k, x in v.items()) if isinstance(v, dict) else v for v in value]
            lines += [f"## {key}", "", *(f"- {item}" for item in items), ""]
        else:
            lines += [f"**{key}**: {value}", ""]
    lines += ["## classes", "", "| class | training images |", "|---|---:|"]
    lines += [f"| {c} | {n} |" for c, n in zip(classes, counts, strict=True)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the model's folder; its name is the model's name")
    parser.add_argument("--px", type=int, help="side of the network's input; default: as last trained")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--card", type=Path, help="JSON object of facts for the card")
    parser.add_argument("--images", type=Path, help="one folder a class: compare with torch")
    args = parser.parse_args()
    model, state = load_checkpoint(args.checkpoint)
    px, classes = args.px or int(state["px"]), list(state["classes"])
    counts = [int(n) for n in state["class_counts"]]
    network = state.get("network", "mobilenet_v2")
    card: dict[str, Any] = {
        "network": f"{NETWORK_NAMES[network]} on grey vignettes, with log width and log height as further inputs",
        "start": "ImageNet weights (Apache-2.0)",
        "data": "FlowCam vignettes of the Belgian North Sea, LifeWatch / VLIZ, doi 10.5281/zenodo.10554845, CC BY 4.0",
        "training_images": sum(counts),
        "license": "Apache-2.0",
        "training": [{k: round(v, 4) for k, v in epoch.items()} for epoch in state["history"]],
        "metrics": {
            "on": "the set's validation images, up to 100 a class; nothing was fitted on them",
            "top1": round(state["history"][-1]["top1"], 4),
            "macro_f1": round(state["history"][-1]["macro_f1"], 4),
        },
    }
    if args.card and args.card.is_file():
        card |= json.loads(args.card.read_text(encoding="utf-8"))
    args.out.mkdir(parents=True, exist_ok=True)
    export_backbone(model.backbone, px, args.out / "backbone.onnx")
    save_head(args.out / "head.npz", model.head.weight.detach().numpy().T, model.head.bias.detach().numpy())
    (args.out / "CARD.md").write_text(card_text(args.out.name, card, classes, counts), encoding="utf-8")
    write_model_json(
        args.out, name=args.out.name, backbone_name=f"{network}_grey_size", dim=model.backbone.dim, input_px=px,
        class_ids=tuple(classes), class_counts=tuple(counts), temperature=args.temperature, card=card,
    )  # fmt: skip
    size_mb = sum(p.stat().st_size for p in args.out.iterdir()) / 1e6
    print(json.dumps({"out": str(args.out), "epochs": int(state["done"]), "px": px, "size_mb": round(size_mb, 2)}))
    if args.images:
        for precision in ("f32", "bf16"):
            print(json.dumps(compare(model, args.out, args.images, classes, px, precision)))


if __name__ == "__main__":
    main()
