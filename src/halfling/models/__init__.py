"""Models: shapes, the early-exit model and how a model is loaded; importing this registers them with transformers."""

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from halfling.models.early_exit import (
    EarlyExitOutput,
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)

# `exist_ok`: `import halfling` has entered the name already.
AutoConfig.register(XLMRobertaEarlyExitConfig.model_type, XLMRobertaEarlyExitConfig, exist_ok=True)
AutoModelForSequenceClassification.register(XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForSequenceClassification)
AutoModelForTokenClassification.register(XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForTokenClassification)

__all__ = [
    "EarlyExitOutput",
    "XLMRobertaEarlyExitConfig",
    "XLMRobertaEarlyExitForSequenceClassification",
    "XLMRobertaEarlyExitForTokenClassification",
]
