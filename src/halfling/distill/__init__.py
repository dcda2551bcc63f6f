"""Distillation: a student learns its teacher's layers and its guesses at masked positions."""
