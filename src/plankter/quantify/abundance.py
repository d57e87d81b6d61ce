"""Counts and sizes of one run -> abundance and size spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.quantify.poisson import poisson_interval

FloatArray = npt.NDArray[np.float64]
ML_PER_L = 1000.0


@dataclass(frozen=True)
class Abundance:
    """Particles per volume, with the exact 95 % interval of counting error (`poisson_interval`).

    Attributes:
        count: particles counted.
        per_ml_imaged: particles per mL of the water that was imaged, as imaged (diluted, concentrated); None where the
            imaged volume is unknown.
        per_ml_low: lower limit of ``per_ml_imaged``.
        per_ml_high: its upper limit.
        per_l: particles per litre: of sea water where the concentration is known, else of the sample as it was taken.
        low: lower limit of ``per_l``.
        high: its upper limit.
        reason: why a value is None, or what was assumed; None where there is nothing to say.
    """

    count: int
    per_ml_imaged: float | None
    per_ml_low: float | None
    per_ml_high: float | None
    per_l: float | None
    low: float | None
    high: float | None
    reason: str | None = None


def abundance(
    counts: int,
    volume_imaged_ml: float | None,
    dilution_factor: float | None = None,
    concentrated_volume_ml: float | None = None,
    volume_filtered_l: float | None = None,
) -> Abundance:
    """Abundance of what was counted ``counts`` times in one run.

    per_l = counts / volume_imaged_ml * dilution * concentrated_volume_ml / volume_filtered_l. Where neither the
    concentrate nor the filtered volume is given, the sample is taken as water that was not concentrated (1000 mL to
    the litre) and ``reason`` says so; where only one is given, ``per_l`` is None.

    Args:
        counts: particles counted, 0 or more.
        volume_imaged_ml: water that was imaged, mL; None where unknown.
        dilution_factor: how many times the imaged water was diluted; None for not at all.
        concentrated_volume_ml: volume that the filtered water was concentrated to, mL.
        volume_filtered_l: sea water that was filtered, L.

    Raises:
        ValueError: a negative count, or a volume or factor that is not above 0.
    """
    low, high = poisson_interval(counts)
    given = {
        "volume_imaged_ml": volume_imaged_ml, "dilution_factor": dilution_factor,
        "concentrated_volume_ml": concentrated_volume_ml, "volume_filtered_l": volume_filtered_l,
    }  # fmt: skip
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, got {value}")
    if volume_imaged_ml is None:
        return Abundance(counts, None, None, None, None, None, None, "the imaged volume is unknown")
    per_ml = (counts / volume_imaged_ml, low / volume_imaged_ml, high / volume_imaged_ml)
    reason = None
    if (concentrated_volume_ml is None) != (volume_filtered_l is None):
        missing = "concentrated" if concentrated_volume_ml is None else "filtered"
        return Abundance(counts, *per_ml, None, None, None, f"the {missing} volume of the sample is unknown")
    if concentrated_volume_ml is None or volume_filtered_l is None:
        ml_per_l = ML_PER_L
        reason = "no filtered and concentrated volume: taken as water that was not concentrated"
    else:
        ml_per_l = concentrated_volume_ml / volume_filtered_l
    factor = ml_per_l * (dilution_factor or 1.0)
    return Abundance(counts, *per_ml, per_ml[0] * factor, per_ml[1] * factor, per_ml[2] * factor, reason)


@dataclass(frozen=True)
class SizeSpectrum:
    """Particles and biovolume by size class; arrays of one length but ``edges_um``, which has one more (or none).

    Attributes:
        edges_um: borders of the size classes, equivalent spherical diameter in um; a class holds its lower border.
        mid_um: geometric middle of each class, um.
        count: int64, particles in each class.
        number_per_ml_um: normalised number spectrum: particles per mL and um of class width; NaN without a volume.
        biovolume_um3_per_ml: biovolume in each class, um3 per mL; NaN without a volume.
        normalised_biovolume_per_ml: normalised biovolume spectrum: biovolume per mL divided by the class's width in
            biovolume, um3 mL-1 um-3 = mL-1; NaN without a volume.
        left_out: particles without a usable size, or outside ``edges_um``.
    """

    edges_um: FloatArray
    mid_um: FloatArray
    count: npt.NDArray[np.int64]
    number_per_ml_um: FloatArray
    biovolume_um3_per_ml: FloatArray
    normalised_biovolume_per_ml: FloatArray
    left_out: int


def octave_edges(esd_um: npt.ArrayLike) -> FloatArray:
    """Borders of size classes in um that double the biovolume from one to the next, at 2 ** (k / 3) with k whole.

    Fixed positions, so that the spectra of all runs can be compared; just enough of them to hold all sizes. Empty
    where no size is usable.
    """
    sizes = np.asarray(esd_um, np.float64)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(sizes):
        return np.empty(0)
    steps = 3 * np.log2([sizes.min(), sizes.max()])
    first, last = math.floor(steps[0] + 1e-9), math.floor(steps[1] + 1e-9) + 1
    edges: FloatArray = np.exp2(np.arange(first, last + 1) / 3)
    edges[0] = min(edges[0], sizes.min())  # rounding must not push a particle over the lowest border
    return edges


def size_spectrum(
    esd_um: npt.ArrayLike, volume_imaged_ml: float | None, edges: npt.ArrayLike | None = None
) -> SizeSpectrum:
    """Normalised number and biovolume spectrum of one run.

    The biovolume of a particle is that of a sphere, pi / 6 * ESD ** 3; a class's biovolume per mL is divided by the
    linear width of the class in biovolume (Platt T. & Denman K. 1978, Rapp. P.-v. Reun. Cons. int. Explor. Mer 173:
    60-65; as in Dugenne et al. 2024, Earth Syst. Sci. Data 16: 2971-2999).

    Args:
        esd_um: (n,) equivalent spherical diameters, um; NaN where unknown.
        volume_imaged_ml: water that was imaged, mL; None where unknown.
        edges: borders of the size classes, um, rising; None for `octave_edges`.

    Raises:
        ValueError: borders that do not rise or are below 0, a volume that is not above 0.
    """
    if volume_imaged_ml is not None and not (math.isfinite(volume_imaged_ml) and volume_imaged_ml > 0):
        raise ValueError(f"volume_imaged_ml must be above 0, got {volume_imaged_ml}")
    sizes = np.asarray(esd_um, np.float64)
    borders = octave_edges(sizes) if edges is None else np.asarray(edges, np.float64)
    if borders.ndim != 1 or np.any(np.diff(borders) <= 0) or np.any(borders < 0) or not np.all(np.isfinite(borders)):
        raise ValueError("edges must be finite, not below 0, and rise")
    if len(borders) < 2:
        none, nobody = np.empty(0), np.empty(0, np.int64)
        return SizeSpectrum(none, none, nobody, none, none, none, int(sizes.size))
    usable = sizes[np.isfinite(sizes) & (sizes > 0) & (sizes >= borders[0]) & (sizes < borders[-1])]
    place = np.searchsorted(borders, usable, side="right") - 1
    n = len(borders) - 1
    count = np.bincount(place, minlength=n).astype(np.int64)
    volume = math.nan if volume_imaged_ml is None else volume_imaged_ml
    biovolume = np.bincount(place, weights=math.pi / 6 * usable**3, minlength=n) / volume
    return SizeSpectrum(
        edges_um=borders,
        mid_um=np.sqrt(borders[:-1] * borders[1:]),
        count=count,
        number_per_ml_um=count / volume / np.diff(borders),
        biovolume_um3_per_ml=biovolume,
        normalised_biovolume_per_ml=biovolume / (math.pi / 6 * np.diff(borders**3)),
        left_out=int(sizes.size - len(usable)),
    )
