"""BERT's layout turned into XLM-R's: the same layers under other names, the first position in another row.

intfloat/multilingual-e5-small, microsoft/Multilingual-MiniLM-L12-H384 and sentence-transformers'
paraphrase-multilingual-MiniLM-L12-v2 are such: `model_type: bert` with the 250,002 pieces of XLM-R.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import XLMRobertaConfig

from halfling.errors import HalflingError
from halfling.models.shapes import BOS, EOS, FIRST_POSITION, PAD
from halfling.records import Origin

KIND = "bert"
"""`model_type` of such a model."""

_HEAD = {
    "cls.predictions.transform.dense": "lm_head.dense",
    "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
    "cls.predictions": "lm_head",
}
_WORDS, _POSITIONS, _TYPES = (
    f"roberta.embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
)


class Converted(NamedTuple):
    """An encoder as XLM-R has it: configuration, and weights by the names of `XLMRobertaForMaskedLM`.

    `config.origin` is an `Origin` as JSON. Pooler and language-model head are there if the source has them.
    """

    config: XLMRobertaConfig
    weights: dict[str, Tensor]


def converted(settings: Mapping[str, Any], weights: Mapping[str, Tensor], num_pieces: int, origin: Origin) -> Converted:
    """Return a BERT encoder in XLM-R's layout: the same hidden states for the same ids.

    Position row p becomes row p + 2, since XLM-R counts from there, and token type 0 the only type. Rows of word
    embeddings for which the tokenizer has no piece are cut.

    Args:
        settings: BERT's configuration.
        weights: By the names of `BertModel` or `BertForMaskedLM`.
        num_pieces: The size of its tokenizer, special tokens included.
        origin: What the model was made of.

    Raises:
        ValueError: It is no encoder that XLM-R's layout can hold.
    """
    for name, wanted in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        if settings.get(name, wanted) != wanted:
            raise ValueError(f"its {name} is {settings[name]}: halfling converts encoders of {name} {wanted} only")
    state = {_renamed(name): weight.float() for name, weight in weights.items() if not name.endswith("position_ids")}
    for name in (_WORDS, _POSITIONS, _TYPES):
        if name not in state:
            raise ValueError(f"its weights hold no {name.removeprefix('roberta.')}")
    unused = len(state[_WORDS]) - num_pieces
    if unused < 0:
        raise ValueError(f"it has {len(state[_WORDS])} word embeddings, its tokenizer {num_pieces} pieces")
    note = f"{origin.note}, converted from BERT's layout"
    if unused:
        note += f", {unused} rows of word embeddings without a piece cut"
    for name in (_WORDS, "lm_head.bias"):
        if name in state:
            state[name] = state[name][:num_pieces].clone()
    positions = state[_POSITIONS]
    state[_POSITIONS] = torch.cat([positions.new_zeros(FIRST_POSITION, positions.shape[1]), positions])
    state[_TYPES] = state[_TYPES][:1].clone()
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    also = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps")
    config = XLMRobertaConfig(
        **{name: settings[name] for name in kept},
        **{name: settings[name] for name in also if name in settings},
        vocab_size=num_pieces,
        max_position_embeddings=len(positions) + FIRST_POSITION,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        dtype="float32",
        origin=origin.model_copy(update={"note": note}).model_dump(),
    )
    return Converted(config, state)


def _renamed(name: str) -> str:
    # Checkpoints of TensorFlow's days say gamma and beta.
    name = re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)
    for theirs, ours in _HEAD.items():
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    bare = name.removeprefix("bert.")
    return f"roberta.{bare}" if bare.startswith(("embeddings.", "encoder.", "pooler.")) else name


def read_bert(folder: Path, settings: Mapping[str, Any], num_pieces: int) -> Converted:
    """Return the model of a folder in BERT's layout.

    Raises:
        HalflingError: It holds no safetensors, or what XLM-R's layout cannot hold.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        pickled = [path.name for path in sorted(folder.glob("pytorch_model*.bin"))]
        raise HalflingError(
            f"{called(folder)}: holds no model.safetensors{f', only {pickled[0]}' if pickled else ''}: halfling reads "
            "safetensors only: save it with transformers' save_pretrained"
        )
    name = called(folder) if "/snapshots/" in folder.as_posix() else folder.name  # a published model names no place
    try:
        weights = {name: weight for file in files for name, weight in load_file(file).items()}
        return converted(settings, weights, num_pieces, Origin(model=name, note=name))
    except SafetensorError as error:
        raise HalflingError(f"{called(folder)}: no model could be loaded from this folder ({error})") from error
    except KeyError as error:
        raise HalflingError(f"{folder}/config.json: says nothing of {error}") from error
    except ValueError as error:
        raise HalflingError(f"{called(folder)}: {error}") from error


def called(folder: Path) -> str:
    """Return the hub id of a folder in the hub's cache, else where it lies."""
    found = re.search(r"models--(.+?)--(.+?)/snapshots/", folder.as_posix())
    return f"{found[1]}/{found[2]}" if found else str(folder)
