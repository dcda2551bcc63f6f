"""Calibration: where to leave and when, from English dev alone, for what the user asks."""

from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.stage import calibrate
from halfling.calibrate.trial import head_of

__all__ = ["CalibrateSettings", "calibrate", "head_of"]
