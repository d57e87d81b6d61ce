"""How far a model's frozen embeddings carry to images of other instruments: a head on each set, in folds.

    PYTHONPATH=src python training/other_instruments.py --model MODEL --sets flowcam_pygsuia ecotaxa_ml_4class

A set is a folder with one folder a class. The head is the shrinkage discriminant at its default shrinkage; four folds dealt by a hash
of the file name, every image judged once by a head that has not seen it. Prints one JSON object a set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from plankter.classify.lda import fit_lda, gather
from plankter.classify.models import load_model
from plankter.workflow.engine import Engine, embed_files, load_engine
from plankter.workflow.predict import image_files

FOLDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sets", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    engine = load_engine(load_model(args.model))
    for folder in args.sets:
        print(json.dumps({"set": folder.name, **judged(folder, engine)}))


def judged(folder: Path, engine: Engine) -> dict[str, float | int]:
    """Accuracy over all images and its mean over the classes."""
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    files = [(path, number) for number, name in enumerate(classes) for path in image_files(folder / name)]
    embeddings, failures = embed_files(engine, [path for path, _ in files])
    labels = np.array([number for _, number in files], np.int64)
    good = np.isfinite(embeddings).all(axis=1)
    embeddings, labels = embeddings[good].astype(np.float64), labels[good]
    names = [path.name for (path, _), kept in zip(files, good, strict=True) if kept]
    rank = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names]).argsort()
    right = np.zeros(len(labels), bool)
    for fold in range(FOLDS):
        held = rank % FOLDS == fold
        fitted = fit_lda(gather(embeddings[~held], labels[~held], classes))
        right[held] = (embeddings[held] @ fitted.weight + fitted.bias).argmax(1) == labels[held]
    by_class = [right[labels == number].mean() for number in range(len(classes))]
    return {
        "images": len(labels), "unreadable": len(failures), "classes": len(classes), "folds": FOLDS,
        "top1": round(float(right.mean()), 4), "se": round(float(np.sqrt(right.mean() * (1 - right.mean()) / len(right))), 4),
        "mean_over_classes": round(float(np.mean(by_class)), 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
