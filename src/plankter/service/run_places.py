"""Where and when the runs of a workspace were taken, as pictures: a map with coast and graticule, counts over time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from plankter.service.coastline import land
from plankter.service.words import address, number
from plankter.store.base import RunRecord
from plankter.types import Sample

MAP_WIDTH, MAP_HEIGHT, MAP_LEFT, MAP_BOTTOM = 640.0, 400.0, 68.0, 26.0
LEAST_SPAN_DEG = 0.5
MOST_LINES, MOST_NAMES = 6, 12
GRATICULE_DEG = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
KM_PER_DEG = 111.195  # of latitude, on a sphere of 6371 km
SMALLEST_PX, LARGEST_PX = 5.0, 14.0
TIME_WIDTH, TIME_HEIGHT, TIME_LEFT, TIME_RIGHT, TIME_BOTTOM, TIME_TOP = 640.0, 380.0, 68.0, 28.0, 30.0, 22.0
MOST_DAYS, MOST_MONTHS, MOST_TICKS = 62, 72, 8
MOST_YEARS = 200
WIDEST_PX = 60.0  # of a bar
HALF_LETTER_PX = 8.0


@dataclass(frozen=True)
class Placed:
    """A run with what is known of where and when: position as `place_of` writes it, date as YYYY-MM-DD."""

    record: RunRecord
    sample: Sample | None
    place: str | None
    day: str | None

    def fits(self, sample: str, period: str, place: str) -> bool:
        """Whether it belongs to what was chosen; an empty text is any."""
        return (
            (not sample or self.record.run.sample_id == sample)
            and (not period or (self.day or "").startswith(period))
            and (not place or self.place == place)
        )


def place_of(sample: Sample | None) -> str | None:
    """A position in degrees with four digits, latitude first; None where it is not known."""
    if sample is None or sample.latitude_deg is None or sample.longitude_deg is None:
        return None
    return f"{sample.latitude_deg:.4f},{sample.longitude_deg:.4f}"


def placed(records: Sequence[RunRecord], samples: Mapping[str, Sample]) -> list[Placed]:
    """All runs with position and date: that of the sample, else that of the run."""
    found = []
    for record in records:
        sample = samples.get(record.run.sample_id)
        moment = (sample.sampled_at if sample else None) or record.run.started_at
        day = moment.date().isoformat() if moment else (record.run.started_at_local or "")[:10]
        try:
            day = date.fromisoformat(day).isoformat()
        except ValueError:
            day = ""
        found.append(Placed(record, sample, place_of(sample), day or None))
    return found


def degrees(value: float, signs: str) -> str:
    """Degrees with the letter of the hemisphere: ``signs`` are those above and below 0."""
    text = f"{abs(value):.4f}".rstrip("0").rstrip(".")
    return f"{text}°" if not value else f"{text}° {signs[0] if value > 0 else signs[1]}"


def counted(runs: int, particles: int) -> str:
    """Runs and particles in words."""
    return f"{number(runs)} run{'' if runs == 1 else 's'}, {number(particles)} particles"


def run_map(runs: Sequence[Placed]) -> dict[str, Any] | None:
    """Positions in an equirectangular map, true to scale at its middle latitude; None where no position is known."""
    groups: dict[str, list[Placed]] = defaultdict(list)
    for one in runs:
        if one.place is not None:
            groups[one.place].append(one)
    if not groups:
        return None
    where = {place: (float(place.split(",")[0]), float(place.split(",")[1])) for place in groups}
    longitudes = _unwrapped([longitude for _, longitude in where.values()])
    field = _Field([latitude for latitude, _ in where.values()], longitudes)
    most = max(sum(one.record.particles for one in group) for group in groups.values()) or 1
    points = []
    for (place, group), longitude in zip(groups.items(), longitudes, strict=True):
        latitude = where[place][0]
        particles = sum(one.record.particles for one in group)
        sample = group[0].sample
        name = (sample.station if sample else None) or group[0].record.run.sample_id
        at = f"{degrees(latitude, 'NS')} {degrees(where[place][1], 'EW')}"
        points.append(
            {"x": field.x(longitude), "y": field.y(latitude), "name": name if len(groups) <= MOST_NAMES else "",
             "r": round(SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * math.sqrt(particles / most), 1),
             "address": f"/runs?place={address(place)}", "words": f"{name}, {at}: {counted(len(group), particles)}",
             "left": field.x(longitude) > 0.75 * MAP_WIDTH}
        )  # fmt: skip
    points.sort(key=lambda point: -float(str(point["r"])))  # small ones on top
    return {
        "width": MAP_WIDTH, "height": MAP_HEIGHT, "left": MAP_LEFT, "bottom": MAP_HEIGHT - MAP_BOTTOM, "points": points,
        "meridians": field.meridians(), "parallels": field.parallels(), "scale": field.scale(),
        "land": field.land(), "without": sum(one.place is None for one in runs),
    }  # fmt: skip


def _unwrapped(longitudes: Sequence[float]) -> list[float]:
    """Longitudes in the range, -180..180 or 0..360, in which they lie closest together."""
    east = [longitude % 360 for longitude in longitudes]
    return east if max(east) - min(east) < max(longitudes) - min(longitudes) else list(longitudes)


class _Field:
    """From degrees to px: both axes in the same scale where the map is in the middle."""

    def __init__(self, latitudes: Sequence[float], longitudes: Sequence[float]) -> None:
        self.middle = (min(latitudes) + max(latitudes)) / 2, (min(longitudes) + max(longitudes)) / 2
        self.squeeze = max(math.cos(math.radians(self.middle[0])), 0.05)
        high = max(1.3 * (max(latitudes) - min(latitudes)), LEAST_SPAN_DEG)
        wide = max(1.3 * (max(longitudes) - min(longitudes)), LEAST_SPAN_DEG)
        self.size = MAP_WIDTH - MAP_LEFT, MAP_HEIGHT - MAP_BOTTOM
        self.px_per_deg = min(self.size[1] / high, self.size[0] / (wide * self.squeeze))

    def x(self, longitude: float) -> float:
        """Px from the left."""
        return round(MAP_LEFT + self.size[0] / 2 + (longitude - self.middle[1]) * self.squeeze * self.px_per_deg, 1)

    def y(self, latitude: float) -> float:
        """Px from the top."""
        return round(self.size[1] / 2 - (latitude - self.middle[0]) * self.px_per_deg, 1)

    def land(self) -> str:
        """The land as the path of a picture."""
        half = self.size[0] / self.px_per_deg / self.squeeze / 2, self.size[1] / self.px_per_deg / 2
        latitude, longitude = self.middle
        view = longitude - half[0], latitude - half[1], longitude + half[0], latitude + half[1]
        return land(view, MAP_LEFT, 0.0, self.px_per_deg * self.squeeze, self.px_per_deg)

    def _lines(self, middle: float, half: float) -> list[float]:
        step = next((s for s in GRATICULE_DEG if 2 * half / s <= MOST_LINES), GRATICULE_DEG[-1])
        first, last = math.ceil((middle - half) / step), math.floor((middle + half) / step)
        return [round(step * n, 4) for n in range(first, last + 1)]

    def meridians(self) -> list[dict[str, Any]]:
        """Lines of one longitude with their names."""
        lines = self._lines(self.middle[1], self.size[0] / self.px_per_deg / self.squeeze / 2)
        return [{"x": self.x(v), "text": degrees((v + 180) % 360 - 180, "EW")} for v in lines]

    def parallels(self) -> list[dict[str, Any]]:
        """Lines of one latitude with their names."""
        lines = self._lines(self.middle[0], self.size[1] / self.px_per_deg / 2)
        places = [(self.y(v), degrees(v, "NS")) for v in lines if -90 <= v <= 90]
        # a name at the very edge would be cut off
        return [{"y": y, "text": text if HALF_LETTER_PX <= y <= self.size[1] else ""} for y, text in places]

    def scale(self) -> dict[str, Any]:
        """A round length in km that takes up to a fifth of the width at the middle latitude, and how many px it is."""
        most = self.size[0] / 5 / self.px_per_deg * KM_PER_DEG
        power = 10.0 ** math.floor(math.log10(most))
        length = next(k * power for k in (5, 2, 1) if k * power <= most)
        return {"px": round(length / KM_PER_DEG * self.px_per_deg, 1), "text": f"{length:g} km"}


def timeline(runs: Sequence[Placed]) -> dict[str, Any] | None:
    """Particles by day, month or year, whichever gives a readable number of bars; None where no date is known."""
    days = [one.day for one in runs if one.day]
    if not days:
        return None
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    periods = _periods(first, last)
    size = len(periods[0])
    sums: dict[str, list[int]] = {period: [0, 0] for period in periods}
    for one in runs:
        if one.day and one.day[:size] in sums:
            sums[one.day[:size]][0] += 1
            sums[one.day[:size]][1] += one.record.particles
    top = max(particles for _, particles in sums.values()) or 1
    step = (TIME_WIDTH - TIME_LEFT - TIME_RIGHT) / len(periods)
    high = TIME_HEIGHT - TIME_BOTTOM - TIME_TOP
    bars = []
    for n, (period, (count, particles)) in enumerate(sums.items()):
        if count:
            tall, wide = round(max(3.0, high * particles / top), 1), max(2.0, min(0.8 * step, WIDEST_PX))
            bars.append(
                {"x": round(TIME_LEFT + step * (n + 0.5) - wide / 2, 1), "width": round(wide, 1),
                 "y": round(TIME_TOP + high - tall, 1), "height": tall, "address": f"/runs?period={period}",
                 "words": f"{period}: {counted(count, particles)}"}
            )  # fmt: skip
    every = -(-len(periods) // MOST_TICKS)
    return {
        "width": TIME_WIDTH, "height": TIME_HEIGHT, "left": TIME_LEFT, "right": TIME_WIDTH - TIME_RIGHT, "top": TIME_TOP, "bottom": TIME_TOP + high,
        "bars": bars, "most": number(top), "by": {4: "year", 7: "month", 10: "day"}[size],
        "ticks": [{"x": round(TIME_LEFT + step * (n + 0.5), 1), "text": p} for n, p in enumerate(periods) if n % every == 0],
        "without": len(runs) - len(days),
    }  # fmt: skip


def _periods(first: date, last: date) -> list[str]:
    """All days, months or years from the first to the last, as they begin a date."""
    if (last - first).days < MOST_DAYS:
        return [date.fromordinal(n).isoformat() for n in range(first.toordinal(), last.toordinal() + 1)]
    months = range(12 * first.year + first.month - 1, 12 * last.year + last.month)
    if len(months) <= MOST_MONTHS:
        return [f"{n // 12:04d}-{n % 12 + 1:02d}" for n in months]
    return [f"{year:04d}" for year in range(max(first.year, last.year - MOST_YEARS + 1), last.year + 1)]
