"""What VisualSpreadsheet writes about a run: optics, timing and volumes, as context file and run summary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from plankter.synthetic.measures import FRINGE_PX

FRAME_WIDTH_PX, FRAME_HEIGHT_PX = 1292, 964
LEFT, RIGHT, TOP, BOTTOM = 1, 1278, 1, 958  # the acceptable region; particles outside are not captured
VOLUME_CF = 0.8679  # VolumeCF of a real run at the same overlap of frames
CALIBRATION_ML = 0.0045
BEFORE_FIRST_FRAME_S, AFTER_LAST_FRAME_S = 9.163, 3.4
SOFTWARE_VERSION = "4.19.3"

Sections = dict[str, dict[str, str]]
Summary = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Optics:
    """An objective and the flow cell and pump speed that go with it."""

    magnification: int
    um_per_px: float
    depth_um: int
    flow_ml_per_min: float
    frames_per_s: float


OPTICS = (
    Optics(4, 1.3792, 300, 1.7, 12.0),
    Optics(10, 0.5479, 100, 0.15, 17.0),
    Optics(20, 0.2758, 50, 0.03, 20.0),
)


@dataclass(frozen=True)
class Capture:
    """The figures of one run from which all its files are written."""

    name: str
    optics: Optics
    um_per_px: float
    started_at: datetime  # UTC
    local_offset: timedelta
    frames: int
    frames_used: int
    particles: int
    frame_mean: float

    @property
    def volume_imaged_ml(self) -> float:
        """V = (right-left+1)(bottom-top+1) * scale^2 * depth * 1e-12 * frames * VolumeCF, in mL."""
        pixels = (RIGHT - LEFT + 1) * (BOTTOM - TOP + 1)
        return pixels * self.um_per_px**2 * self.optics.depth_um * 1e-12 * self.frames * VOLUME_CF

    @property
    def sampling_s(self) -> float:
        """Time of sampling, in s."""
        return self.frames / self.optics.frames_per_s

    @property
    def processed_ml(self) -> float:
        """Fluid that went through the flow cell, in mL, as the instrument rounds it."""
        return round(self.optics.flow_ml_per_min * self.sampling_s / 60, 4)

    @property
    def efficiency_percent(self) -> float:
        """Volume imaged of the fluid processed, in %."""
        return 100 * self.volume_imaged_ml / self.processed_ml

    @property
    def ended_at(self) -> datetime:
        """When the instrument stopped, UTC."""
        return self.started_at + timedelta(seconds=BEFORE_FIRST_FRAME_S + self.sampling_s + AFTER_LAST_FRAME_S)

    def local_time_of(self, elapsed_s: float) -> datetime:
        """The list's own clock, local as in VisualSpreadsheet 4.19."""
        return self.started_at + self.local_offset + timedelta(seconds=BEFORE_FIRST_FRAME_S + elapsed_s)


def nearest_optics(um_per_px: float) -> Optics:
    """The objective whose scale comes closest.

    Raises:
        ValueError: a scale that is no positive number.
    """
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise ValueError(f"um_per_px must be above 0, got {um_per_px}")
    return min(OPTICS, key=lambda optics: abs(math.log(optics.um_per_px / um_per_px)))


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def context_sections(capture: Capture) -> Sections:
    """The `.ctx`: settings of VisualSpreadsheet 4.19, times in UTC."""
    return {**_instrument_sections(capture), **_fluid_sections(capture), "CaptureStats": _stats(capture)}


def _instrument_sections(capture: Capture) -> Sections:
    return {
        "Software": {
            "SoftwareName": "VisualSpreadsheet",
            "SoftwareVersion": SOFTWARE_VERSION,
            "SoftwareBetaFlag": "0",
            "CameraMagnification": str(capture.optics.magnification),
            "DspFirmwareVersion": "55",
        },
        "General": {
            "TechnicianName": "",
            "LocationName": "",
            "LocationLatitude": "",
            "LocationLongitude": "",
            "RunStartTime": _stamp(capture.started_at),
            "RunEndTime": _stamp(capture.ended_at),
            "TimeZone": "",
        },
        "CameraBehavior": {
            "AutoImageRate": f"{capture.optics.frames_per_s:.0f}",
            "FlashDuration": "70.00",
            "FlashAmplitude": "50",
            "FlashDelay": "100.00",
            "RecoveryTime": "1.00",
            "LaserCycleTime": "1250.00",
            "CameraTriggerDuration": "25.00",
        },
        "Fluorescence": {"Ch1Measure": "0", "Ch1Trigger": "0", "Ch1Threshold": "400", "Ch2Measure": "0"},
        "Laser": {"Enabled": "0"},
        "Camera": {
            "AutoTriggerFlag": "1",
            "CameraName": "SONY_XCD_SX90",
            "Initialization": "M_1280X960_MONO8_FORMAT_7_0",
            "Shutter": "8",
            "Gain": "30",
            "ImageWidth": str(FRAME_WIDTH_PX),
            "ImageHeight": str(FRAME_HEIGHT_PX),
        },
        "RunTermination": {"MaxParticles": str(capture.particles), "StopOnMaxParticles": "1", "StopOnUserOnly": "0"},
        "Files": {"RecalibrationIntervalMinutes": "30"},
    }


