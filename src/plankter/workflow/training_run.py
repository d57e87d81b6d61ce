"""The folder of one training: what was asked, what came of it, and what a killed one goes on from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from plankter.classify.splits import Split
from plankter.classify.training_set import TrainingSet
from plankter.features.backbones import available_cores
from plankter.store.files import write_text
from plankter.store.locks import Lock

CONFIG, EVALUATION, LOG = "config.json", "evaluation.json", "log.txt"
PACKAGES = ("plankter", "numpy", "opencv-python-headless", "openvino", "scikit-learn", "torch", "onnx")


@dataclass(frozen=True)
class TrainingRun:
    """One run folder. ``resumed`` where an earlier process began it."""

    folder: Path
    resumed: bool

    @property
    def model_folder(self) -> Path:
        """Where the finished model is put."""
        return self.folder / "model"

    def log(self, text: str) -> None:
        """Adds a line with the time to ``log.txt``."""
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Writes one of the folder's JSON files, whole or not at all."""
        write_text(self.folder / name, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_split(self, data: TrainingSet, split: Split) -> None:
        """``splits.csv``: image, class, group and part of every image."""
        parts = [""] * len(data)
        for name, rows in split.parts().items():
            for row in rows.tolist():
                parts[row] = name
        groups = data.groups or ("",) * len(data)
        rows_out = [
            (name, data.class_ids[label], group, part)
            for name, label, group, part in zip(data.names, data.labels.tolist(), groups, parts, strict=True)
        ]
        write_text(self.folder / "splits.csv", _csv(("image", "class", "group", "split"), rows_out))

    def write_curves(self, curves: Sequence[Mapping[str, float]]) -> None:
        """``curves.csv``: one row an epoch; a header alone where nothing was trained by epochs."""
        columns = list(curves[0]) if curves else ["epoch", "loss", "top1"]
        rows = [[row.get(name, "") for name in columns] for row in curves]
        write_text(self.folder / "curves.csv", _csv(columns, rows))


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return "\ufeff" + out.getvalue()  # Excel opens it as it is


def environment() -> dict[str, Any]:
    """What a training ran on: versions, processor, cores."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0], "system": platform.system(), "machine": platform.machine(),
        "processor": _processor(), "cores": available_cores(), "packages": found,
    }  # fmt: skip


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor()


def digest_of(config: Mapping[str, Any]) -> str:
    """16 hex digits that are the same for the same settings and images."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def training_run(root: Path, name: str, config: Mapping[str, Any]) -> Iterator[TrainingRun]:
    """A run folder below ``root``: that of a killed training with the same settings and images, else a new one.

    While it is worked in, a lock keeps other processes out of it.
    """
    digest = digest_of(config)
    for path in sorted(root.glob(f"*/{CONFIG}"), reverse=True):
        folder = path.parent
        if (folder / EVALUATION).exists() or _digest_in(path) != digest:
            continue
        with Lock(folder / ".lock").held_if_free() as free:
            if free:
                run = TrainingRun(folder, True)
                run.log("goes on after it was stopped")
                yield run
                return
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._")[:60] or "training"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = root / (f"{stamp}-{plain}" if number == 1 else f"{stamp}-{plain}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        break
    with Lock(folder / ".lock").held():
        run = TrainingRun(folder, False)
        run.write_json(CONFIG, {**config, "digest": digest})
        run.write_json("environment.json", environment())
        yield run


def _digest_in(path: Path) -> str | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts.get("digest") if isinstance(facts, dict) else None
