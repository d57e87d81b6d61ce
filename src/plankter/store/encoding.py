"""The nouns as JSON objects and back; what every store writes down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from plankter.types import Annotation, Flag, Run, Sample, Severity, Source, StandingLabel, Taxon, Verdict

_SAMPLE_NUMBERS = (
    "latitude_deg", "longitude_deg", "depth_min_m", "depth_max_m", "volume_filtered_l", "concentrated_volume_ml",
    "net_mesh_um", "dilution_factor",
)  # fmt: skip
_RUN_PLAIN = (
    "run_id", "sample_id", "instrument", "name", "source", "um_per_px", "volume_imaged_ml", "started_at_local",
    "software", "notes",
)  # fmt: skip
_FLAG = ("code", "message", "file", "row")
_TAXON = ("class_id", "name", "aphia_id", "qualifier", "kind", "parent", "merged_into")
_ANNOTATION = ("run_id", "index", "class_id", "annotator", "on_model_id", "on_class_id")

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


def json_text(value: Any) -> str:
    """JSON with its keys in order: the same value is always the same text."""
    return _ENCODER.encode(value)


@lru_cache(256)
def time_text(at: datetime | None) -> str | None:
    """ISO 8601 in UTC to the microsecond."""
    return None if at is None else at.astimezone(UTC).isoformat()


def time_of(text: str | None) -> datetime | None:
    """What `time_text` wrote."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def sample_object(sample: Sample) -> dict[str, Any]:
    """A sample as a JSON object."""
    plain = {name: getattr(sample, name) for name in ("sample_id", "station", *_SAMPLE_NUMBERS)}
    return {**plain, "sampled_at": time_text(sample.sampled_at), "environment": dict(sample.environment)}


def sample_of(found: Mapping[str, Any]) -> Sample:
    """What `sample_object` made."""
    plain = {name: found.get(name) for name in ("station", *_SAMPLE_NUMBERS)}
    return Sample(
        found["sample_id"], **plain, sampled_at=time_of(found.get("sampled_at")), environment=found["environment"]
    )


def run_object(run: Run) -> dict[str, Any]:
    """A run as a JSON object."""
    flags = [{**{name: getattr(f, name) for name in _FLAG}, "severity": f.severity.value} for f in run.flags]
    return {
        **{name: getattr(run, name) for name in _RUN_PLAIN},
        "started_at": time_text(run.started_at),
        "settings": dict(run.settings),
        "files": dict(run.files),
        "flags": flags,
    }


def run_of(found: Mapping[str, Any], sample_id: str | None = None) -> Run:
    """What `run_object` made, attached to another sample where ``sample_id`` is given."""
    plain: dict[str, Any] = {name: found.get(name) for name in _RUN_PLAIN}
    flags = tuple(
        Flag(flag["code"], flag["message"], Severity(flag["severity"]), flag["file"], flag["row"])
        for flag in found["flags"]
    )
    plain["sample_id"] = sample_id or found["sample_id"]
    rest: dict[str, Any] = {"settings": found["settings"], "files": found["files"], "flags": flags}
    return Run(**plain, started_at=time_of(found["started_at"]), **rest)


def taxon_object(taxon: Taxon) -> dict[str, Any]:
    """An entry of the class list as a JSON object."""
    return {name: getattr(taxon, name) for name in _TAXON}


def annotation_object(fact: Annotation) -> dict[str, Any]:
    """A fact as a JSON object."""
    plain = {name: getattr(fact, name) for name in _ANNOTATION}
    return {**plain, "verdict": fact.verdict.value, "source": fact.source.value, "at": time_text(fact.at)}


def annotation_of(found: Mapping[str, Any]) -> Annotation:
    """What `annotation_object` made."""
    at = datetime.fromisoformat(found["at"]).astimezone(UTC)
    plain: dict[str, Any] = {name: found.get(name) for name in _ANNOTATION}
    return Annotation(**plain, verdict=Verdict(found["verdict"]), source=Source(found["source"]), at=at)


def status_of(standing: StandingLabel | None) -> str:
    """The word a page shows for a standing label: unlabelled, imported, rule, unsure or validated."""
    if standing is None:
        return "unlabelled"
    if standing.verdict is Verdict.UNSURE:
        return "unsure"
    return {Source.PERSON: "validated", Source.IMPORT: "imported", Source.RULE: "rule"}[standing.source]
