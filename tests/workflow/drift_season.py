"""A small season for the tests on drift: a model that knows spring, runs of spring, of summer, and of another lens."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from plankter.classify.models import BACKBONE_FILE, HEAD_FILE, built_in_models, read_model_json, write_model_json
from plankter.classify.novelty import Reference
from plankter.classify.predictor import load_predictor
from plankter.synthetic import simulate_flowcam_run
from plankter.synthetic.season import kind_shares_on
from plankter.workflow.classify import classify
from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import find_model, init_workspace, open_workspace

SPRING, SUMMER = 100, 215  # days of the year


def model_of_spring(folder: Path, *, particles: int = 800) -> Path:
    """The shipped network and head with a reference of drawn spring particles; returns the model's folder."""
    run = simulate_flowcam_run(
        folder / "training", name="training", particles=particles, seed=77, real_share=0, um_per_px=1.3792,
        kind_shares=_spring_and_a_little_of_all(),
    )  # fmt: skip
    base = find_model("flowcam")
    with open_workspace(init_workspace(folder / "training-workspace")) as workspace:
        ingest(workspace, [run.folder])
        classify(workspace)
        (record,) = workspace.catalogue.runs()
        embeddings = workspace.archive.open(record.run.run_id).embeddings(base.backbone_hash).astype(np.float32)
    labels = load_predictor(base).scores(embeddings).argmax(axis=1)
    to = folder / "model"
    to.mkdir()
    for name in (BACKBONE_FILE, HEAD_FILE):
        shutil.copy(built_in_models()["flowcam"] / name, to / name)
    _reference(embeddings, labels, len(base.class_ids)).save(to)
    facts = read_model_json(base.folder)
    write_model_json(
        to, name="spring", backbone_name="test", dim=embeddings.shape[1], input_px=base.input_px,
        class_ids=base.class_ids, class_counts=tuple(np.bincount(labels, minlength=len(base.class_ids)).tolist()),
        temperature=float(facts["temperature"]), card={"metrics": {"top1": 0.9}},
    )  # fmt: skip
    return to


def _reference(embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> Reference:
    """All of the embeddings; distances go over their first eight numbers, which is enough to order pictures."""
    centres = np.full((classes, 8), np.nan, np.float32)
    for c in np.unique(labels):
        centres[c] = embeddings[labels == c, :8].mean(axis=0)
    components = np.eye(embeddings.shape[1], 8, dtype=np.float32)
    mix = (np.bincount(labels, minlength=classes) / len(labels)).astype(np.float32)
    return Reference(
        embeddings.astype(np.float16), labels.astype(np.int16), mix, np.zeros(embeddings.shape[1], np.float32),
        components, np.ones(8, np.float32), centres,
    )  # fmt: skip


def _spring_and_a_little_of_all() -> dict[str, float]:
    spring, summer = kind_shares_on(SPRING), kind_shares_on(SUMMER)
    return {kind: spring[kind] + 0.1 * summer[kind] for kind in spring}


def other_lens(folder: Path) -> None:
    """Turns the pages of a run bright on dark, as in dark-field light."""
    for page in folder.glob("*_[0-9]*.tif"):
        image = cv2.imread(str(page), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(page), 255 - image)


def season(folder: Path, *, particles: int = 200) -> Path:
    """A workspace with five runs, all of them classified by the model of spring: two of spring, two of summer, and one
    of spring with another lens; returns its folder."""
    model = model_of_spring(folder)
    days = {"spring_1": SPRING, "spring_2": SPRING, "summer_1": SUMMER, "summer_2": SUMMER, "lens": SPRING}
    for number, (name, day) in enumerate(days.items()):
        run = simulate_flowcam_run(
            folder / "runs", name=name, particles=particles, seed=200 + number, real_share=0, um_per_px=1.3792,
            started_at=datetime(2024, 4 + number, 9, 9, tzinfo=UTC), kind_shares=_spring_and_a_little_of_all()
            if day == SPRING else kind_shares_on(day),
        )  # fmt: skip
        if name == "lens":
            other_lens(run.folder)
    with open_workspace(init_workspace(folder / "workspace")) as workspace:
        ingest(workspace, [folder / "runs"])
        classify(workspace, model=str(model))
    return folder / "workspace"
