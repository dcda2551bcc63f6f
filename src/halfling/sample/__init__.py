"""The embedded sample, written for this project: text, tagged sentences and inference pairs."""

from halfling.sample.write import SampleSettings, write_sample

__all__ = ["SampleSettings", "write_sample"]
