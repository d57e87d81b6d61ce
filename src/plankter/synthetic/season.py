"""Several made-up runs of one monitoring season: the community changes, the folders are nested."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from plankter._errors import PlankterError
from plankter.synthetic.drawings import KINDS
from plankter.synthetic.flowcam import SyntheticRun, simulate_flowcam_run

SEASON_START = datetime(2024, 3, 12, 9, 0, tzinfo=UTC)
# Day of the year when a kind is most abundant, and for how many days around it; the others are there all year
BLOOMS = {
    "skeletonema_chain": (80, 25),
    "chaetoceros_chain": (105, 30),
    "centric_valve": (95, 45),
    "centric_girdle": (95, 45),
    "pennate": (120, 50),
    "rhizosolenia_rod": (150, 35),
    "protoperidinium": (185, 40),
    "ciliate": (170, 60),
    "tintinnid": (200, 45),
    "tripos": (225, 35),
    "pollen": (130, 20),
}
STATIONS = (("S1", 51.433, 2.808), ("S2", 51.271, 2.905), ("S3", 51.185, 2.700))
SAMPLE_COLUMNS = (
    "run", "sample_id", "station", "sampled_at", "latitude_deg", "longitude_deg", "depth_min_m", "depth_max_m",
    "volume_filtered_l", "concentrated_volume_ml", "net_mesh_um", "temperature_degC",
)  # fmt: skip


def kind_shares_on(day_of_year: int) -> dict[str, float]:
    """Relative abundance of every drawn kind on a day of the year: its own share times its bloom."""
    shares = {}
    for name, kind in KINDS.items():
        peak, spread = BLOOMS.get(name, (0, 0))
        bloom = 0.08 + 3 * math.exp(-(((day_of_year - peak) / spread) ** 2) / 2) if spread else 1.0
        shares[name] = kind.share * bloom
    return shares


def simulate_season(
    to: Path,
    *,
    runs: int = 6,
    particles: int = 200,
    seed: int = 1,
    real_share: float = 0.3,
    um_per_px: float = 1.3792,
    first: datetime = SEASON_START,
    days_between: int = 21,
) -> tuple[SyntheticRun, ...]:
    """Writes several runs, ``to/YEAR/MONTH/NAME``, and their sample table ``to/samples.csv``.

    Drawn kinds bloom one after the other from spring to autumn; particle numbers vary around ``particles``; the
    stations take turns. The same arguments give the same bytes.

    Args:
        to: folder that will hold all.
        runs: how many, at least 1.
        particles: median number a run.
        seed: of the random numbers.
        real_share, um_per_px: as in `simulate_flowcam_run`.
        first: time of the first sample, with a time zone; the runs are made two hours after sampling.
        days_between: days from one sample to the next.

    Raises:
        ValueError: an argument outside its range.
        PlankterError: a folder holds a run already, or cannot be written.
    """
    if runs < 1 or particles < 1 or days_between < 0:
        raise ValueError(
            f"expected at least one run of one particle, got {runs} of {particles}, {days_between} days apart"
        )
    rng = np.random.default_rng(seed)
    made, samples = [], []
    for number in range(runs):
        sampled_at = first.astimezone(UTC) + timedelta(days=days_between * number)
        station, latitude, longitude = STATIONS[number % len(STATIONS)]
        day = sampled_at.timetuple().tm_yday
        name = f"{station}_{sampled_at:%Y%m%d}_{number + 1:02d}"
        run = simulate_flowcam_run(
            to / f"{sampled_at:%Y}" / f"{sampled_at:%m}",
            name=name,
            particles=max(1, round(particles * math.exp(rng.normal(0, 0.25)))),
            seed=seed + 1000 * (number + 1),
            real_share=real_share,
            um_per_px=um_per_px,
            started_at=sampled_at + timedelta(hours=2),
            kind_shares=kind_shares_on(day),
        )
        made.append(run)
        temperature = 11 - 6 * math.cos(2 * math.pi * (day - 45) / 365) + rng.normal(0, 0.4)
        samples.append(
            (name, f"{station}_{sampled_at:%Y-%m-%d}", station, f"{sampled_at:%Y-%m-%dT%H:%M:%SZ}", latitude, longitude,
             0, 3, 50, 100, 55, round(temperature, 2))
        )  # fmt: skip
    _write_samples(to / "samples.csv", samples)
    return tuple(made)


def _write_samples(path: Path, samples: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(SAMPLE_COLUMNS)
    table.writerows(samples)
    try:
        path.write_text(text.getvalue(), encoding="utf-8-sig", newline="")
    except OSError as error:
        raise PlankterError(f"cannot be written: {error.strerror}", path=path) from error
