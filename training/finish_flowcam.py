"""Makes an exported FlowCam network a finished model: reference, calibration, thresholds, card, figures of the judging half.

    PYTHONPATH=src python training/finish_flowcam.py --model MODEL --images TRAIN... --validation VAL \
        --leave-out vliz_flowcam_dated.csv --mix vliz_class_counts.csv

``MODEL`` is a folder that ``export_flowcam.py`` made; it is sealed anew in place. Temperature, thresholds and the distance of
the unknown come from the fitting half of the validation images (`plankter.classify.splits.judges`), every figure from the
judging half. Re-weighted figures give each class its share of the published test split (column ``test`` of the mix).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from images import validation_names
from other_instruments import judged as frozen

from plankter.classify.calibrate import adjust_mix, fit_calibration, fit_thresholds, softened
from plankter.classify.decide import Thresholds
from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.head import load_head, softmax
from plankter.classify.models import CARD_FILE, load_model, read_model_json, write_model_json
from plankter.classify.novelty import fit_reference
from plankter.classify.resampling import class_intervals, figures_of, weighted_confusion
from plankter.classify.splits import judges
from plankter.publish.model_card import model_card
from plankter.taxa.classes import shipped_class_list
from plankter.workflow.engine import embed_files, load_engine
from plankter.workflow.image_sets import measure_folder

ON = (
    "the judging half of the set's validation images, up to 100 a class; re-weighted: each class with its share of the "
    "published test split; nothing was fitted on them"
)
FAILURES = [
    "classes that are bins of many kinds (Bacillariophyceae, Centric_Diatom, Detritus, Remnant, Artefact) are taken for one another",
    "several particles in one vignette get one class",
    "images of other instruments: make them comparable first (plankter transform) and expect unknowns",
    "the split is random by image: dates of the judging images were seen in training",
]
TARGET = 0.9
QUANTILE = 0.99
POWER = 0.8  # of the published shares: on the fitting half rare classes gained 5 points by it, all images lost 0.2


def files_of(
    folders: list[Path], class_ids: tuple[str, ...], leave_out: set[str], most: int
) -> tuple[list, np.ndarray]:
    """Files and classes, at most ``most`` of a class, chosen evenly by name."""
    files: list[Path] = []
    labels: list[int] = []
    for number, class_id in enumerate(class_ids):
        found = sorted(
            (f for folder in folders if (folder / class_id).is_dir() for f in (folder / class_id).iterdir()
             if f.name not in leave_out),
            key=lambda f: f.name,
        )  # fmt: skip
        found = found[:: max(1, -(-len(found) // most))]
        files += found
        labels += [number] * len(found)
    return files, np.array(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--leave-out", type=Path, required=True)
    parser.add_argument("--mix", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=300, help="training images of a class that make the reference")
    parser.add_argument("--label-smoothing", type=float, default=0.05, help="that the network was trained with")
    parser.add_argument(
        "--other-sets", type=Path, nargs="*", default=[], help="image sets of other instruments, for the card"
    )
    args = parser.parse_args()
    model = load_model(args.model)
    facts = read_model_json(args.model)
    engine = load_engine(model)
    files, labels = files_of(args.images, model.class_ids, validation_names(args.leave_out), args.per_class)
    embeddings, failures = embed_files(engine, files)
    good = np.isfinite(embeddings).all(axis=1)
    counts = facts["training_class_counts"]
    reference = fit_reference(embeddings[good], labels[good], len(model.class_ids))
    mix = np.array([counts[c] for c in model.class_ids], np.float32)
    reference = type(reference)(**{**vars(reference), "mix": mix / mix.sum()})
    val_files, val_labels = files_of([args.validation], model.class_ids, set(), 10**9)
    val_embeddings, val_failures = embed_files(engine, val_files)
    usable = np.isfinite(val_embeddings).all(axis=1)
    judging = np.array([judges(f.name) for f in val_files])
    head = load_head(args.model)
    logits = (head.logits(np.nan_to_num(val_embeddings)) * head.temperature).astype(np.float64)
    if head.temperature != 1.0 or facts.get("calibration"):
        raise SystemExit("this model is finished already; export it again")
    fit, judge = usable & ~judging, usable & judging
    on = "the fitting half of the validation images, up to 50 a class"
    calibration = fit_calibration(logits[fit], val_labels[fit], on=on, smoothing=args.label_smoothing)
    scores = softmax(calibration.apply(logits).astype(np.float32))
    by_class = fit_thresholds(scores[fit], val_labels[fit], model.class_ids, target_precision=TARGET)
    away = reference.distance(val_embeddings[fit])
    thresholds = Thresholds(by_class, distance=round(float(np.quantile(away, QUANTILE)), 3))
    figures = judged(scores[judge], val_labels[judge], model.class_ids, args.mix, mix)
    other_mixes = figures.pop("other_mixes")
    per_class = figures.pop("per_class")
    confused = figures.pop("most_confused")
    figures["unreadable"] = len(failures) + len(val_failures)
    figures["calibration"] = f"temperature {calibration.temperature:.3f}, fitted on {on}"
    card = {
        **model.card, "metrics": {"on": ON, **figures}, "other_class_mixes": other_mixes, "most_confused": confused, "known_failures": FAILURES,
        "image_statistics": measure_folder(args.images[0])[0].to_dict(),
        "other_instruments": [{"set": folder.name, **frozen(folder, engine)} for folder in args.other_sets],
    }  # fmt: skip
    taxa = {taxon.class_id: taxon.aphia_id for taxon in shipped_class_list()}
    intervals = class_intervals(val_labels[judge], scores[judge].argmax(1), len(model.class_ids))
    rows = [
        {"class_id": q.class_id, "aphia_id": taxa[q.class_id], "train": counts[q.class_id], "tune": int(f), "judge": q.support,
         "precision": q.precision, "recall": None if q.recall != q.recall else q.recall, "f1": None if q.f1 != q.f1 else q.f1, **around}
        for q, f, around in zip(per_class, np.bincount(val_labels[fit], minlength=len(model.class_ids)), intervals, strict=True)
    ]  # fmt: skip
    about = {k: v for k, v in model.card.items() if isinstance(v, str | int) and k != "unseen_dates"}
    about["made by"] = "training/train_flowcam.py, training/export_flowcam.py, training/finish_flowcam.py"
    about["calibration"] = figures["calibration"]
    about["thresholds"] = f"precision {TARGET} on {on}; unknown beyond a distance of {thresholds.distance}"
    (args.model / CARD_FILE).write_text(
        model_card(model.name, about, figures, rows, warnings=[*FAILURES, *told(figures, other_mixes, confused, card)]),
        encoding="utf-8",
    )
    reference.save(args.model)
    write_model_json(
        args.model, name=model.name, backbone_name=model.backbone, dim=engine.backbone.dim, input_px=model.input_px,
        class_ids=model.class_ids, class_counts=tuple(int(counts[c]) for c in model.class_ids), temperature=1.0,
        card=card, calibration=calibration, thresholds=thresholds, threshold_target=f"precision {TARGET} on {on}",
    )  # fmt: skip
    print(json.dumps(figures | {"other_mixes": other_mixes}, indent=1))


def read_shares(mix: Path, column: str, class_ids: tuple[str, ...]) -> np.ndarray:
    """Images of each class in a column of the table of counts."""
    with mix.open(newline="", encoding="utf-8-sig") as file:
        table = {row["class"]: float(row[column]) for row in csv.DictReader(file)}
    return np.array([table.get(c, 0.0) for c in class_ids])


def judged(
    scores: np.ndarray, labels: np.ndarray, class_ids: tuple[str, ...], mix: Path, trained_on: np.ndarray
) -> dict:
    """Figures of the judging half under the training mix, and the headline under other expected mixes."""
    test = read_shares(mix, "test", class_ids)
    found = evaluate_predictions(labels, scores, class_ids)
    published = read_shares(mix, "train", class_ids)
    expected = {
        "equal": np.ones(len(class_ids)), "published": published, f"published^{POWER}": softened(published, POWER)
    }  # fmt: skip
    return {
        "images": len(labels),
        "top1_se": round(float(np.sqrt(found.top1 * (1 - found.top1) / len(labels))), 4),
        "top3": round(found.top3, 4),
        "ece": round(found.ece, 4),
        **headline(scores, labels, test),
        "other_mixes": {
            name: headline(adjust_mix(scores, trained_on, shares), labels, test) for name, shares in expected.items()
        },
        "per_class": found.per_class,
        "most_confused": most_confused(found.confusion, class_ids),
    }


def headline(scores: np.ndarray, labels: np.ndarray, test: np.ndarray) -> dict[str, float | int]:
    """As it lies, and re-weighted so that each class has its share of the published test split."""
    classes = len(test)
    predicted = scores.argmax(1)
    right = (predicted == labels).astype(float)
    weight = (test / np.maximum(np.bincount(labels, minlength=classes), 1))[labels]
    weight /= weight.sum()
    top1 = float((weight * right).sum())
    rows = np.isin(labels, np.flatnonzero((test >= 10) & (test <= 50)))
    even = np.full(len(labels), 1 / len(labels))

    def macro_f1(weights: np.ndarray) -> float:
        return round(figures_of(weighted_confusion(labels, predicted, classes, weights))["macro_f1"], 4)

    return {
        "top1": round(float(right.mean()), 4),
        "macro_f1": macro_f1(even),
        "reweighted_top1": round(top1, 4),
        "reweighted_top1_se": round(float(np.sqrt((weight**2 * (right - top1) ** 2).sum())), 4),
        "reweighted_macro_f1": macro_f1(weight),
        "rare_classes_top1": round(float(np.average(right[rows], weights=weight[rows])), 4),
        "rare_classes_images": int(rows.sum()),
    }


def told(figures: dict, other_mixes: dict[str, dict], confused: list[dict], card: dict) -> list[str]:
    """Figures that the table of the card has no row for, in words."""
    elsewhere = (
        f"frozen embeddings with a head for {s['set']}, four folds: {100 * s['top1']:.1f} % (standard error "
        f"{100 * s['se']:.1f}) of {s['images']} images of {s['classes']} classes"
        for s in card["other_instruments"]
    )
    dates = card.get("unseen_dates")
    pairs = "; ".join(f"{c['pair']} ({c['images']})" for c in confused)
    return [
        f"standard error of top-1: {100 * figures['top1_se']:.1f} points",
        f"re-weighted to the published test mix: top-1 {100 * figures['reweighted_top1']:.1f} % (standard error "
        f"{100 * figures['reweighted_top1_se']:.1f}), macro F1 {100 * figures['reweighted_macro_f1']:.1f} %, classes with 10 to "
        f"50 test images {100 * figures['rare_classes_top1']:.1f} % of {figures['rare_classes_images']} images",
        *(
            f"told to expect {name} shares: top-1 {100 * f['top1']:.1f} %, macro F1 {100 * f['macro_f1']:.1f} %; re-weighted "
            f"{100 * f['reweighted_top1']:.1f} and {100 * f['reweighted_macro_f1']:.1f} %, rare classes {100 * f['rare_classes_top1']:.1f} %"
            for name, f in other_mixes.items()
        ),
        f"taken for each other most often (images): {pairs}",
        *elsewhere,
        *([f"dates and years never seen: {dates}"] if dates else []),
    ]


def most_confused(confusion: np.ndarray, class_ids: tuple[str, ...], most: int = 12) -> list[dict]:
    """Pairs of classes, each way counted, that were taken for each other most often."""
    both = np.triu(confusion + confusion.T, 1)
    order = np.argsort(-both, axis=None)[:most]
    return [
        {"pair": f"{class_ids[a]} / {class_ids[b]}", "images": int(both[a, b])}
        for a, b in zip(*np.unravel_index(order, both.shape), strict=True)
    ]


if __name__ == "__main__":
    main()
