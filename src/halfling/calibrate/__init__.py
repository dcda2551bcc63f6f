"""Calibration: where to exit and when, from the dev split of the training languages, for what the user asks."""
