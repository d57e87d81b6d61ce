"""What each flag of a run means for the data, for readers who do not know the instrument's files."""

from __future__ import annotations

from plankter.types import Flag, Severity

SEVERITY_WORDS = {Severity.NOTE: "Note", Severity.WARNING: "Check this", Severity.ERROR: "Serious"}

_NO_IMAGES = "These particles have sizes but no pictures: they are counted, but no class could be predicted for them."
_LOST_IMAGES = "The particles on it are counted as failed: they have no class, so counts by class are too low."
_NO_VOLUME = "Only counts are given: nothing per mL or per litre can be derived."
_TIME = "The time of this run must not be compared with that of others until someone confirms it."
_LABELS = "Classes that were given in the instrument's software are incomplete here; the model's predictions are not affected."
_CROSS_CHECK = "One of the cross-checks of this run could not be made; the data themselves are complete."
_OUTLINES = "Shapes and sizes of the particles concerned were measured on outlines found anew, and can differ slightly."

_MEANINGS = {
    "list-alone": _NO_IMAGES,
    "vignettes-failed": "They are counted, but have no class, so counts by class are too low.",
    "no-boxes": _NO_IMAGES,
    "collage-damaged": _LOST_IMAGES,
    "collages-missing": "The particles on them are counted as failed: they have no class, so counts by class are too low.",
    "masks-missing": _OUTLINES,
    "mask-damaged": _OUTLINES,
    "calibration-image-missing": "The data are complete; the background cannot be inspected later.",
    "images-unused": "They belong to no particle of this run and were left out.",
    "unreadable-file": "What that file says is missing here.",
    "no-context": _NO_VOLUME,
    "no-summary": _CROSS_CHECK,
    "csv-unreadable": _CROSS_CHECK,
    "csv-disagrees": "The instrument's own list is used; look at how the exported table was made before using both.",
    "labels-unreadable": _LABELS,
    "labels-unknown-ids": _LABELS,
    "labels-several-classes": "These particles need a person to choose one class.",
    "empty-run": "A count of none is a valid result.",
    "duplicate-ids": "Some particles may have been counted twice.",
    "saved-as-export": "Do not publish these abundances before the original run has been checked.",
    "count-disagrees": "Particles may have been removed or added after the run; abundances may be wrong by that share.",
    "list-truncated": "Do not publish abundances of this run.",
    "bad-number": "Those measures are unknown; the particles are counted.",
    "blank-line": "No particle is missing because of it.",
    "rows-broken": "These particles are counted, without measures or class.",
    "time-sources-disagree": _TIME,
    "start-time-unknown": _TIME,
    "time-zone-unknown": _TIME,
    "library": "It shows what was found, not how much there was.",
    "calibration-missing": "Neither sizes in µm nor abundances can be given.",
    "uncalibrated": "Neither sizes in µm nor abundances can be given.",
    "calibration-disagrees": "Sizes and abundances depend on which scale is right; check the instrument's calibration.",
    "volume-from-summary": "Abundances rest on the rounded volume that the instrument's software printed.",
    "volume-disagrees": "Abundances may be wrong by the ratio of the two volumes.",
    "volume-unknown": _NO_VOLUME,
    "volume-cf-absent": "If the instrument did use a correction, abundances are wrong by that factor.",
    "manual-volume": "Abundances differ from those in the instrument's software by the ratio of the two volumes.",
    "dilution": "Abundances per mL are those of the diluted water unless the sample says otherwise.",
}  # fmt: skip
_BY_SEVERITY = {
    Severity.NOTE: "The data can be used as they are.",
    Severity.WARNING: "Look at this before you use the numbers of this run.",
    Severity.ERROR: "Do not use the numbers of this run before this is solved.",
}


def meaning(flag: Flag) -> str:
    """What a flag means for the data; by its severity where its code is not known here."""
    return _MEANINGS.get(flag.code, _BY_SEVERITY[flag.severity])
