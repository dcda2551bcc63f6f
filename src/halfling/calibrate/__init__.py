"""Calibration: where to leave and when, from English dev alone, for what the user asks."""

from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.simulate import head_of
from halfling.calibrate.stage import calibrate

__all__ = ["CalibrateSettings", "calibrate", "head_of"]
