"""Scale, volume and time of a run, by hand-computed values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from plankter.formats.flowcam_lst import parse_lst, write_lst
from plankter.formats.flowcam_quantities import quantities, volume_imaged_ml
from plankter.formats.flowcam_time import TimeSources, from_filetime, parse_time, started_at
from plankter.types import Severity

REGION = {"AcceptableLeft": "0", "AcceptableRight": "1291", "AcceptableTop": "0", "AcceptableBottom": "963"}


def context(scale: str = "0.5517", **stats: str) -> dict[str, dict[str, str]]:
    return {
        "Fluid": {"CalibrationConstant": scale, "FlowCellDepth": "100", "FringeSize": "4.5000"},
        "CaptureRegion": dict(REGION),
        "CaptureStats": {"RawImageTotal": "7868", "VolumeCF": "0.8415", **stats},
    }


def table(*scales: float):  # type: ignore[no-untyped-def]
    return parse_lst(
        write_lst(
            {"id": list(range(len(scales))), "cal_const": list(scales), "fringe_size": [4.5] * len(scales)}, len(scales)
        )
    )


def test_the_volume_of_a_box_of_known_size() -> None:
    # 1000 x 1000 px of 1 um, 100 um deep: 1e8 um3 = 1e-4 mL an image
    volume = volume_imaged_ml(left=1, right=1000, top=0, bottom=999, um_per_px=1.0, depth_um=100, images=10)
    assert volume == pytest.approx(1e-3)


def test_a_calibrated_run() -> None:
    found = quantities(table(0.5517), context(), {"Run": [("Fluid Volume Imaged", "0.2510 ml")]})
    assert found.um_per_px == 0.5517
    assert found.volume_imaged_ml == pytest.approx(0.2510, abs=5e-5)
    assert found.fringe_px == 4.5
    assert found.flags == ()


def test_an_uncalibrated_run_has_no_quantities() -> None:
    found = quantities(table(1.0), context("1.0000"), {"Run": [("Fluid Volume Imaged", "0.2510 ml")]})
    assert (found.um_per_px, found.volume_imaged_ml) == (None, None)
    (flag,) = found.flags
    assert (flag.code, flag.severity) == ("uncalibrated", Severity.ERROR)
    assert "calibrate the instrument" in flag.message


@pytest.mark.parametrize(
    ("ctx", "code"),
    [
        (context(RawImageTotal=""), "volume-unknown"),
        (context(RawImageTotal="0"), "volume-unknown"),
        (context() | {"CaptureRegion": {}}, "volume-unknown"),
        (context() | {"CaptureRegion": REGION | {"AcceptableRight": "-5"}}, "volume-unknown"),
        (context("0.0"), "calibration-missing"),
    ],
)
def test_no_volume_where_a_number_is_missing_or_impossible(ctx: dict[str, dict[str, str]], code: str) -> None:
    found = quantities(None, ctx, None)
    assert found.volume_imaged_ml is None
    assert code in [flag.code for flag in found.flags]


def test_a_missing_correction_factor_is_said() -> None:
    ctx = context()
    del ctx["CaptureStats"]["VolumeCF"]
    found = quantities(None, ctx, None)
    assert found.volume_imaged_ml == pytest.approx(0.25099 / 0.8415, rel=1e-3)
    assert [flag.code for flag in found.flags] == ["volume-cf-absent"]


def test_disagreements_are_said() -> None:
    summary = {"Run": [("Fluid Volume Imaged", "0.2600 ml")]}
    found = quantities(table(0.7), context(), summary)
    assert [flag.code for flag in found.flags] == ["calibration-disagrees", "volume-disagrees"]
    assert found.um_per_px == 0.5517


def test_a_list_alone_has_its_scale_but_no_volume() -> None:
    found = quantities(table(1.813, 1.813), None, None)
    assert (found.um_per_px, found.volume_imaged_ml, found.fringe_px) == (1.813, None, 4.5)
    several = quantities(table(1.813, 1.5), None, None)
    assert several.um_per_px is None
    assert [flag.code for flag in several.flags] == ["calibration-missing"]


def test_the_summarys_volume_stands_in_for_a_missing_context() -> None:
    found = quantities(table(0.5517), None, {"Run": [("Fluid Volume Imaged", "0.2510 ml")]})
    assert found.volume_imaged_ml == 0.2510
    assert [flag.code for flag in found.flags] == ["volume-from-summary"]


def test_dilution_and_manual_volume_are_said() -> None:
    ctx = context()
    ctx["Fluid"] |= {"UseDilutionCalculation": "1", "SampleDilution": "0.3333", "UseManualVolume": "1"}
    assert [flag.code for flag in quantities(None, ctx, None).flags] == ["manual-volume", "dilution"]
    ctx["Fluid"] |= {"SampleDilution": "1", "UseManualVolume": "0"}
    assert quantities(None, ctx, None).flags == ()


def at(text: str) -> datetime:
    found = parse_time(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        # context in UTC, summary local, list in either: the run of 2017 and those of 2025
        (
            TimeSources(
                at("2017-02-01 00:00:18"), at("2017-02-01T00:00:25.513"), at("2017-01-31 19:00:18"), None, True
            ),
            "2017-02-01 00:00:18",
        ),
        (
            TimeSources(
                at("2025-04-11 13:53:33"), at("2025-04-11T15:53:46.806"), at("2025-04-11 15:53:33"), None, True
            ),
            "2025-04-11 13:53:33",
        ),
        # British winter: all equal
        (
            TimeSources(at("2020-01-05 10:00:00"), at("2020-01-05T10:00:05.0"), at("2020-01-05 10:00:00"), None, True),
            "2020-01-05 10:00:00",
        ),
        # no context: the list is ahead of the summary by the zone
        (
            TimeSources(None, at("2017-02-01T00:00:25.513"), at("2017-01-31 19:00:18"), None, True),
            "2017-02-01 00:00:18",
        ),
        # no summary: the list is local
        (
            TimeSources(at("2025-04-11 13:53:33"), at("2025-04-11T15:53:46.806"), None, None, True),
            "2025-04-11 13:53:33",
        ),
        # India, half an hour
        (TimeSources(at("2025-04-11 06:00:00"), None, at("2025-04-11 11:30:00"), None, True), "2025-04-11 06:00:00"),
        # 2008: the list's FILETIME is UTC, the context local
        (
            TimeSources(ctx=at("2008-03-11 16:00:11"), list_utc=datetime(2008, 3, 11, 15, 0, 20, tzinfo=UTC)),
            "2008-03-11 15:00:11",
        ),
    ],
)
def test_the_start_in_utc(sources: TimeSources, expected: str) -> None:
    found = started_at(sources)
    assert found.at == at(expected).replace(tzinfo=UTC)
    assert found.local is None
    assert found.flags == ()


@pytest.mark.parametrize(
    ("sources", "local", "code"),
    [
        (TimeSources(ctx=at("2025-04-11 13:53:33"), ctx_is_utc=True), "2025-04-11 13:53:33", "time-zone-unknown"),
        (TimeSources(first_particle=at("2019-10-08T14:23:07.847")), "2019-10-08 14:23:07.847", "time-zone-unknown"),
        (TimeSources(summary=at("2019-10-08 14:23:07")), "2019-10-08 14:23:07", "time-zone-unknown"),
        (
            TimeSources(at("2020-01-05 10:00:00"), None, at("2020-01-05 10:00:00"), None, False),
            "2020-01-05 10:00:00",
            "time-zone-unknown",
        ),
        (
            TimeSources(at("2020-01-05 10:00:00"), None, at("2021-01-05 10:00:00"), None, True),
            "2021-01-05 10:00:00",
            "time-sources-disagree",
        ),
        # ten minutes are no zone: the first particle came late
        (
            TimeSources(None, at("2020-01-05T10:10:00.0"), at("2020-01-05 10:00:00"), None, True),
            "2020-01-05 10:00:00",
            "time-zone-unknown",
        ),
        (TimeSources(), None, "start-time-unknown"),
        (
            TimeSources(list_utc=datetime(2008, 3, 11, 15, 0, 20, tzinfo=UTC)),
            "2008-03-11T15:00:20.000Z",
            "start-time-unknown",
        ),
    ],
)
def test_no_start_where_the_zone_is_a_guess(sources: TimeSources, local: str | None, code: str) -> None:
    found = started_at(sources)
    assert found.at is None
    assert found.local == local
    assert found.flags[0].code == code


def test_times_that_are_none() -> None:
    assert parse_time("") is None
    assert parse_time(" ") is None
    assert parse_time("2008-13-01 00:00:00") is None
    assert parse_time("2025-04-11  15:53:33") == datetime(2025, 4, 11, 15, 53, 33)
    assert from_filetime(float("nan"), 0) is None
    assert from_filetime(0, 0) is None
    assert from_filetime(2**32 - 1, 0) is None
