"""Every measure of a particle: name, unit, definition, source. The code beside it fills them in this order."""

from __future__ import annotations

from dataclasses import dataclass

_PIXELS = "equal to VisualSpreadsheet's on at least 99.8 % of 6,628 real particles, measured from their pixels"
_FORMULA = "VisualSpreadsheet's formula, equal on at least 99.8 % of real particles"
_MANUAL = "FlowCam manual, property definitions"


@dataclass(frozen=True)
class Measure:
    """One column. ``instrument_column`` is VisualSpreadsheet's name of the same quantity, None where it has none."""

    name: str
    unit: str
    definition: str
    source: str
    instrument_column: str | None = None


# f = fringe in px, k(d) = max(d - f, d/2), c = um per px: what the definitions below abbreviate
MEASURES: tuple[Measure, ...] = (
    Measure("area_px", "px", "pixels of the mask, all its objects together", _PIXELS, "raw_area"),
    Measure("filled_area_px", "px", "pixels of the mask with its holes filled", _PIXELS, "raw_filled_area"),
    Measure("n_objects", "1", "8-connected objects of the mask, those inside holes of others left out", _PIXELS, "ppc"),
    Measure(
        "feret_max_px",
        "px",
        "greatest of 36 calliper widths, one every 5 degrees: span of the pixel centres + 1; where the place in the "
        "camera frame is known, projections are rounded to whole px there, as the instrument does",
        f"{_MANUAL}; {_PIXELS}",
        "raw_feret_max",
    ),
    Measure("feret_min_px", "px", "least of the 36 calliper widths", f"{_MANUAL}; {_PIXELS}", "raw_feret_min"),
    Measure("feret_mean_px", "px", "mean of the 36 calliper widths", f"{_MANUAL}; {_PIXELS}", "raw_feret_mean"),
    Measure(
        "feret_max_angle_deg",
        "degree",
        "direction of the greatest calliper width, counter-clockwise from the image's x axis, -90 to 85",
        f"{_MANUAL}; {_PIXELS}",
        "feret_max_angle",
    ),
    Measure(
        "feret_min_angle_deg",
        "degree",
        "direction of the least calliper width, as above",
        f"{_MANUAL}; {_PIXELS}",
        "feret_min_angle",
    ),
    Measure(
        "perimeter_px",
        "px",
        "length of the outer contours through pixel centres (1 a straight step, sqrt 2 a diagonal), summed over "
        "objects; holes do not count",
        _PIXELS,
        "raw_perimeter",
    ),
    Measure(
        "convex_perimeter_px",
        "px",
        "length of the convex hull of all pixel centres, one hull around all objects",
        _PIXELS,
        "raw_convex_perimeter",
    ),
    Measure("convex_area_px", "px", "area of that hull", _PIXELS, "raw_convex_hull_area"),
    Measure(
        "ellipse_major_px",
        "px",
        "long axis of the ellipse with the filled mask's second moments, 4 sqrt(larger eigenvalue)",
        _PIXELS,
        "raw_legendre_major",
    ),
    Measure("ellipse_minor_px", "px", "short axis of that ellipse", _PIXELS, "raw_legendre_minor"),
    Measure(
        "ellipse_angle_deg",
        "degree",
        "direction of the long axis, counter-clockwise from the image's x axis, above -90 to 90",
        "second moments",
    ),
    Measure("box_width_px", "px", "width of the box around all objects", "pixels"),
    Measure("box_height_px", "px", "height of the box around all objects", "pixels"),
    Measure("abd_um", "um", "area-based diameter, c k(2 sqrt(area_px / pi))", _FORMULA, "abd_diameter"),
    Measure("abd_area_um2", "um2", "pi/4 abd_um^2", _FORMULA, "abd_area"),
    Measure("fd_um", "um", "filled diameter, c k(2 sqrt(filled_area_px / pi))", _FORMULA, "fd_diameter"),
    Measure("filled_area_um2", "um2", "pi/4 fd_um^2", _FORMULA, "filled_area"),
    Measure("length_um", "um", "c k(feret_max_px)", _FORMULA, "length"),
    Measure("width_um", "um", "c k(feret_min_px)", _FORMULA, "width"),
    Measure("esd_um", "um", "equivalent spherical diameter by callipers, c k(feret_mean_px)", _FORMULA, "esd_diameter"),
    Measure("perimeter_um", "um", "c perimeter_px", _FORMULA, "perimeter"),
    Measure("convex_perimeter_um", "um", "c (convex_perimeter_px - f)", _FORMULA, "convex_perimeter"),
    Measure("volume_abd_um3", "um3", "sphere of diameter abd_um, pi/6 abd_um^3", _FORMULA, "volume_abd"),
    Measure("volume_esd_um3", "um3", "sphere of diameter esd_um, pi/6 esd_um^3", _FORMULA, "volume_esd"),
    Measure(
        "geodesic_length_um",
        "um",
        "c L of the rectangle with 2 (L + B) = perimeter_px and L B = filled_area_px, of the square of that perimeter "
        "where there is none",
        _FORMULA,
        "geodesic_length",
    ),
    Measure("geodesic_thickness_um", "um", "c B of that rectangle", _FORMULA, "geodesic_thickness"),
    Measure("area_uncorrected_um2", "um2", "c^2 area_px, without the fringe correction", "geometry"),
    Measure("filled_area_uncorrected_um2", "um2", "c^2 filled_area_px, without the fringe correction", "geometry"),
    Measure(
        "aspect_ratio",
        "1",
        "width_um / length_um",
        "reported of VisualSpreadsheet 3; no list of it at hand",
        "aspect_ratio",
    ),
    Measure(
        "ellipse_aspect_ratio",
        "1",
        "ellipse_minor_px / ellipse_major_px: the Aspect Ratio of VisualSpreadsheet 4",
        _FORMULA,
        "legendre_aspect_ratio",
    ),
    Measure("circularity", "1", "1 / compactness", _FORMULA, "circularity"),
    Measure(
        "compactness",
        "1",
        "perimeter_px^2 / (4 pi filled_area_px), at least 1",
        f"{_MANUAL}; {_FORMULA}",
        "compactness",
    ),
    Measure(
        "elongation",
        "1",
        "geodesic_length_um / geodesic_thickness_um",
        f"{_MANUAL}; {_FORMULA}",
        "elongation",
    ),
    Measure("roughness", "1", "perimeter_um / convex_perimeter_um", f"{_MANUAL}; {_FORMULA}", "roughness"),
    Measure("transparency", "1", "1 - abd_um / esd_um", f"{_MANUAL}; {_FORMULA}", "transparency"),
    Measure(
        "circularity_hu",
        "1",
        "A / (2 pi (variance of x + variance of y)) of the filled mask, at most 1",
        f"first Hu moment; {_PIXELS}",
        "circularity_hu",
    ),
    Measure(
        "convexity",
        "1",
        "filled_area_px / convex_area_px, at most 1: reached early, as the hull runs through pixel centres",
        _FORMULA,
        "convexity",
    ),
    Measure(
        "solidity",
        "1",
        "filled_area_px / area of the convex hull of the pixels as whole squares",
        "geometry",
    ),
    Measure("eccentricity", "1", "sqrt(1 - (ellipse_minor_px / ellipse_major_px)^2)", "second moments"),
    Measure("hole_share", "1", "1 - area_px / filled_area_px", "pixels"),
    Measure(
        "grey_mean",
        "grey level",
        "mean of round(0.299 blue + 0.587 green + 0.114 red) over the mask; weights swapped as in the instrument",
        _PIXELS,
        "intensity",
    ),
    Measure("grey_sd", "grey level", "standard deviation of that grey, divisor n", _PIXELS, "sigma_intensity"),
    Measure("grey_sum", "grey level", "sum of that grey", _PIXELS, "sum_intensity"),
    Measure("grey_min", "grey level", "least of that grey", "pixels"),
    Measure("grey_max", "grey level", "greatest of that grey", "pixels"),
    Measure("grey_median", "grey level", "median of that grey", "pixels"),
    Measure("grey_skewness", "1", "third standardised moment of that grey; unknown where it is constant", "moments"),
    Measure("grey_kurtosis", "1", "fourth standardised moment less 3; unknown where it is constant", "moments"),
    Measure("avg_red", "grey level", "mean of the red channel over the mask", _PIXELS, "avg_red"),
    Measure("avg_green", "grey level", "mean of the green channel over the mask", _PIXELS, "avg_green"),
    Measure("avg_blue", "grey level", "mean of the blue channel over the mask", _PIXELS, "avg_blue"),
    Measure(
        "edge_gradient",
        "grey level",
        "mean over the outer contours of (|Sobel x| + |Sobel y|) / 2, at most 255",
        f"{_MANUAL}; {_PIXELS}",
        "edge_gradient",
    ),
    Measure("background_grey", "grey level", "median grey of the outermost pixels that are not of the mask", "pixels"),
)

MEASURE_NAMES: tuple[str, ...] = tuple(measure.name for measure in MEASURES)
