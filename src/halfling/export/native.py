"""The weights file of the native engine: int8 by output, in the order in which its kernels read them."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float32, Int8

from halfling.errors import HalflingError
from halfling.files import whole_file
from halfling.records import EncoderShape

PANEL, LANES = 64, 16
"""Outputs that lie together in a weight matrix; floats of a vector. `native/kernels.h` has the same numbers."""
_INNER_GROUPS = (384, 512, 256, 448, 320, 192, 128, 64)
"""Channels of the inner layer that share a scale: the first of these that divides it, so that a group's states stay in
the second-level cache."""
_VERSION, _MOST_LAYERS, _ALIGNMENT = 1, 256, 64

Weights = Mapping[str, np.ndarray]


class Quantised(NamedTuple):
    """A linear layer in 8 bits: the weight of output o and input i is `values[o, i] * scales[o]`."""

    values: Int8[np.ndarray, "outputs inputs"]
    scales: Float32[np.ndarray, " outputs"]
    bias: Float32[np.ndarray, " outputs"]

    def packed(self, group: int) -> bytes:
        """Return the layer as the file holds it, for activations with a scale for each `group` of inputs."""
        outputs, inputs = self.values.shape
        order = self.values.reshape(outputs // PANEL, PANEL, inputs // 4, 4).transpose(0, 2, 1, 3)
        # Some processors multiply unsigned bytes: activations are raised by 128, and this is taken off again.
        sums = -128 * self.values.reshape(outputs, inputs // group, group).sum(axis=-1, dtype=np.int32).T
        arrays = (order, self.scales, self.bias, sums)
        return b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)


def quantise(weight: Float32[np.ndarray, "outputs inputs"], bias: Float32[np.ndarray, " outputs"]) -> Quantised:
    """Return a linear layer with weights in 127ths of each output's largest, and outputs of zero up to whole panels."""
    largest = np.abs(weight).max(axis=1)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(127)
    values = np.round(weight / scales[:, None]).astype(np.int8)
    more = -len(weight) % PANEL
    return Quantised(np.pad(values, ((0, more), (0, 0))), np.pad(scales, (0, more)), np.pad(bias, (0, more)))


def evening(
    reach: Float32[np.ndarray, " width"], weight: Float32[np.ndarray, "outputs width"]
) -> Float32[np.ndarray, " width"]:
    """Return what each channel of a norm's output is multiplied by before it is quantised for a linear layer.

    The layer's weights are divided by it. A channel that is large and matters little shrinks, so that it does not
    take the others' bits: SmoothQuant with alpha 0.5 (https://arxiv.org/abs/2211.10438).

    Args:
        reach: The largest magnitude that each channel was seen with.
        weight: Of the linear layer.
    """
    need = np.abs(weight).max(axis=0)
    there = (reach > 0) & (need > 0)
    return np.sqrt(np.where(there, need, 1) / np.where(there, reach, 1)).astype(np.float32)


def inner_group(width: int) -> int:
    """Return how many channels of an inner layer of `width` (a multiple of 64) share a scale."""
    return next(group for group in _INNER_GROUPS if width % group == 0)


def write_native(
    path: Path,
    shape: EncoderShape,
    weights: Weights,
    positions: Float32[np.ndarray, "positions width"],
    reach: Weights,
    *,
    epsilon: float,
    by_token: bool,
    exit_layers: Sequence[int],
    group: int | None = None,
) -> None:
    """Write the weights of an encoder and its classifiers.

    Args:
        path: The file.
        shape: Of the encoder.
        weights: By the names that transformers gives them, float32.
        positions: Position embeddings, those of the token type added.
        reach: The largest magnitude that each channel of a norm's output was seen with, by the norm's name.
        epsilon: Of the norms.
        by_token: Whether every token has an answer.
        exit_layers: Layers with a classifier, the last included.
        group: Channels of a token's state that share a scale, a multiple of 16 that divides the width; all of them
            when absent. Smaller groups bear larger channels, and take more time.

    Raises:
        HalflingError: The encoder's width is no multiple of 16.
        ValueError: `group` is none.
    """
    group = group or shape.width
    if shape.width % group or group % LANES:
        raise ValueError(f"group {group}: a multiple of {LANES} that divides {shape.width}")
    if shape.width % LANES:
        raise HalflingError(f"width {shape.width}: the native engine computes multiples of {LANES}: export for onnx")
    parts = _Parts(shape, weights, reach, group)
    sections = [*parts.embeddings(positions)]
    for layer in range(shape.num_layers):
        sections += parts.layer(layer)
    # Classifiers read states that are quantised for the layer after them.
    last, pooled, classes = shape.num_layers, False, 0
    for layer in exit_layers:
        head = parts.head("classifier" if layer == last else f"exits.{layer}", layer)
        pooled, classes = len(head) == 3, len(head[-1]) // 4
        sections += head
    numbers = [
        *(len(sections), by_token, shape.num_layers, shape.width, shape.num_heads, parts.depth, parts.inner),
        *(group, inner_group(parts.inner), shape.vocab_size, len(positions), classes, len(exit_layers), pooled),
    ]
    layers = [*exit_layers, *[0] * (_MOST_LAYERS - len(exit_layers))]
    with whole_file(path) as partial, partial.open("wb") as file:
        _write(file, numbers, epsilon, layers, sections)


