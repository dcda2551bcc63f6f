"""The embedded sample, written for this project: text, tagged sentences and inference pairs."""
