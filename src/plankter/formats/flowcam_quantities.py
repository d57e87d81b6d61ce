"""Scale, imaged volume and fringe correction of a FlowCam run, from its context, list and run summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plankter.formats.flowcam_columns import ListTable
from plankter.formats.flowcam_ctx import ctx_number
from plankter.formats.flowcam_summary import summary_number
from plankter.types import Flag, Severity

Ctx = Mapping[str, Mapping[str, str]]
Summary = Mapping[str, Sequence[tuple[str, str]]]

UNCALIBRATED = 1.0  # the value VisualSpreadsheet holds before anybody has calibrated the instrument
TOLERANCE = 0.01
REGION = ("AcceptableLeft", "AcceptableRight", "AcceptableTop", "AcceptableBottom")


@dataclass(frozen=True)
class Quantities:
    """What makes pixels micrometres and counts concentrations; None where it must not be derived."""

    um_per_px: float | None
    volume_imaged_ml: float | None
    fringe_px: float
    flags: tuple[Flag, ...]


def volume_imaged_ml(
    *, left: float, right: float, top: float, bottom: float, um_per_px: float, depth_um: float, images: float,
    volume_cf: float = 1.0,
) -> float:  # fmt: skip
    """Volume that was imaged, mL.

    V = (right - left + 1) * (bottom - top + 1) * um_per_px^2 * depth_um * 1e-12 * images * volume_cf. VisualSpreadsheet
    writes 0.0000 into its own `FluidVolumeImaged_ml`; this formula gives the run summary's "Fluid Volume Imaged" to
    its four decimals on runs of three instruments.

    Args:
        left, right, top, bottom: region in which particles were accepted, px, both ends within.
        um_per_px: `CalibrationConstant`.
        depth_um: depth of the flow cell.
        images: number of camera frames (`RawImageTotal`).
        volume_cf: correction factor of the volume (`VolumeCF`).
    """
    area_um2 = (right - left + 1) * (bottom - top + 1) * um_per_px**2
    return area_um2 * depth_um * 1e-12 * images * volume_cf


def quantities(
    table: ListTable | None, ctx: Ctx | None, summary: Summary | None, *, library: bool = False
) -> Quantities:
    """Scale, volume and fringe of one run, and what is odd about them.

    Args:
        table: the list, None where there is none.
        ctx: the context's sections, None where there is no `.ctx`.
        summary: the run summary's headings, None where there is none.
        library: a library holds particles picked from several runs and has no volume.
    """
    flags: list[Flag] = []
    um_per_px = _scale(table, ctx, summary, flags)
    fringe = _fringe(table, ctx)
    if library:
        message = "a library holds particles picked from several runs: no volume, so no concentrations"
        flags.append(Flag("library", message, Severity.NOTE))
        return Quantities(um_per_px, None, fringe, tuple(flags))
    volume = _volume(um_per_px, ctx, summary, flags)
    _dilution(ctx, flags)
    return Quantities(um_per_px, volume, fringe, tuple(flags))


def _scale(table: ListTable | None, ctx: Ctx | None, summary: Summary | None, flags: list[Flag]) -> float | None:
    listed = _distinct(table, "cal_const")
    of_ctx = ctx_number(ctx, "Fluid", "CalibrationConstant") if ctx is not None else None
    of_summary = summary_number(summary, "Environment", "Calibration Factor") if summary is not None else None
    scale = of_ctx if of_ctx is not None else listed[0] if len(listed) == 1 else of_summary if not listed else None
    if scale is None or scale <= 0:
        several = f"the list holds {len(listed)} different scales" if len(listed) > 1 else "no file of the run gives it"
        message = f"the scale (um per px) is unknown: {several}; sizes stay in px and no volume is derived"
        flags.append(Flag("calibration-missing", message))
        return None
    if scale == UNCALIBRATED:
        message = (
            "uncalibrated: the instrument's scale was never set (CalibrationConstant is exactly 1.0000 um per px), so "
            "no sizes in um and no concentrations can be derived; calibrate the instrument and save the run again"
        )
        flags.append(Flag("uncalibrated", message, Severity.ERROR))
        return None
    other = next((value for value in listed if not math.isclose(value, scale, rel_tol=1e-3)), None)
    if other is not None:
        message = f"the context's scale is {scale:g} um per px, the list's {other:g}; the context's is used"
        flags.append(Flag("calibration-disagrees", message))
    return scale


def _distinct(table: ListTable | None, name: str) -> list[float]:
    column = None if table is None else table.columns.get(name)
    if column is None or column.dtype == object:
        return []
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    return [float(values[i]) for i in np.argsort(-counts, kind="stable")]


def _fringe(table: ListTable | None, ctx: Ctx | None) -> float:
    of_ctx = ctx_number(ctx, "Fluid", "FringeSize") if ctx is not None else None
    listed = _distinct(table, "fringe_size")
    fringe = of_ctx if of_ctx is not None else listed[0] if listed else 0.0
    return max(fringe, 0.0)


def _volume(um_per_px: float | None, ctx: Ctx | None, summary: Summary | None, flags: list[Flag]) -> float | None:
    if um_per_px is None:
        return None
    printed = summary_number(summary, "Run", "Fluid Volume Imaged") if summary is not None else None
    if ctx is None:
        if printed is None or printed <= 0:
            return None
        message = f"no context: the imaged volume is the {printed:g} mL that the run summary prints, not recomputed"
        flags.append(Flag("volume-from-summary", message))
        return printed
    volume = _computed(um_per_px, ctx, flags)
    if volume is not None and printed and abs(volume - printed) > TOLERANCE * printed + 0.5e-4:
        message = f"the imaged volume computed from the context is {volume:.4f} mL, the run summary says {printed:g} mL"
        flags.append(Flag("volume-disagrees", f"{message}; the computed one is used"))
    return volume


def _computed(um_per_px: float, ctx: Ctx, flags: list[Flag]) -> float | None:
    wanted = [("CaptureRegion", key) for key in REGION] + [
        ("Fluid", "FlowCellDepth"),
        ("CaptureStats", "RawImageTotal"),
    ]
    found = {key: ctx_number(ctx, section, key) for section, key in wanted}
    missing = [f"{section}/{key}" for section, key in wanted if found[key] is None]
    if missing:
        flags.append(Flag("volume-unknown", f"no imaged volume: the context lacks {', '.join(missing)}"))
        return None
    left, right, top, bottom, depth, images = (float(found[key] or 0.0) for _, key in wanted)
    volume_cf = ctx_number(ctx, "CaptureStats", "VolumeCF")
    if volume_cf is None:
        message = "the context has no VolumeCF: the imaged volume is taken without that correction"
        flags.append(Flag("volume-cf-absent", message, Severity.NOTE))
        volume_cf = 1.0
    if right < left or bottom < top or depth <= 0 or images <= 0 or volume_cf <= 0:
        message = (
            f"no imaged volume: region {left:g}..{right:g} x {top:g}..{bottom:g} px, depth {depth:g} um, "
            f"{images:g} images and VolumeCF {volume_cf:g} cannot all be true"
        )
        flags.append(Flag("volume-unknown", message))
        return None
    if ctx_number(ctx, "Fluid", "UseManualVolume") == 1:
        given = ctx.get("Fluid", {}).get("ManualVolumeML", "?")
        message = f"the operator entered a volume of {given} mL by hand; the volume computed from the images is used"
        flags.append(Flag("manual-volume", message))
    return volume_imaged_ml(
        left=left, right=right, top=top, bottom=bottom, um_per_px=um_per_px, depth_um=depth, images=images,
        volume_cf=volume_cf,
    )  # fmt: skip


def _dilution(ctx: Ctx | None, flags: list[Flag]) -> None:
    if ctx is None or ctx_number(ctx, "Fluid", "UseDilutionCalculation") != 1:
        return
    dilution = ctx_number(ctx, "Fluid", "SampleDilution")
    if dilution is not None and dilution != 1:
        message = (
            f"the operator entered a sample dilution of {dilution:g}; counts and volume here are those of the imaged "
            "water: give the sample's dilution_factor to have it applied"
        )
        flags.append(Flag("dilution", message))
