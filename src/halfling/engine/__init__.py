"""The adaptive engine: an exported model that answers, without torch or transformers installed."""

from halfling.engine.adaptive import AdaptiveEngine, Answer, Prediction, Span
from halfling.engine.text import Encoded

__all__ = ["AdaptiveEngine", "Answer", "Encoded", "Prediction", "Span"]