def _fluid_sections(capture: Capture) -> Sections:
    optics = capture.optics
    return {
        "Fluid": {
            "FlowCellType": f"FC{optics.depth_um}",
            "FlowCellDepth": str(optics.depth_um),
            "FlowCellWidth": "2000",
            "UseManualVolume": "0",
            "ManualVolumeML": "1.0000",
            "FluidVolumeImaged_ml": "0.0000",
            "UseDeadVolumeCalculation": "0",
            "UseDilutionCalculation": "0",
            "SampleDilution": "1",
            "PumpFlowRate": f"{optics.flow_ml_per_min:.4f}",
            "PrimingMethod": "0",
            "CalibrationConstant": f"{capture.um_per_px:.4f}",
            "FringeSize": f"{FRINGE_PX:.4f}",
        },
        "CaptureRegion": {
            "AcceptableLeft": str(LEFT),
            "AcceptableRight": str(RIGHT),
            "AcceptableTop": str(TOP),
            "AcceptableBottom": str(BOTTOM),
            "ImagePixelBorder": "5",
            "SaveImageFiles": "1",
            "SaveBinaryImageFiles": "1",
            "SaveRawFiles": "0",
            "FlatFieldCount": "10",
        },
        "CaptureParameters": {
            "DistanceToNeighbor": "5.0000",
            "ThresholdDark": "15.0000",
            "ThresholdLight": "15.0000",
            "CloseHoles": "1",
            "CaptureDarkOrLightPixels": "0",
            "MinESD": "3.0000",
            "MaxESD": "10000.0000",
            "SimpleCaptureFilterDiameter": "1",
            "UseAdvancedFilter": "0",
        },
        "RollingCal": {"Enabled": "0", "FrameCount": "10"},
    }


def _stats(capture: Capture) -> dict[str, str]:
    return {
        "RawImageTotal": str(capture.frames),
        "RunTimeMilliSeconds": str(round(capture.sampling_s * 1000)),
        "CalibrationsCompletedCount": "1",
        "SampleVolumeAspirated": f"{capture.processed_ml + CALIBRATION_ML:.4f}",
        "CalibrationFluidVolume": f"{CALIBRATION_ML:.4f}",
        "CalibrationFluidVolumeNonsample": f"{CALIBRATION_ML:.4f}",
        "CSPumpFlowRate": f"{capture.optics.flow_ml_per_min:.4f}",
        "ConcentrationType": "0",
        "ParticlesPerUsedImage": f"{capture.particles / capture.frames_used:.4f}",
        "ParticlesPerImage": f"{capture.particles / capture.frames:.4f}",
        "Efficiency": f"{capture.efficiency_percent:.4f}",
        "VolumeCF": f"{VOLUME_CF:.4f}",
        "IncludesVolumeCF": "1",
        "AutoTrigger": "1",
        "FileProcessing": "0",
        "UsingSyringePump": "1",
    }


def summary_sections(capture: Capture) -> Summary:
    """The `_run_summary.txt`: times are local."""
    optics, seconds = capture.optics, round(capture.sampling_s)
    per_image = f"{capture.particles / capture.frames:.2f}"
    local = capture.local_offset
    return {
        "Run": [
            ("Mode", "AutoImage"),
            ("Priming Method", "machine prime"),
            ("Flow Rate", f"{optics.flow_ml_per_min:.3f} ml/min"),
            ("Recalibrations", "0"),
            ("Stop Reason", "Particle Count"),
            ("Sample Volume Aspirated", f"{capture.processed_ml + CALIBRATION_ML:.4f} ml"),
            ("Sample Volume Processed", f"{capture.processed_ml:.4f} ml"),
            ("Fluid Volume Imaged", f"{capture.volume_imaged_ml:.4f} ml"),
            ("Efficiency", f"{capture.efficiency_percent:.1f}%"),
            ("Particle Count", str(capture.particles)),
        ],
        "Images": [
            ("Total", str(capture.frames)),
            ("Used", str(capture.frames_used)),
            ("Percentage Used", f"{100 * capture.frames_used / capture.frames:.2f}%"),
            ("Particles Per Used Image", f"{capture.particles / capture.frames_used:.2f}"),
            ("Particles Per Image", per_image),
            ("Particles Per Image", per_image),
            ("Frame Rate", f"{optics.frames_per_s:.2f} fps"),
            ("Intensity Mean", f"{capture.frame_mean:.2f}"),
            ("Intensity Min", f"{capture.frame_mean - 0.6:.2f}"),
            ("Intensity Max", f"{capture.frame_mean + 0.6:.2f}"),
        ],
        "Date/Time": [
            ("Start", _stamp(capture.started_at + local)),
            ("End", _stamp(capture.ended_at + local)),
            ("Sampling Time", f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"),
        ],
        "Environment": [
            ("Software", f"VisualSpreadsheet {SOFTWARE_VERSION}"),
            ("Magnification", f"{optics.magnification}X"),
            ("Calibration Factor", f"{capture.um_per_px:.4f}"),
            ("Calibration Factor", f"{capture.um_per_px:.4f}"),
            ("SerialNo", "Unknown"),
            ("Number of Processors", "8"),
            ("Pump", "C70 Syringe"),
            ("Syringe Size", "1.00 ml"),
        ],
    }
