"""Exits: classifiers after intermediate layers, put on a fine-tuned model and trained."""
