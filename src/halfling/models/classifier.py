"""Classifiers and taggers of XLM-R's architecture, plain or with exits, whoever fine-tuned them."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedModel, XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification

from halfling import json_text
from halfling.errors import HalflingError
from halfling.models import (
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)
from halfling.models.load import load_model
from halfling.models.trusted import require_config

Head = Literal["sequence", "token"]

PLAIN: dict[Head, type[PreTrainedModel]] = {
    "sequence": XLMRobertaForSequenceClassification,
    "token": XLMRobertaForTokenClassification,
}
"""By what they answer: once a text, or once a token."""

EARLY_EXIT: dict[Head, type[PreTrainedModel]] = {
    "sequence": XLMRobertaEarlyExitForSequenceClassification,
    "token": XLMRobertaEarlyExitForTokenClassification,
}

_READ = "halfling reads XLM-R's architecture (model_type xlm-roberta) for sequence or token classification"


class Checkpoint(NamedTuple):
    """What a trained model's configuration says of it.

    Attributes:
        head: What it answers.
        labels: Names of its classes, in the order of their numbers.
        exit_layers: Layers with an exit, the last included; of a plain model the last alone.
        has_exits: Whether it is an early-exit model.
    """

    head: Head
    labels: tuple[str, ...]
    exit_layers: tuple[int, ...]
    has_exits: bool


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return what a model folder holds.

    Raises:
        HalflingError: There is no model, or one that halfling does not read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise HalflingError(f"{folder}: no model here (no config.json): name a fine-tuned model's folder")
    try:
        config: dict[str, Any] = json_text.read(path)
        kind, named = config.get("model_type"), str((config.get("architectures") or [""])[0])
        layers = int(config["num_hidden_layers"]) if kind in _TYPES else 0
        names = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise HalflingError(f"{path}: no model's configuration ({error})") from error
    head: Head | None = next((h for h in PLAIN if named.endswith(f"For{h.capitalize()}Classification")), None)
    if kind not in _TYPES or head is None:
        raise HalflingError(f"{folder}: a {kind or 'nameless'} model ({named or 'no architecture'}): {_READ}")
    if config.get("problem_type") in ("multi_label_classification", "regression"):
        raise HalflingError(f"{folder}: problem_type {config['problem_type']}: halfling answers with one label a text")
    require_config(folder, config, {})
    if not names:  # transformers leaves two nameless ones out
        names = {number: f"LABEL_{number}" for number in range(int(config.get("num_labels") or 2))}
    if sorted(names) != list(range(len(names))):
        raise HalflingError(f"{path}: id2label numbers {sorted(names)} have a gap: name every class from 0")
    labels = tuple(names[number] for number in range(len(names)))
    if len({*labels}) < max(2, len(labels)):
        raise HalflingError(f"{folder}: its labels are {', '.join(labels)}: two at least are needed, all different")
    has_exits = kind == XLMRobertaEarlyExitConfig.model_type
    exits = tuple(sorted({*config.get("exit_layers", ()), layers})) if has_exits else (layers,)
    return Checkpoint(head, labels, exits, has_exits)


def is_classifier(folder: Path) -> bool:
    """Return whether a folder holds a model that halfling reads as a classifier, plain or with exits."""
    try:
        return bool(read_checkpoint(folder).labels)
    except HalflingError:
        return False


_TYPES = ("xlm-roberta", XLMRobertaEarlyExitConfig.model_type)


def load_classifier(folder: Path) -> PreTrainedModel:
    """Return the trained model of a folder, plain or with exits, in float32.

    Raises:
        HalflingError: There is none that halfling reads, or its files are damaged or incomplete.
    """
    found = read_checkpoint(folder)
    return load_model((EARLY_EXIT if found.has_exits else PLAIN)[found.head], folder)
