"""One run as a page that stands alone: what was found, how sure that is, what went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plankter.publish.contact_sheets import contact_sheet
from plankter.publish.figures import class_counts_svg, score_histogram_svg, size_spectrum_svg
from plankter.publish.flag_words import SEVERITY_WORDS, meaning
from plankter.types import Flag, ImageArray, Run, Sample, Severity

if TYPE_CHECKING:
    from jinja2 import Environment

WORMS_PAGE = "https://www.marinespecies.org/aphia.php?p=taxdetails&id="
SHEET_VIGNETTES = 24
MAX_FAILURES = 200

ClassVignettes = Sequence[tuple[int, ImageArray, float]]


@dataclass(frozen=True)
class Density:
    """Particles per mL of imaged water with the limits of the exact 95 % Poisson interval."""

    per_ml: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassRow:
    """One class of the run. ``density`` is of the predicted count; None where the imaged volume is unknown."""

    class_id: str
    name: str
    aphia_id: int | None
    predicted: int
    validated: int
    density: Density | None = None


@dataclass(frozen=True)
class ModelFacts:
    """The model whose predictions are shown; ``top1`` is its share of right classes on its own validation images."""

    model_id: str
    name: str
    precision: str
    top1: float | None = None


@dataclass(frozen=True)
class RunReport:
    """What a report of one run is made of.

    Attributes:
        run: the run.
        sample: its sample; None where nothing is known of it.
        particles: particles in the instrument's list.
        vignettes: those with a usable image.
        masks: those with an outline, the instrument's own or one found anew.
        failures: index and reason of each particle whose image cannot be used.
        classes: one row a class; rows of classes that were neither predicted nor validated are not shown.
        total: all particles of the run per mL; None where the imaged volume is unknown.
        model: None where nothing was predicted.
        esd_um: (n,) equivalent spherical diameters, NaN where unknown; empty where there is no scale.
        spectrum: borders of the size classes in um and the particles in each; None where no size is known.
        scores: (m,) score of the best class of each predicted particle.
        class_vignettes: class_id -> index, pixels and score of vignettes to choose from; a mapping, or a function that
            is called once for each class shown.
        flags: what is noteworthy about the run; None for the run's own.
        version: of plankter, as printed at the end.
    """

    run: Run
    sample: Sample | None
    particles: int
    vignettes: int
    masks: int
    failures: Sequence[tuple[int, str]]
    classes: Sequence[ClassRow]
    total: Density | None
    model: ModelFacts | None
    esd_um: npt.NDArray[np.floating[Any]]
    scores: npt.NDArray[np.floating[Any]]
    spectrum: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]] | None = None
    class_vignettes: Mapping[str, ClassVignettes] | Callable[[str], ClassVignettes] = field(default_factory=dict)
    flags: Sequence[Flag] | None = None
    version: str = ""


def render_run_report(report: RunReport) -> str:
    """The report as one HTML page that loads nothing from elsewhere: styles, pictures and tables stand in it.

    Every text of the data is escaped. Works without scripts, in print, and in light and dark.
    """
    rows = sorted((r for r in report.classes if r.predicted or r.validated), key=lambda r: (-r.predicted, r.name))
    flags = sorted(report.run.flags if report.flags is None else report.flags, key=_gravity)
    return _environment().get_template("run_report.html.j2").render(
        run=report.run,
        instrument=_instrument(report.run),
        sample=report.sample,
        report=report,
        rows=rows,
        total_predicted=sum(row.predicted for row in rows),
        total_validated=sum(row.validated for row in rows),
        not_found=len(report.classes) - len(rows),
        summary=_in_short(report, rows),
        flags=[(SEVERITY_WORDS[f.severity], f, f.message.rstrip(". "), meaning(f)) for f in flags],
        facts=_facts(report),
        sheets=_sheets(report, rows),
        classes_svg=_classes_svg(rows),
        spectrum_svg=_spectrum_svg(report),
        scores_svg=_scores_svg(report),
        failures=report.failures[:MAX_FAILURES],
        worms=WORMS_PAGE,
    )  # fmt: skip


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("plankter.publish", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters["number"] = number
    found.filters["thousands"] = lambda n: f"{n:,}"
    return found


def number(value: float, digits: int = 3) -> str:
    """A quantity as people read it: ``digits`` significant ones, thousands apart, no exponent where it can be helped.

    >>> number(1234.5), number(0.04567), number(12.0), number(0.0)
    ('1,230', '0.0457', '12.0', '0')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places > 9:
        return f"{value:.{digits - 1}e}"
    rounded = round(value, places)
    return f"{rounded:,.{max(places, 0)}f}"


def _gravity(flag: Flag) -> int:
    return (Severity.ERROR, Severity.WARNING, Severity.NOTE).index(flag.severity)


def _many(n: int, one: str, several: str) -> str:
    return f"{n:,} {one if n == 1 else several}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", "\u00a0%") if share >= 0.01 else "under 1\u00a0%"


