"""The fields of VisualSpreadsheet's particle lists, in the order they are written."""

from __future__ import annotations

Fields = tuple[tuple[str, str], ...]

# 65 fields of VisualSpreadsheet 4.10-4.19. Older versions and monochrome cameras leave some out: 64 without
# fd_diameter, 57 with aspect_ratio, 53 without colours and channels. A list is read by the fields it declares.
V017_FIELDS: Fields = (
    ("id", "int32"),
    ("image_x", "int32"),
    ("image_y", "int32"),
    ("image_w", "int32"),
    ("image_h", "int32"),
    ("src_x", "int32"),
    ("src_y", "int32"),
    ("src_image", "int32"),
    ("cal_image", "int32"),
    ("ppc", "int32"),
    ("camera", "int32"),
    ("cal_const", "double"),
    ("fringe_size", "double"),
    ("sphere_count", "int32"),
    ("raw_sphere_volume", "double"),
    ("raw_sphere_complement", "double"),
    ("raw_sphere_unknown", "double"),
    ("raw_area", "double"),
    ("raw_feret_max", "double"),
    ("raw_feret_min", "double"),
    ("raw_feret_mean", "double"),
    ("raw_perimeter", "double"),
    ("raw_convex_perimeter", "double"),
    ("raw_legendre_major", "double"),
    ("raw_legendre_minor", "double"),
    ("abd_area", "double"),
    ("abd_diameter", "double"),
    ("length", "double"),
    ("width", "double"),
    ("esd_diameter", "double"),
    ("fd_diameter", "double"),
    ("perimeter", "double"),
    ("convex_perimeter", "double"),
    ("intensity", "double"),
    ("sigma_intensity", "double"),
    ("sum_intensity", "double"),
    ("compactness", "double"),
    ("elongation", "double"),
    ("roughness", "double"),
    ("edge_gradient", "double"),
    ("elapsed_time", "double"),
    ("circle_fit", "double"),
    ("symmetry", "double"),
    ("circularity_hu", "double"),
    ("intensity_calimage", "double"),
    ("raw_convex_hull_area", "double"),
    ("raw_filled_area", "double"),
    ("filled_area", "double"),
    ("feret_max_angle", "double"),
    ("feret_min_angle", "double"),
    ("avg_red", "double"),
    ("avg_green", "double"),
    ("avg_blue", "double"),
    ("ch1_peak", "double"),
    ("ch1_width", "double"),
    ("ch1_area", "double"),
    ("ch2_peak", "double"),
    ("ch2_width", "double"),
    ("ch2_area", "double"),
    ("ch3_peak", "double"),
    ("ch3_width", "double"),
    ("ch3_area", "double"),
    ("timestamp", "timestamp"),
    ("collage_file", "string"),
    ("image_id", "guid"),
)

_V013_HEAD = (
    "id cal_const raw_area raw_feret_max raw_feret_min raw_feret_mean raw_perim raw_convex_perim abd_area abd_diameter "
    "length width esd_diameter perimeter convex_perimeter intensity sigma_intensity compactness elongation "
    "sum_intensity roughness feret_max_angle"
)
_V013_CHANNELS = "ppc ch1_peak ch1_tof ch2_peak ch2_tof ch3_peak ch3_tof ch4_peak ch4_tof"
_V013_BOX = "filename save_x save_y pixel_w pixel_h capture_x capture_y"

# 44 columns: VisualSpreadsheet 1.5, time as two halves of a Windows FILETIME
V013_COLUMNS = f"{_V013_HEAD} avg_red avg_green avg_blue {_V013_CHANNELS} {_V013_BOX} high_u32 low_u32 total".split()

# 47 columns: VisualSpreadsheet 2.1 and 2.2. feret_min_angle makes one more before the file name
V013_COLUMNS_47 = (
    f"{_V013_HEAD} feret_min_angle avg_red avg_green avg_blue {_V013_CHANNELS} {_V013_BOX} "
    "edge_gradient timestamp1 timestamp2 source_image calibration_image"
).split()
