"""When a FlowCam run began, in UTC: none of its files says which zone its times are in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from plankter.types import Flag, Severity

QUARTER = timedelta(minutes=15)
FARTHEST = timedelta(hours=14)
# real zones are off by whole or half hours, and these
ODD_ZONES = {timedelta(hours=5, minutes=45), timedelta(hours=8, minutes=45), timedelta(hours=12, minutes=45)}
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_SHAPES = ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")


@dataclass(frozen=True)
class TimeSources:
    """What the files say. All but ``list_utc`` are without a zone; ``ctx_is_utc`` where the version is known to write
    UTC into the `.ctx` (VisualSpreadsheet 4 and later, or a syringe pump)."""

    ctx: datetime | None = None
    first_particle: datetime | None = None
    summary: datetime | None = None
    list_utc: datetime | None = None
    ctx_is_utc: bool = False


@dataclass(frozen=True)
class Started:
    """``at`` in UTC, or None with ``local`` as written."""

    at: datetime | None
    local: str | None
    flags: tuple[Flag, ...] = ()


def parse_time(text: str | None) -> datetime | None:
    """A time as VisualSpreadsheet writes it, without zone; None where it is none."""
    cleaned = " ".join((text or "").split())
    for shape in _SHAPES:
        try:
            return datetime.strptime(cleaned, shape)
        except ValueError:
            continue
    return None


def from_filetime(high: float, low: float) -> datetime | None:
    """A Windows FILETIME in two halves, 100 ns since 1601 in UTC; None where it is no plausible time."""
    if not (0 <= high < 2**32 and 0 <= low < 2**32):
        return None
    ticks = (int(high) << 32) | int(low)
    try:
        at = _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
    return at if 1990 <= at.year < 2100 else None


def zone_offset(local: datetime, other: datetime) -> timedelta | None:
    """How far ``local`` is ahead of ``other``, rounded to a quarter of an hour; None where that is no zone."""
    offset = round((local - other) / QUARTER) * QUARTER
    real = abs(offset) <= FARTHEST and (offset % timedelta(minutes=30) == timedelta(0) or abs(offset) in ODD_ZONES)
    return offset if real else None


def started_at(sources: TimeSources) -> Started:
    """The start in UTC where two of the sources show which of them is local, else None and the time as written.

    Rules (measured on runs of VisualSpreadsheet 1.5 to 4.19): the run summary is local; the `.ctx` is UTC from
    VisualSpreadsheet 4 on, local before; times of list version 013 are UTC; those of 017 may be either.
    """
    ctx, summary = sources.ctx, sources.summary
    if sources.list_utc is not None:
        return _by_filetime(sources, sources.list_utc)
    if ctx and summary:
        offset = zone_offset(summary, ctx)
        if offset is None:
            message = (
                f"the context says the run began at {ctx}, the run summary at {summary}: no time zone explains that"
            )
            return _unknown(sources, (Flag("time-sources-disagree", message),))
        if offset or sources.ctx_is_utc:
            return Started(ctx.replace(tzinfo=UTC), None)
        return _unknown(sources)
    first = sources.first_particle
    if summary and first:
        offset = zone_offset(summary, first)
        if offset:
            return Started((summary - offset).replace(tzinfo=UTC), None)
    if ctx and first and sources.ctx_is_utc and zone_offset(first, ctx):
        return Started(ctx.replace(tzinfo=UTC), None)
    return _unknown(sources)


def _by_filetime(sources: TimeSources, first_utc: datetime) -> Started:
    local = sources.summary or sources.ctx
    offset = zone_offset(local.replace(tzinfo=UTC), first_utc) if local else None
    if local is None or offset is None:
        message = "the start of the run is not recorded; its first particle was seen at this time in UTC"
        text = first_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Started(None, text, (Flag("start-time-unknown", f"{message}: {text}", Severity.NOTE),))
    return Started((local - offset).replace(tzinfo=UTC), None)


def _unknown(sources: TimeSources, flags: tuple[Flag, ...] = ()) -> Started:
    known = sources.summary or sources.ctx or sources.first_particle
    if known is None:
        message = "no file of the run says when it began"
        return Started(None, None, (*flags, Flag("start-time-unknown", message)))
    message = f"time zone unknown: by its own clock the run began at {known}, and no second source tells the zone"
    precision = "milliseconds" if known.microsecond else "seconds"
    return Started(None, known.isoformat(sep=" ", timespec=precision), (*flags, Flag("time-zone-unknown", message)))
