"""The adaptive engine: an exported model that answers, without torch or transformers installed."""

from halfling.engine.adaptive import AdaptiveEngine
from halfling.engine.answer import Answer
from halfling.engine.prediction import Prediction, Span
from halfling.tasks.encoded import Encoded

__all__ = ["AdaptiveEngine", "Answer", "Encoded", "Prediction", "Span"]
