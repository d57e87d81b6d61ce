"""A model from labelled images: split, fitted, calibrated, judged, sealed, and kept where predictions find it."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import Conflict, ReadError, SettingsError
from plankter.classify.context import encode_columns
from plankter.classify.models import BACKBONE_FILE, TRAINABLE_FILE, built_in_models, read_model_json
from plankter.classify.networks import installed_weights
from plankter.classify.splits import Split, given_split, make_split
from plankter.classify.training_set import TrainingSet
from plankter.types import Model
from plankter.vignettes.augment import augmentation_of
from plankter.workflow.context import asked_columns, judged_context
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.mlflow_registry import log_training
from plankter.workflow.progress import Progress, silent
from plankter.workflow.training_config import TrainConfig
from plankter.workflow.training_data import TrainingImages, read_folder, read_labels
from plankter.workflow.training_estimate import estimate_seconds
from plankter.workflow.training_fit import (
    Context,
    Fitted,
    finetune_unit,
    fit_classical,
    fit_head,
    fit_network,
    pixels_of,
    with_context_verdict,
)
from plankter.workflow.training_inputs import embed, measure_all, usable
from plankter.workflow.training_run import TrainingRun, training_run
from plankter.workflow.training_seal import Judged, judge, seal
from plankter.workflow.workspace import Workspace, find_model, keep_model

log = logging.getLogger(__name__)
SCRATCH = "scratch"
LARGEST_BATCH = 128
PATIENCE, FEWEST_TO_STOP = 5, 200
SMALL_CLASS = 10


@dataclass(frozen=True)
class Prepared:
    """Images ready to be split: what `collect` found, with the base model."""

    images: TrainingImages
    base: Model
    engine: Engine
    context: Context | None


def collect(
    config: TrainConfig,
    *,
    folder: Path | None,
    workspace: Workspace | None,
    table: Path | None,
    context: Path | None,
    progress: Progress,
) -> Prepared:
    """Reads the labelled images and loads the model whose backbone is used.

    Raises:
        SettingsError: neither a folder nor a workspace, or options that do not go together.
        ReadError, NotFound: nothing to train on.
    """
    base = find_model(config.model, workspace)
    if folder is not None:
        taxa = workspace.catalogue.taxa() if workspace else None
        images = read_folder(folder, table=table, context=context, taxa=taxa, progress=progress)
    elif workspace is None:
        hint = "name a folder with --images DIR, or a workspace with -w DIR"
        raise SettingsError("no images: this folder is no workspace", hint=hint)
    elif table is not None:
        raise SettingsError("--groups goes with --images; a workspace knows samples and runs itself")
    else:
        columns = asked_columns(str(context)) if context is not None else ()
        images = read_labels(workspace, imported=config.imported, context=columns, progress=progress)
    if context is not None and config.mode == "classical":
        raise SettingsError("context joins linear heads and networks; --mode classical takes none")
    return Prepared(images, base, load_engine(base, workspace), _encoded(images, context))


def _encoded(images: TrainingImages, path: Path | None) -> Context | None:
    if path is None or images.context is None:
        return None
    try:
        columns, values = encode_columns([dict(row) for row in images.context])
    except ValueError as error:
        raise SettingsError(str(error), path=path) from error
    if not columns:
        raise SettingsError("no column of context beside 'file'", path=path)
    return columns, values


def split_of(prepared: Prepared, keep: npt.NDArray[np.int64], seed: int) -> Split:
    """The split of the usable images, as rows of all images.

    Raises:
        ReadError: too few images of a class, or a split in the user's table that cannot be.
    """
    images = prepared.images
    data = images.data.take(keep)
    if gone := [class_id for class_id, n in zip(data.class_ids, data.counts.tolist(), strict=True) if not n]:
        hint = (
            "take its folder out, or mend its images"
            if len(gone) == 1
            else "take their folders out, or mend their images"
        )
        raise ReadError(f"no image can be read of {', '.join(gone[:5])}{', …' if len(gone) > 5 else ''}", hint=hint)
    try:
        if images.parts is not None:
            split = given_split(data, [images.parts[row] for row in keep.tolist()], images.grouped_by)
        else:
            split = make_split(data, seed, grouped_by=images.grouped_by or "group")
    except ValueError as error:
        raise ReadError(f"the images cannot be split: {error}") from error
    return replace(split, train=keep[split.train], tune=keep[split.tune], judge=keep[split.judge])


def train(
    config: TrainConfig,
    *,
    folder: Path | None = None,
    workspace: Workspace | None = None,
    table: Path | None = None,
    context: Path | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    keep: bool = True,
    estimate_only: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Trains a model; a training that was killed goes on when it is asked for again.

    Args:
        config: how.
        folder: holds one folder a class; None takes the labels of the workspace.
        workspace: keeps the model and the run folder; None outside one.
        table: CSV of groups (and perhaps the split) beside ``folder``.
        context: CSV of context beside ``folder``; for a workspace, columns of its samples with commas between.
        out: where the run folder is made; None: ``trainings`` of the workspace, or of the current folder.
        cache: folder that keeps embeddings and measures for other trainings; None keeps them in the run folder.
        keep: whether the workspace lists the model.
        estimate_only: say how long it would take, and stop.
        progress: told of every step.

    Returns:
        The object that ``plankter train --json`` prints.

    Raises:
        PlankterError: nothing to train on, an unknown model or option, a missing library.
    """
    started = time.monotonic()
    unit = finetune_unit() if config.mode == "finetune" else None
    name = free_name(config.name, folder, config.mode, workspace)
    prepared = collect(
        config, folder=folder, workspace=workspace, table=table, context=context, progress=progress
    )  # fmt: skip
    seconds = estimate_seconds(config, prepared.engine, prepared.images, unit)
    log.info("%d images, about %.0f s", len(prepared.images.data), seconds)
    facts = {"mode": config.mode, "images": len(prepared.images.data), "classes": len(prepared.images.data.class_ids)}
    if estimate_only:
        return {**facts, "estimate_s": round(seconds, 1), "problems": prepared.images.problems.listed()}
    progress(f"about {_words(seconds)} for {facts['images']:,} images of {facts['classes']} classes", 0, 1)
    root = out or (workspace.folder if workspace else Path()) / "trainings"
    asked = {
        "config": {**asdict(config), "start": str(config.start or "")}, "base_model": prepared.base.model_id,
        "images": prepared.images.data.digest, "context": list(prepared.context[0]) if prepared.context else [],
        "source": prepared.images.source, "groups": table.name if table else None,
    }  # fmt: skip
    with training_run(root, name, asked) as run:
        run.log(f"{name}: {config.mode}, {facts['images']} images of {facts['classes']} classes, about {seconds:.0f} s")
        found = _fit(prepared, config, run, unit, cache or run.folder, progress)
        result = _finish(prepared, config, name, run, found, workspace if keep else None)
        result |= {"estimate_s": round(seconds, 1), "seconds": round(time.monotonic() - started, 3)}
        run.write_json("evaluation.json", result)
        run.log(f"done in {result['seconds']:.1f} s")
    log_training(run.folder, name=name)
    return result


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def free_name(asked: str | None, folder: Path | None, mode: str, workspace: Workspace | None) -> str:
    """The name that was asked for, else one of the folder and the mode that no model has yet.

    Raises:
        SettingsError: empty, or with a slash. Conflict: there is a model of that name.
    """
    taken = {
        *built_in_models(),
        *(str(f["name"]) for f in (workspace.catalogue.models() if workspace else {}).values()),
    }
    if asked is not None:
        if not asked.strip() or any(sign in asked for sign in "/\\\0\n"):
            raise SettingsError(f"a model's name must not be empty or hold a slash, got {asked!r}")
        if asked in taken:
            raise Conflict(f"there is a model {asked!r} already", hint="choose another --name")
        return asked
    base = f"{folder.resolve().name if folder else 'workspace'}-{mode}"
    return next(
        name for number in range(1, 10_000) if (name := base if number == 1 else f"{base}-{number}") not in taken
    )