def _write(file: BinaryIO, numbers: list[int], epsilon: float, layers: list[int], sections: list[bytes]) -> None:
    def header(size: int, checksum: int) -> bytes:
        front = struct.pack("<8sIIQ", b"HALFLING", _VERSION, checksum, size)
        return front + struct.pack(f"<{len(numbers)}if{_MOST_LAYERS}i4x", *numbers, epsilon, *layers)

    end = _aligned(len(header(0, 0)) + 16 * len(sections))
    table = []
    for section in sections:
        table.append(struct.pack("<QQ", end, len(section)))
        end = _aligned(end + len(section))
    checksum = zlib.crc32(header(end, 0) + b"".join(table))
    for part in (header(end, checksum) + b"".join(table), *sections):
        file.write(part)
        file.write(bytes(-len(part) % _ALIGNMENT))


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


class _Parts:
    """Cuts a model's weights into the file's sections."""

    def __init__(self, shape: EncoderShape, weights: Weights, reach: Weights, group: int) -> None:
        self.shape, self.weights, self.reach, self.group = shape, weights, reach, group
        self.depth = -(-shape.width // shape.num_heads // LANES) * LANES
        self.inner = -(-shape.ffn_width // PANEL) * PANEL

    def embeddings(self, positions: np.ndarray) -> list[bytes]:
        table = self.weights["roberta.embeddings.word_embeddings.weight"]
        rows = quantise(table, np.zeros(len(table), np.float32))
        return [
            rows.values[: len(table)].tobytes(),
            rows.scales[: len(table)].tobytes(),
            positions.astype(np.float32).tobytes(),
            self._norm("roberta.embeddings.LayerNorm", self._evening_after(0)),
        ]

    def layer(self, number: int) -> list[bytes]:
        here = f"roberta.encoder.layer.{number}"
        attention = f"{here}.attention"
        dense, shift = self._linear(f"{attention}.output.dense")
        up, offset = self._linear(f"{here}.intermediate.dense")
        down, back = self._linear(f"{here}.output.dense")
        more = self.inner - self.shape.ffn_width
        even = evening(self.reach[f"{attention}.output.LayerNorm"], up)
        return [
            self._projections(f"{attention}.self", self._evening_after(number)).packed(self.group),
            quantise(self._deep(dense.T).T, shift).packed(self.shape.num_heads * self.depth),
            self._norm(f"{attention}.output.LayerNorm", even),
            quantise(np.pad(up / even, ((0, more), (0, 0))), np.pad(offset, (0, more))).packed(self.group),
            quantise(np.pad(down, ((0, 0), (0, more))), back).packed(inner_group(self.inner)),
            self._norm(f"{here}.output.LayerNorm", self._evening_after(number + 1)),
        ]

    def head(self, name: str, layer: int) -> list[bytes]:
        dense = []
        if f"{name}.dense.weight" in self.weights:
            weight, bias = self._linear(f"{name}.dense")
            dense = [quantise(weight / self._evening_after(layer), bias).packed(self.group)]
            name = f"{name}.out_proj"
        return [*dense, *(each.tobytes() for each in self._linear(name))]

    def _evening_after(self, layer: int) -> np.ndarray:
        """Return the factors of the states after a layer (0: embeddings) for whatever reads them quantised."""
        norm = "roberta.embeddings" if layer == 0 else f"roberta.encoder.layer.{layer - 1}.output"
        attention = f"roberta.encoder.layer.{layer}.attention.self"
        readers = [f"{attention}.{part}" for part in ("query", "key", "value")]
        if layer == self.shape.num_layers:
            readers = ["classifier.dense"] if "classifier.dense.weight" in self.weights else []
        if not readers:
            return np.ones(self.shape.width, np.float32)
        weight = np.concatenate([self._linear(name)[0] for name in readers])
        return evening(self.reach[f"{norm}.LayerNorm"], weight)

    def _projections(self, name: str, even: np.ndarray) -> Quantised:
        """Return queries, keys and values as one layer, each filled up to whole panels."""
        parts = []
        for part in ("query", "key", "value"):
            weight, bias = self._linear(f"{name}.{part}")
            # Attention's scale is the queries'.
            factor = (self.shape.width // self.shape.num_heads) ** -0.5 if part == "query" else 1
            parts.append(quantise(self._deep(weight / even * factor), self._deep(bias[:, None] * factor)[:, 0]))
        return Quantised(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _deep(self, rows: np.ndarray) -> np.ndarray:
        """Return rows, which are the heads' channels, with rows of zero after each head's, up to whole vectors."""
        heads = rows.reshape(self.shape.num_heads, -1, rows.shape[-1])
        filled = np.pad(heads, ((0, 0), (0, self.depth - heads.shape[1]), (0, 0)))
        return filled.reshape(-1, rows.shape[-1]).astype(np.float32)

    def _norm(self, name: str, even: np.ndarray) -> bytes:
        return np.stack([*self._linear(name), even]).astype(np.float32).tobytes()

    def _linear(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return weight.astype(np.float32), bias.astype(np.float32)
