"""Calibration: where to leave and when, from English dev alone, for what the user asks."""

from halfling.calibrate.stage import CalibrateSettings, calibrate, head_of

__all__ = ["CalibrateSettings", "calibrate", "head_of"]