def pace_for(images: int, epochs: int, tuning: int) -> dict[str, Any]:
    """Batch, weight average and patience of a training: few images get small batches, so that an epoch has some sixteen
    steps at least, and an average over the last steps; few tuning images may not stop it, they tell too little."""
    batch = max(16, min(LARGEST_BATCH, images // 16))
    steps = max(1, images // batch) * epochs
    return {
        "batch": batch,
        "average_decay": round(max(0.9, min(0.9985, 1 - 10 / steps)), 5),
        "patience": PATIENCE if tuning >= FEWEST_TO_STOP else 0,
    }


def starting_weights(config: TrainConfig, base: Model) -> Path | None:
    """Where a network's training starts: the file that was named, else the base model's backbone where it is of the same
    network (where that is in 8 bits, what it was made from), else ImageNet weights that a package brought (`installed_weights`); None (chance) for ``--start scratch`` and
    where there is none of these."""
    if config.start is not None:
        return None if str(config.start) == SCRATCH else config.start
    if base.backbone.startswith(config.network):
        if not base.backbone.endswith("_int8"):
            return base.folder / BACKBONE_FILE
        own = read_model_json(base.folder)["backbone"]["sha256"]
        # a head on a built-in network has no copy of what the network was made from
        for folder in (base.folder, *built_in_models().values()):
            if (folder / TRAINABLE_FILE).is_file() and read_model_json(folder)["backbone"]["sha256"] == own:
                return folder / TRAINABLE_FILE
    return installed_weights(config.network)


def _judge_context(
    prepared: Prepared, config: TrainConfig, embeddings: npt.NDArray[np.float32], split: Split
) -> tuple[dict[str, Any], str]:
    """Refuses context that hurts on groups never seen, on the images that train and tune only."""
    if prepared.context is None:
        return {}, ""
    data, rows = prepared.images.data, np.sort(np.concatenate([split.train, split.tune]))
    seen = data.take(rows)
    names, values = prepared.context
    verdict, words = judged_context(
        embeddings[rows], seen.labels, data.class_ids, (names, values[rows]), seen.groups,
        seed=config.seed, force=config.force_context,
    )  # fmt: skip
    return (asdict(verdict) if verdict else {}), words


def _fit(
    prepared: Prepared, config: TrainConfig, run: TrainingRun, unit: Any, kept_in: Path, progress: Progress
) -> tuple[Fitted, Split]:
    images, engine = prepared.images, prepared.engine
    if config.mode == "finetune":
        pixels = pixels_of(images, config.px, progress)
        split = split_of(prepared, usable(images, pixels[2]), config.seed)
        settings = unit.FinetuneConfig(
            network=config.network, start=starting_weights(config, prepared.base), px=config.px, epochs=config.epochs, balance=config.balance,
            seed=config.seed, augmentation=augmentation_of(config.augmentation), **pace_for(len(split.train), config.epochs, len(split.tune)),
        )  # fmt: skip
        judged: tuple[dict[str, Any], str] = ({}, "")
        if prepared.context is not None:
            embeddings, _ = embed(engine, images, kept_in, progress)
            judged = _judge_context(prepared, config, embeddings, split)
        found = fit_network(
            images, split, pixels, config=settings, unit=unit, context=prepared.context, folder=run.folder,
            progress=progress, threads=engine.threads,
        )  # fmt: skip
        return with_context_verdict(found, *judged), split
    embeddings, failures = embed(engine, images, kept_in, progress)
    split = split_of(prepared, usable(images, failures), config.seed)
    run.write_split(images.data, split)
    judged = _judge_context(prepared, config, embeddings, split)
    progress("fitting", 0, 1)
    if config.mode == "head":
        fitted = fit_head(
            prepared.base, embeddings, images, split, head=config.head, balance=config.balance, seed=config.seed,
            context=prepared.context, progress=progress,
        )  # fmt: skip
        fitted = with_context_verdict(fitted, *judged)
    else:
        measures = measure_all(images, kept_in, progress) if config.features != "embeddings" else None
        fitted = fit_classical(
            prepared.base, embeddings, measures, images, split, classifier=config.classifier,
            use_embeddings=config.features != "measures", balance=config.balance, seed=config.seed,
            threads=engine.threads,
        )  # fmt: skip
    progress("fitting", 1, 1)
    return fitted, split


def _finish(
    prepared: Prepared,
    config: TrainConfig,
    name: str,
    run: TrainingRun,
    found: tuple[Fitted, Split],
    workspace: Workspace | None,
) -> dict[str, Any]:
    fitted, split = found
    images = prepared.images
    run.write_split(images.data, split)
    run.write_curves(fitted.curves)
    judged: Judged = judge(fitted, images.data, split)
    spoken = [str(fitted.facts["context"])] if fitted.facts.get("context") else []
    warnings = [*images.warnings, *split.warnings, *_small(images.data, split), *judged.warnings, *spoken]
    model = seal(
        run, name, fitted, images, split, judged,
        mode=config.mode, base=prepared.base, seed=config.seed, warnings=warnings,
    )  # fmt: skip
    if workspace is not None:
        keep_model(workspace, model)
    for text in warnings:
        run.log(f"warning: {text}")
    return {
        "model_id": model.model_id,
        "name": name,
        "mode": config.mode,
        "classes": len(images.data.class_ids),
        "images": len(split.train) + len(split.tune) + len(split.judge),
        "seconds": 0.0,
        "evaluation": judged.metrics,
        "per_class": judged.per_class,
        "confusion": judged.confusion,
        "setting": fitted.setting,
        "balance": {"method": fitted.balance[0], "reason": fitted.balance[1]},
        "split": {
            "train": len(split.train),
            "tune": len(split.tune),
            "judge": len(split.judge),
            "grouped_by": split.grouped_by,
        },
        "aphia_ids": images.aphia_ids,
        "warnings": warnings,
        "problems": images.problems.listed(),
        "folder": str(run.folder),
        "model": str(run.model_folder),
        "resumed": run.resumed,
        "facts": {key: value for key, value in fitted.facts.items() if _plain(value)},
    }


def _plain(value: object) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))


def _small(data: TrainingSet, split: Split) -> list[str]:
    counts = np.bincount(data.labels[split.train], minlength=len(data.class_ids))
    small = [f"{data.class_ids[c]} ({counts[c]})" for c in np.flatnonzero(counts < SMALL_CLASS)]
    if not small:
        return []
    more = f" and {len(small) - 8} more" if len(small) > 8 else ""
    return [f"fewer than {SMALL_CLASS} images to learn from: {', '.join(small[:8])}{more}"]
