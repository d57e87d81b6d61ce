"""What stands beside a FlowCam list: context, summary, notes, labels; each may be missing or broken."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plankter._errors import ReadError
from plankter.formats.flowcam_cla import Classification, parse_cla
from plankter.formats.flowcam_columns import ListTable
from plankter.formats.flowcam_csv import parse_export, parse_summary_csv
from plankter.formats.flowcam_ctx import ctx_number, parse_ctx
from plankter.formats.flowcam_summary import parse_run_summary, summary_number, summary_value
from plankter.formats.flowcam_text import decode_text
from plankter.formats.flowcam_time import Started, TimeSources, from_filetime, parse_time, started_at
from plankter.readers.flowcam_folder import RunFolder
from plankter.types import Flag, ImportedLabel, Severity

MAX_NOTES = 100_000
# keys of a VisualSpreadsheet 5 or 6 `_summary.csv`, in the run summary's own words
_SUMMARY_CSV = {
    "Run": (("Fluid Volume Imaged", ("Fluid Volume Imaged", "Sample Volume Imaged")), ("Particle Count", ("Count",))),
    "Date/Time": (("Start", ("Start Time",)), ("End", ("End Time",))),
    "Environment": (("Software", ("Software",)), ("Calibration Factor", ("Calibration Factor",))),
}


@dataclass
class Parts:
    """The files beside a list, parsed; None where one is absent."""

    ctx: dict[str, dict[str, str]] | None = None
    summary: dict[str, list[tuple[str, str]]] | None = None
    notes: str | None = None
    classifications: tuple[Classification, ...] = ()
    flags: list[Flag] = field(default_factory=list)


def read_parts(folder: RunFolder, *, library: bool) -> Parts:
    """Reads what there is; what is missing or broken is flagged and never stops the run."""
    parts = Parts()
    ctx = _text(folder.companion(".ctx"), parts)
    if ctx is not None:
        parts.ctx = parse_ctx(ctx)
    elif not library:
        message = "no context (.ctx): no imaged volume can be computed from the instrument's settings"
        parts.flags.append(Flag("no-context", message))
    summary = _text(folder.companion("_run_summary.txt"), parts)
    if summary is not None:
        parts.summary = parse_run_summary(summary)
    else:
        table = _text(folder.companion("_summary.csv"), parts) if ctx is None else None
        parts.summary = _as_summary(parse_summary_csv(table)) if table is not None else None
        if not library and parts.summary is None:
            message = "no run summary: the imaged volume cannot be compared with what VisualSpreadsheet printed"
            parts.flags.append(Flag("no-summary", message, Severity.NOTE))
    notes = _text(folder.companion("_notes.txt"), parts)
    parts.notes = notes[:MAX_NOTES].strip() or None if notes is not None else None
    _read_cla(folder.companion(".cla"), parts)
    return parts


def _text(path: Path | None, parts: Parts) -> str | None:
    if path is None:
        return None
    try:
        return decode_text(path.read_bytes())
    except OSError as error:
        parts.flags.append(Flag("unreadable-file", f"{path.name} cannot be read: {error.strerror}", file=path.name))
        return None


def _read_cla(path: Path | None, parts: Parts) -> None:
    text = _text(path, parts)
    if path is None or text is None:
        return
    try:
        parts.classifications = parse_cla(text, path=path.name)
    except ReadError as error:
        message = f"the labels are left out: {error.message}"
        parts.flags.append(Flag("labels-unreadable", message, file=path.name, row=error.row))


def _as_summary(values: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    # headers carry units, "Sample Volume Imaged ml" or "Fluid Volume Imaged (ml)"
    def value(keys: tuple[str, ...]) -> str | None:
        return next(
            (text for key in keys for name, text in values.items() if name.lower().startswith(key.lower())), None
        )

    sections = {
        heading: [(key, text) for key, keys in wanted if (text := value(keys))]
        for heading, wanted in _SUMMARY_CSV.items()
    }
    return {heading: entries for heading, entries in sections.items() if entries}


def settings(parts: Parts) -> dict[str, str]:
    """ "Section/Key" -> text: the context, then the run summary under "RunSummary/"; the first of repeated keys."""
    found = {f"{name}/{key}": text for name, entries in (parts.ctx or {}).items() for key, text in entries.items()}
    for heading, entries in (parts.summary or {}).items():
        for key, text in entries:
            found.setdefault(f"RunSummary/{heading}/{key}", text)
    return found


def software(parts: Parts) -> str | None:
    """Name and version as the context says, else the run summary."""
    section = (parts.ctx or {}).get("Software", {})
    name = " ".join(filter(None, (section.get("SoftwareName", ""), section.get("SoftwareVersion", ""))))
    return name or summary_value(parts.summary or {}, "Environment", "Software")


def start_of(table: ListTable, parts: Parts) -> Started:
    """When the run began, from context, run summary and list together."""
    ctx = parts.ctx or {}
    version = ctx.get("Software", {}).get("SoftwareVersion", "").split(".")[0]
    syringe = ctx_number(ctx, "CaptureStats", "UsingSyringePump") == 1
    first, first_utc = None, None
    if "timestamp" in table.columns:
        times = (parse_time(str(text)) for text in table.columns["timestamp"][:100])
        first = next((time for time in times if time), None)
    for high, low in (("high_u32", "low_u32"), ("timestamp1", "timestamp2")):
        if high in table.columns and len(table):
            halves = zip(table.columns[high][:100], table.columns[low][:100], strict=True)
            first_utc = next((time for pair in halves if (time := from_filetime(float(pair[0]), float(pair[1])))), None)
    return started_at(
        TimeSources(
            ctx=parse_time(ctx.get("General", {}).get("RunStartTime")),
            first_particle=first,
            summary=parse_time(summary_value(parts.summary or {}, "Date/Time", "Start")),
            list_utc=first_utc,
            ctx_is_utc=(re.fullmatch(r"[0-9]{1,9}", version) is not None and int(version) >= 4) or syringe,
        )
    )


def labels(table: ListTable, parts: Parts) -> tuple[tuple[ImportedLabel, ...], list[Flag]]:
    """The classes of the `.cla` by particle; ids that the list does not hold, or holds twice, are flagged."""
    times = Counter(table.label)
    at = {label: index for index, label in enumerate(table.label) if times[label] == 1}
    found: list[ImportedLabel] = []
    flags: list[Flag] = []
    for classification in parts.classifications:
        unknown: list[int] = []
        given: Counter[int] = Counter()
        for one in classification.classes:
            for number in one.ids:
                index = at.get(str(number))
                if index is None:
                    unknown.append(number)
                else:
                    given[index] += 1
                    found.append(ImportedLabel(index, one.name, classification.name))
        if unknown:
            message = (
                f"{len(unknown)} labels of {classification.name!r} are left out: their ids are not (or not once) in the "
                f"list, the first is {unknown[0]}"
            )
            flags.append(Flag("labels-unknown-ids", message))
        several = sum(times > 1 for times in given.values())
        if several:
            message = f"{several} particles stand in more than one class of {classification.name!r}"
            flags.append(Flag("labels-several-classes", message, Severity.NOTE))
    return tuple(found), flags


def list_flags(table: ListTable, parts: Parts, *, library: bool) -> list[Flag]:
    """What is odd about the list as a whole."""
    flags = list(table.flags)
    if not len(table):
        flags.append(Flag("empty-run", "the list holds no particles: a valid run with a count of 0", Severity.NOTE))
    repeated = [label for label, times in Counter(table.label).items() if times > 1]
    if repeated:
        message = f"{len(repeated)} ids stand in the list more than once, the first is {repeated[0]!r}; all are kept"
        flags.append(Flag("duplicate-ids", message))
    if not library and any(name and "_images_" in name for name in set(table.collage)):
        message = (
            "saved from VisualSpreadsheet under another name: a filter may have left particles out, so that counts may "
            "be too low for the imaged volume"
        )
        flags.append(Flag("saved-as-export", message))
    counted = summary_number(parts.summary or {}, "Run", "Particle Count")
    if not library and counted is not None and int(counted) != len(table):
        message = f"the run summary counts {int(counted)} particles, the list holds {len(table)}"
        flags.append(Flag("count-disagrees", message))
    return flags


def csv_problems(folder: RunFolder, table: ListTable) -> list[Flag]:
    """Where the CSV exported beside the list says something else; for `plankter doctor`, the list is what counts."""
    path = folder.find(f"{folder.stem}.csv") or folder.find("data_export.csv")
    if path is None or path == folder.identity or folder.other_stems:
        return []
    try:
        export = parse_export(decode_text(path.read_bytes()), path=path.name)
    except (ReadError, OSError) as error:
        return [Flag("csv-unreadable", f"the exported CSV cannot be read: {error}", Severity.NOTE, file=path.name)]
    if export.label != table.label:
        message = f"the exported CSV holds {len(export)} particles, the list {len(table)}, or in another order"
        return [Flag("csv-disagrees", message, Severity.NOTE, file=path.name)]
    name = "abd_diameter"
    if name not in export.columns or name not in table.columns:
        return []
    differ = np.flatnonzero(
        ~np.isclose(export.columns[name], table.columns[name], rtol=1e-3, atol=0.01, equal_nan=True)
    )
    if not len(differ):
        return []
    row = int(export.row[differ[0]])
    message = f"{len(differ)} values of {name} in the exported CSV differ from the list's, the first in row {row}"
    return [Flag("csv-disagrees", message, Severity.NOTE, file=path.name, row=row)]
