"""Evaluation: quality in every language, and what it costs."""
