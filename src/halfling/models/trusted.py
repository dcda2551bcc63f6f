"""Whether a model folder can be trusted: its numbers are numbers, its parts fit each other.

transformers takes minus one layer for none, cuts off layers that the configuration does not count, and answers with
NaN. A score of such a model is a number too, so what is wrong is said before anything is computed.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, XLMRobertaConfig

from halfling.errors import HalflingError
from halfling.models.early_exit import XLMRobertaEarlyExitConfig

_SIDES = {
    "word_embeddings.weight": ("vocab_size", "hidden_size"),
    "position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "token_type_embeddings.weight": ("type_vocab_size", "hidden_size"),
    "encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
}
"""Tensors by the end of their names, and the settings that are their sides: from these follows all that is big."""

_SPARE_ROWS = 128
"""Embedding tables are rounded up to a multiple of this at most; more rows without a piece are another vocabulary's."""


def require_config(source: str | Path, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a configuration of another architecture, whose numbers are none, or that its own weights contradict.

    Args:
        source: Where the model is, for the message.
        config: Its `config.json`, or what that was converted to.
        shapes: Of its weights, by name.

    Raises:
        HalflingError: The line names the setting, and the tensor that contradicts it.
    """
    if (kind := config.get("model_type")) not in (XLMRobertaConfig.model_type, XLMRobertaEarlyExitConfig.model_type):
        raise HalflingError(
            f"{source}: a {kind or 'nameless'} model: halfling reads XLM-R's architecture (model_type xlm-roberta), "
            "and BERT's with XLM-R's vocabulary"
        )
    said = XLMRobertaConfig().to_dict() | dict(config)
    for name, value in said.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise HalflingError(f"{source}: config.json says {name}={value}, which is no number: {_RESTORE}")
    epsilon = said["layer_norm_eps"]
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise HalflingError(f"{source}: config.json says layer_norm_eps={epsilon}: between 0 and 1: {_RESTORE}")
    for name in ("num_hidden_layers", "num_attention_heads", *dict.fromkeys(sum(_SIDES.values(), ()))):
        if type(said[name]) is not int or said[name] < 1:
            raise HalflingError(f"{source}: config.json says {name}={said[name]!r}: a whole number from 1: {_RESTORE}")
    if said["max_position_embeddings"] < _FEWEST_POSITIONS:
        raise HalflingError(
            f"{source}: config.json says max_position_embeddings={said['max_position_embeddings']}: "
            f"{_FEWEST_POSITIONS} at least: {_RESTORE}"
        )
    if said["hidden_size"] % said["num_attention_heads"]:
        raise HalflingError(
            f"{source}: config.json says hidden_size={said['hidden_size']}, which is no multiple of "
            f"num_attention_heads={said['num_attention_heads']}: {_RESTORE}"
        )
    _require_encoder(source, config)
    _require_classes(source, config, said["num_hidden_layers"])
    layers = {int(found[1]): name for name in shapes if (found := re.search(r"encoder\.layer\.(\d+)\.", name))}
    if layers and max(layers) + 1 != said["num_hidden_layers"]:
        raise HalflingError(
            f"{source}: config.json says num_hidden_layers={said['num_hidden_layers']}, and its weights end with "
            f"{layers[max(layers)]}: {_RESTORE}"
        )
    for name, shape in shapes.items():
        sides = next((sides for end, sides in _SIDES.items() if name.endswith(end)), None)
        if sides and [*shape] != [said[side] for side in sides]:
            asked = ", ".join(f"{side}={said[side]}" for side in sides)
            raise HalflingError(f"{source}: its {name} is {[*shape]}, and config.json says {asked}: {_RESTORE}")


def _require_encoder(source: str | Path, config: Mapping[str, Any]) -> None:
    """Refuse what transformers would compute in another way, and halfling's engines as XLM-R does."""
    for name, its in {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}.items():
        if (value := config.get(name)) is not None and value != its:
            raise HalflingError(f"{source}: config.json says {name}={value!r}: halfling reads {json.dumps(its)} only")


def _require_classes(source: str | Path, config: Mapping[str, Any], num_layers: int) -> None:
    """Refuse a number of classes that is none, and exits that are no layers."""
    number = config.get("num_labels")
    if number is not None and (type(number) is not int or not 1 <= number <= _MOST_CLASSES):
        raise HalflingError(
            f"{source}: config.json says num_labels={number!r}: a whole number from 1 to {_MOST_CLASSES}: {_RESTORE}"
        )
    exits = config.get("exit_layers", [])
    layers = exits if isinstance(exits, list | tuple) else [exits]
    if layers is not exits or any(type(layer) is not int or not 1 <= layer <= num_layers for layer in layers):
        raise HalflingError(
            f"{source}: config.json says exit_layers={exits!r}: a list of layers from 1 to {num_layers}: {_RESTORE}"
        )


_MOST_CLASSES = 100_000
_FEWEST_POSITIONS = 3  # XLM-R's first token stands at position 2
_RESTORE = "restore the folder as it was saved"


def require_finite(source: str | Path, weights: Mapping[str, Tensor], advice: str) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        source: Where they come from, for the message.
        weights: By name.
        advice: What to do, the message's end.

    Raises:
        HalflingError: The line names the first such tensor.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not (found := torch.isfinite(weight)).all():
            raise HalflingError(f"{source}: {name} holds {int((~found).sum())} weights that are no numbers: {advice}")


def require_fit(source: str | Path, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Refuse a tokenizer that is not the model's.

    A table may have a few rows more than the tokenizer has pieces, as published ones do, and none less.

    Raises:
        HalflingError: It has more pieces than the model has rows, or far fewer, or other special ids, or it cuts long
            texts at their beginning.
    """
    pieces, rows = len(tokenizer), config.vocab_size
    if pieces > rows or rows > -(-pieces // _SPARE_ROWS) * _SPARE_ROWS:
        raise HalflingError(
            f"{source}: its tokenizer has {pieces} pieces, the model {rows}: save the model with its own tokenizer"
        )
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        said, its = getattr(config, name, None), getattr(tokenizer, name)
        if said is not None and said != its:
            raise HalflingError(
                f"{source}: its tokenizer's {name} is {its}, the model's {said}: save the model with its own tokenizer"
            )
    if tokenizer.truncation_side != "right":
        raise HalflingError(f"{source}: its tokenizer cuts the beginning of long texts: set truncation_side to right")


def stored_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shapes of all tensors in a folder's safetensors files, by name; none of what cannot be read."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return {}  # whoever loads it says what is wrong
    return shapes