def _in_short(report: RunReport, rows: Sequence[ClassRow]) -> list[str]:
    """Sentences in plain words; what is wrong stands below them as a list."""
    found = f"The instrument recorded {_many(report.particles, 'particle', 'particles')}"
    if report.vignettes == report.particles and report.particles:
        found += ", each with a usable image." if report.particles > 1 else ", with a usable image."
    else:
        found += f"; {report.vignettes:,} of them have a usable image." if report.particles else "."
    sentences = [found]
    common = [row for row in rows if row.predicted][:3]
    predicted = sum(row.predicted for row in rows)
    if common:
        shares = [f"{row.name} ({row.predicted:,}, {_percent(row.predicted / predicted)})" for row in common]
        listed = shares[0] if len(shares) == 1 else f"{', '.join(shares[:-1])} and {shares[-1]}"
        sentences.append(f"The most common {'class' if len(shares) == 1 else 'classes'} by the model: {listed}.")
    if report.total is not None:
        t = report.total
        sentences.append(
            f"All particles together are {number(t.per_ml)} per mL of the imaged water "
            f"(95\u00a0% interval of counting error {number(t.low)} to {number(t.high)})."
        )
    else:
        sentences.append("The imaged volume is unknown, so no abundance can be given, only counts.")
    if report.failures:
        n = len(report.failures)
        verb = (
            "image could not be used; its particle has" if n == 1 else "images could not be used; their particles have"
        )
        sentences.append(f"{n:,} {verb} no class and {'is' if n == 1 else 'are'} listed below.")
    return sentences


def _facts(report: RunReport) -> list[tuple[str, str]]:
    """What is known of sample and run; unknown values are left out."""
    run, sample = report.run, report.sample
    facts: list[tuple[str, str | None]] = [("Sample", run.sample_id)]
    if sample is not None:
        facts += [
            ("Station", sample.station),
            ("Sampled at", f"{sample.sampled_at:%Y-%m-%d %H:%M} UTC" if sample.sampled_at else None),
            ("Position", _position(sample)),
            ("Depth", _depth(sample)),
            ("Water filtered", _unit(sample.volume_filtered_l, "L")),
            ("Concentrated to", _unit(sample.concentrated_volume_ml, "mL")),
            ("Net mesh", _unit(sample.net_mesh_um, "µm")),
            ("Diluted", _unit(sample.dilution_factor, "times")),
            *((name, str(value)) for name, value in sorted(sample.environment.items())),
        ]
    started = f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else None
    if started is None and run.started_at_local:
        started = f"{run.started_at_local} (time zone unknown)"
    facts += [
        ("Instrument", _instrument(run)),
        ("Software", run.software),
        ("Run began", started),
        ("Scale", f"{run.um_per_px:.4g} µm per px" if run.um_per_px else None),
        ("Volume imaged", f"{number(run.volume_imaged_ml, 4)} mL" if run.volume_imaged_ml else None),
        ("Particles", f"{report.particles:,}"),
        ("With a usable image", f"{report.vignettes:,}"),
        ("With an outline", f"{report.masks:,}"),
        ("Images that cannot be used", f"{len(report.failures):,}"),
        ("Notes", run.notes),
    ]
    return [(name, value) for name, value in facts if value]


def _instrument(run: Run) -> str:
    return {"flowcam": "FlowCam", "ifcb": "IFCB"}.get(run.instrument, run.instrument)


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _position(sample: Sample) -> str | None:
    if sample.latitude_deg is None or sample.longitude_deg is None:
        return None
    north, east = "N" if sample.latitude_deg >= 0 else "S", "E" if sample.longitude_deg >= 0 else "W"
    return f"{abs(sample.latitude_deg):.4f}° {north}, {abs(sample.longitude_deg):.4f}° {east}"


def _depth(sample: Sample) -> str | None:
    depths = [f"{d:g}" for d in (sample.depth_min_m, sample.depth_max_m) if d is not None]
    return f"{' to '.join(dict.fromkeys(depths))} m" if depths else None


def _sheets(report: RunReport, rows: Sequence[ClassRow]) -> list[dict[str, Any]]:
    sheets = []
    for position, row in enumerate(rows, 1):
        given = report.class_vignettes
        vignettes = given(row.class_id) if callable(given) else given.get(row.class_id, ())
        sheet = contact_sheet(vignettes, report.run.um_per_px, n=SHEET_VIGNETTES) if row.predicted else None
        if sheet is not None:
            sheets.append({"row": row, "position": position, "sheet": sheet})
    return sheets


def _svg(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # made by figures.py, which escapes names and descriptions


def _classes_svg(rows: Sequence[ClassRow]) -> Any:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.name] = counts.get(row.name, 0) + row.predicted
    if not any(counts.values()):
        return None
    return _svg(
        class_counts_svg(counts, description="Bars: particles predicted per class; numbers in the table of counts.")
    )


def _spectrum_svg(report: RunReport) -> Any:
    sizes = np.asarray(report.esd_um, np.float64)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if report.spectrum is None or not len(sizes):
        return None
    edges, counts = report.spectrum[0], report.spectrum[1].astype(np.float64)
    volume, label = report.run.volume_imaged_ml, "particles"
    if volume is not None:
        counts, label = counts / volume, "particles per mL"
    middle, low, high = np.median(sizes), sizes.min(), sizes.max()
    description = (
        f"Size spectrum of {len(sizes):,} particles: {label} by equivalent spherical diameter, from {number(low)} to "
        f"{number(high)} µm, median {number(middle)} µm."
    )
    return _svg(size_spectrum_svg(edges, counts, y_label=f"{label} in each size class", description=description))


def _scores_svg(report: RunReport) -> Any:
    scores = np.asarray(report.scores, np.float64)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return None
    description = f"Histogram of {len(scores):,} scores; {_percent(float(np.mean(scores >= 0.9)))} of the particles score 0.9 or more."
    return _svg(score_histogram_svg(scores, description=description))
