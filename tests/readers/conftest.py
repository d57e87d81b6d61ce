"""A small run of known pixels, and real runs out of their archives."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from plankter.formats.flowcam_cla import write_cla
from plankter.formats.flowcam_ctx import write_ctx
from plankter.formats.flowcam_lst import write_lst
from plankter.formats.flowcam_summary import write_run_summary
from plankter.readers.base import RunSource

WIDTH, HEIGHT, PER_COLLAGE = 200, 120, 5


def collage_pixels(number: int) -> np.ndarray:
    """Noise, so that no two crops are alike."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_run(folder: Path, *, name: str = "RUN", collages: int = 3, **changed: list[Any]) -> Path:
    """Five particles a collage at x = 30 * k, y = 10, of 20 x 25 px; each mask holds the upper 10 rows of its box."""
    folder.mkdir(parents=True, exist_ok=True)
    n = collages * PER_COLLAGE
    columns: dict[str, list[Any]] = {
        "id": list(range(1, n + 1)),
        "image_x": [30 * (i % PER_COLLAGE) for i in range(n)],
        "image_y": [10] * n,
        "image_w": [20] * n,
        "image_h": [25] * n,
        "cal_const": [0.5] * n,
        "fringe_size": [4.5] * n,
        "raw_area": [200.0] * n,
        "timestamp": [f"2024-06-01T12:00:{i % 60:02d}.500" for i in range(n)],
        "collage_file": [f"{name}_{1 + i // PER_COLLAGE:06d}.tif" for i in range(n)],
        "image_id": [f"00000000-0000-4000-8000-{i:012X}" for i in range(n)],
    }
    (folder / f"{name}.lst").write_text(write_lst({**columns, **changed}, n), newline="")
    for number in range(1, collages + 1):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for k in range(PER_COLLAGE):
            mask[10:20, 30 * k : 30 * k + 20] = 255
        cv2.imwrite(str(folder / f"{name}_{number:06d}.tif"), collage_pixels(number))
        cv2.imwrite(str(folder / f"{name}_{number:06d}_bin.tif"), mask)
    cv2.imwrite(str(folder / "cal_image_000001.tif"), np.full((HEIGHT, WIDTH), 200, np.uint8))
    ctx = {
        "Software": {"SoftwareName": "VisualSpreadsheet", "SoftwareVersion": "4.19.3"},
        "General": {"RunStartTime": "2024-06-01 10:00:00"},
        "Fluid": {"FlowCellDepth": "100", "CalibrationConstant": "0.5000", "FringeSize": "4.5000"},
        "CaptureRegion": {"AcceptableLeft": "0", "AcceptableRight": "999", "AcceptableTop": "0", "AcceptableBottom": "999"},
        "CaptureStats": {"RawImageTotal": "4000", "VolumeCF": "1.0000"},
    }  # fmt: skip
    (folder / f"{name}.ctx").write_text(write_ctx(ctx), newline="")
    summary = {
        "Run": [("Fluid Volume Imaged", "0.1000 ml"), ("Particle Count", str(n))],
        "Date/Time": [("Start", "2024-06-01 12:00:00")],
    }
    (folder / f"{name}_run_summary.txt").write_text(write_run_summary(summary), newline="")
    (folder / f"{name}.cla").write_text(write_cla({"mine": {"diatom": [1, 3], "other": [n]}}), newline="")
    return folder / f"{name}.lst"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunSource]:
    """Writes a run below tmp_path; the keyword arguments of `write_run`."""

    def make(folder: str = "station", **how: Any) -> RunSource:
        path = write_run(tmp_path / folder, **how)
        return RunSource("flowcam", path, str(path))

    return make


@pytest.fixture
def pixels_of() -> Callable[[int], np.ndarray]:
    return collage_pixels


@pytest.fixture(scope="session")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of 2008 and the libraries, out of their archives."""
    folder = tmp_path_factory.mktemp("flowcam")
    for name in ("S04.2008-03-10.300F4X3", "libraries"):
        with tarfile.open(shared_data / "flowcam" / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return folder
