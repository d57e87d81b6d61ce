"""Size against accuracy: several networks and heads fitted on the same split and set beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from plankter._errors import PlankterError, SettingsError
from plankter.classify.models import load_model
from plankter.publish.comparison import comparison_csv, comparison_svg
from plankter.store.files import safe_name, write_text
from plankter.workflow.engine import load_engine
from plankter.workflow.footprint import images_per_second, memory_mb, parameters_of
from plankter.workflow.progress import Progress, silent
from plankter.workflow.train import Prepared, collect, train
from plankter.workflow.training_config import TrainConfig
from plankter.workflow.training_run import digest_of
from plankter.workflow.workspace import Workspace

SHOWN = 512  # images that the speed is measured on
METRICS = ("top1", "macro_f1", "balanced_accuracy", "log_loss", "images")


def candidates_of(config: TrainConfig) -> dict[str, TrainConfig]:
    """Name -> settings of every candidate: heads over the model's network, classical ones, then networks to train."""
    base = Path(config.model).name
    found = {
        f"{base}+lda": replace(config, mode="head", head="lda"),
        f"{base}+logistic": replace(config, mode="head", head="logistic"),
        f"{base}+forest": replace(config, mode="classical", classifier="forest", features="embeddings"),
        f"{base}+measures+forest": replace(config, mode="classical", classifier="forest", features="both"),
        "measures+forest": replace(config, mode="classical", classifier="forest", features="measures"),
    }
    for network in _networks():
        found[network] = replace(config, mode="finetune", network=network, start=None)
        if config.start is not None and network == config.network:
            found[f"{network}+{config.start.stem}"] = replace(config, mode="finetune", network=network)
    return found


def _networks() -> Iterable[str]:
    try:
        return tuple(import_module("plankter.classify.networks").NETWORKS)
    except ImportError:
        return ()


def chosen_candidates(config: TrainConfig, asked: str | None) -> dict[str, TrainConfig]:
    """Those that were asked for by name; without names those that need no network trained; "all" takes every one.

    Raises:
        SettingsError: a name that is no candidate.
    """
    known = candidates_of(config)
    if asked is None:
        return {name: one for name, one in known.items() if one.mode != "finetune"}
    names = list(known) if asked == "all" else [name.strip() for name in asked.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise SettingsError(f"no candidate {', '.join(map(repr, unknown))}; there are: {', '.join(known)}, or all")
    return {name: known[name] for name in names}


def compare(
    config: TrainConfig,
    *,
    folder: Path | None = None,
    workspace: Workspace | None = None,
    table: Path | None = None,
    out: Path | None = None,
    candidates: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fits candidates on the same split and measures accuracy, size, speed and memory of each.

    What is finished is kept, so that a comparison that was stopped goes on. A candidate that fails stops no other.

    Args:
        config: what all have in common: images, seed, balance, network size.
        folder, workspace, table, out: as for `train`.
        candidates: names, separated by commas; None takes the quick ones, "all" every one.
        progress: told of every step.

    Returns:
        The object that ``plankter train --compare --json`` prints.
    """
    chosen = chosen_candidates(config, candidates)
    prepared = collect(config, folder=folder, workspace=workspace, table=table, context=None, progress=progress)
    root = out or (workspace.folder if workspace else Path()) / "trainings"
    common = {"images": prepared.images.data.digest, "seed": config.seed, "groups": str(table or "")}
    place = root / f"compare-{digest_of(common)[:8]}"
    place.mkdir(parents=True, exist_ok=True)
    failures: dict[int, str] = {}
    shown = [data for _, data in prepared.images.read(range(min(SHOWN, len(prepared.images.data))), failures)]
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    for number, (name, one) in enumerate(chosen.items()):
        progress("candidates", number, len(chosen))
        row = _row(
            name, one, prepared, place, folder=folder, workspace=workspace, table=table, shown=shown, progress=progress
        )
        warnings += [text for text in row.pop("warnings", []) if text not in warnings]
        rows.append(row)
    progress("candidates", len(chosen), len(chosen))
    rows.sort(key=lambda row: -(row.get("macro_f1") or -1.0))
    files = {"csv": place / "comparison.csv", "picture": place / "comparison.svg"}
    write_text(files["csv"], comparison_csv(rows))
    write_text(files["picture"], comparison_svg(rows))
    result = {
        "rows": rows, "images": len(prepared.images.data), "classes": len(prepared.images.data.class_ids),
        "warnings": warnings, "problems": prepared.images.problems.listed(), "folder": str(place),
        **{key: str(path) for key, path in files.items()},
    }  # fmt: skip
    write_text(place / "comparison.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _row(
    name: str,
    config: TrainConfig,
    prepared: Prepared,
    place: Path,
    *,
    folder: Path | None,
    workspace: Workspace | None,
    table: Path | None,
    shown: list[bytes],
    progress: Progress,
) -> dict[str, Any]:
    kept = place / f"{safe_name(name + digest_of({'config': config}))}.json"
    try:
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    try:
        # models of a comparison stay out of the workspace's list: whoever chooses one registers or trains it
        named = replace(config, name=name)
        done = train(
            named,
            folder=folder,
            workspace=workspace,
            table=table,
            out=place,
            cache=place,
            progress=progress,
            keep=False,
        )
        model = load_model(Path(done["model"]))
        engine = load_engine(model, workspace)
        size = sum(path.stat().st_size for path in model.folder.iterdir())
        row: dict[str, Any] = {
            "name": name, "mode": config.mode, **{key: done["evaluation"].get(key) for key in METRICS},
            "parameters": parameters_of(model.folder), "size_mb": round(size / 1e6, 2),
            "images_per_s": round(images_per_second(engine, shown), 1), "memory_mb": _rounded(memory_mb(model.folder)),
            "train_s": done["seconds"], "model": done["model"], "failure": None, "warnings": done["warnings"],
        }  # fmt: skip
    except PlankterError as error:
        return {"name": name, "mode": config.mode, "failure": str(error)}
    write_text(kept, json.dumps(row))
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
