"""An institute's own image database, small: several shapes of documents, some of them broken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from bson import ObjectId
from gridfs import GridFS

from plankter.vignettes.codec import encode_vignette

WHEN = datetime(2024, 5, 1, 10, tzinfo=UTC)
MAPPING = """
[source]
address = "{address}"
collection = "rois"
name = "institute"
changed = "updated_at"

[run]
by = ["sample.cruise", "sample.station"]
um_per_px = 0.5
instrument = {{ value = "flowcam" }}
particles = 40

[image]
kind = "gridfs"
field = "image_id"

[label]
class = "label.taxon"
annotator = "label.by"
at = "label.at"
names = {{ cop = "Copepoda" }}

[sample]
sample_id = "sample.cruise"
station = "sample.station"
sampled_at = "sample.at"
latitude_deg = "sample.lat"
longitude_deg = "sample.lon"

[sample.environment]
temperature_degC = "ctd.temp"

[measures]
source_area = "area"
"""


def png(number: int) -> bytes:
    rng = np.random.default_rng(number)
    image = np.full((18 + number % 5, 20 + number % 7), 220, np.uint8)
    image[5:12, 6:13] = rng.integers(20, 90, (7, 7))
    return encode_vignette(image)


def document(number: int, image: Any) -> dict[str, Any]:
    """The n-th document; every third is of an older shape without label, every fifth holds dates as text."""
    found: dict[str, Any] = {
        "_id": ObjectId(f"{number:024x}"),
        "image_id": image,
        "sample": {
            "cruise": f"C{number % 2}", "station": f"st{number % 2}", "at": WHEN, "lat": 51.5, "lon": "2,75",
        },
        "ctd": {"temp": 11.5}, "area": 100.0 + number, "updated_at": WHEN + timedelta(seconds=number),
    }  # fmt: skip
    if number % 3:
        found["label"] = {"taxon": "cop" if number % 2 else "detritus", "by": "eva", "at": WHEN}
    if number % 5 == 4:
        found["sample"]["at"] = "2024-05-01T10:00:00Z"
        found["area"] = str(100 + number)
    return found


BROKEN: dict[int, dict[str, Any]] = {
    7: {"image_id": ObjectId("f" * 24)},  # a dead reference
    8: {"image_id": {"an": "object"}},
    10: {"label": {"taxon": ["a", "list"], "by": "eva", "at": WHEN}},
    11: {"label": {"taxon": "cop", "by": "eva", "at": "last tuesday"}},
    13: {"area": "large"},
    14: {"image_id": "damaged"},
}


def fill(database: Any, n: int = 60, *, broken: bool = True) -> None:
    """Writes n documents and their images."""
    files = GridFS(database)
    files.put(png(1)[:40], _id="damaged")
    for number in range(n):
        image = files.put(png(number)) if number % 10 != 9 else None
        database.rois.insert_one({**document(number, image), **(BROKEN.get(number, {}) if broken else {})})


def write_mapping(folder: Path, address: str, extra: str = "", **changes: str) -> Path:
    """A mapping file; ``changes`` replace lines by the key before them."""
    text = MAPPING.format(address=address)
    for key, line in changes.items():
        lines = [line if old.startswith(f"{key} =") else old for old in text.splitlines()]
        text = "\n".join(lines)
    path = folder / "institute.toml"
    path.write_text(text + extra, encoding="utf-8")
    return path
