"""The weights file of the native engine: int8 by output, in the order in which its kernels read them."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from halfling.errors import HalflingError
from halfling.export.rounding import PANEL, Evening, Inputs, Quantised, evening, quantise, steps
from halfling.files import whole_file
from halfling.records import EncoderShape

LANES, GELU_FLOOR = 16, np.float32(-0.17)
"""Floats of a vector; below what GELU gives. `native/kernels.h` has the same numbers."""
_INNER_GROUPS = (384, 512, 256, 448, 320, 192, 128, 64)
"""Channels of the inner layer that share a scale: the first of these that divides it, so that a group's states stay in
the second-level cache."""
_VERSION, _MOST_LAYERS, _ALIGNMENT = 2, 256, 64
_WORD_GROUP = 96

Weights = Mapping[str, np.ndarray]


def inner_group(width: int) -> int:
    """Return how many channels of an inner layer of `width` (a multiple of 64) share a scale."""
    return next(group for group in _INNER_GROUPS if width % group == 0)


def word_group(width: int) -> int:
    """Return how many channels of an embedding of `width` (a multiple of 16) share a scale."""
    return next(group for group in range(_WORD_GROUP, 0, -LANES) if width % group == 0)


def write_native(
    path: Path,
    shape: EncoderShape,
    weights: Weights,
    positions: Float32[np.ndarray, "positions width"],
    inputs: Mapping[str, Inputs],
    *,
    epsilon: float,
    by_token: bool,
    exit_layers: Sequence[int],
    group: int | None = None,
    wide_layers: tuple[int, ...] = (),
) -> None:
    """Write the weights of an encoder and its classifiers.

    Args:
        path: The file.
        shape: Of the encoder.
        weights: By the names that transformers gives them, float32.
        positions: Position embeddings, those of the token type added.
        inputs: What each linear layer reads on text, by its name; queries, keys and values share one.
        epsilon: Of the norms.
        by_token: Whether every token has an answer.
        exit_layers: Layers with a classifier, the last included.
        group: Channels of a token's state that share a scale, a multiple of 16 that divides the width; all of them
            when absent. Smaller groups bear larger channels, and take more time.
        wide_layers: Layers, from 1, whose products read activations of 16 bits instead of 8, in twice the time.

    Raises:
        HalflingError: The encoder's width is no multiple of 16.
        ValueError: `group` is none, or a wide layer is.
    """
    group = group or shape.width
    if shape.width % group or group % LANES:
        raise ValueError(f"group {group}: a multiple of {LANES} that divides {shape.width}")
    if shape.width % LANES:
        raise HalflingError(f"width {shape.width}: the native engine computes multiples of {LANES}: export for onnx")
    if not {*wide_layers} <= {*range(1, shape.num_layers + 1)}:
        raise ValueError(f"wide layers {wide_layers}: layers 1 to {shape.num_layers}")
    parts = _Parts(shape, weights, inputs, group, wide_layers)
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
        *(group, inner_group(parts.inner), word_group(shape.width), shape.vocab_size, len(positions)),
        *(classes, len(exit_layers), pooled),
    ]
    layers = [*exit_layers, *[0] * (_MOST_LAYERS - len(exit_layers))]
    wide = bytes(layer in wide_layers for layer in range(1, _MOST_LAYERS + 1))
    rest = struct.pack(f"<{len(numbers)}if{_MOST_LAYERS}i", *numbers, epsilon, *layers) + wide
    with whole_file(path) as partial, partial.open("wb") as file:
        _write(file, rest, sections)


def _write(file: BinaryIO, rest: bytes, sections: list[bytes]) -> None:
    def header(size: int, checksum: int) -> bytes:
        return struct.pack("<8sIIQ", b"HALFLING", _VERSION, checksum, size) + rest

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

    def __init__(
        self,
        shape: EncoderShape,
        weights: Weights,
        inputs: Mapping[str, Inputs],
        group: int,
        wide_layers: tuple[int, ...],
    ) -> None:
        self.shape, self.weights, self.inputs, self.group, self.wide = shape, weights, inputs, group, wide_layers
        self.depth = -(-shape.width // shape.num_heads // LANES) * LANES
        self.inner = -(-shape.ffn_width // PANEL) * PANEL

    def embeddings(self, positions: np.ndarray) -> list[bytes]:
        table = self.weights["roberta.embeddings.word_embeddings.weight"].astype(np.float32)
        rows = table.reshape(-1, word_group(self.shape.width))
        scales = steps(rows)
        return [
            np.round(rows / scales[:, None]).astype(np.int8).tobytes(),
            scales.tobytes(),
            positions.astype(np.float32).tobytes(),
            self._norm("roberta.embeddings.LayerNorm", self._evening_after(0)),
        ]

    def layer(self, number: int) -> list[bytes]:
        here = f"roberta.encoder.layer.{number}"
        attended, up = f"{here}.attention.output", f"{here}.intermediate.dense"
        middle = self._evening(up, self._linear(up)[0])
        context = self._evening(f"{attended}.dense", self._linear(f"{attended}.dense")[0])
        dense = self._quantised(f"{attended}.dense", context)
        more = self.inner - self.shape.ffn_width
        down = self._quantised(f"{here}.output.dense", Evening.none(self.shape.ffn_width))
        if number + 1 not in self.wide:  # activations are counted from the floor: see `ONE_SIDED` in native/kernels.h
            floor = GELU_FLOOR * down.scales * down.values.sum(axis=1, dtype=np.float32)
            down = down._replace(bias=down.bias + floor)
        return [
            self._projections(f"{here}.attention.self", self._evening_after(number), context).packed(self.group),
            dense._replace(values=self._deep(dense.values.T).T).packed(self.shape.num_heads * self.depth),
            self._norm(f"{attended}.LayerNorm", middle),
            Quantised(*(_more_rows(each, more) for each in self._quantised(up, middle))).packed(self.group),
            down._replace(values=_more_rows(down.values.T, more).T).packed(inner_group(self.inner)),
            self._norm(f"{here}.output.LayerNorm", self._evening_after(number + 1)),
        ]

    def head(self, name: str, layer: int) -> list[bytes]:
        dense = []
        if f"{name}.dense.weight" in self.weights:
            dense = [self._quantised(f"{name}.dense", self._evening_after(layer)).packed(self.group)]
            name = f"{name}.out_proj"
        return [*dense, *(each.tobytes() for each in self._linear(name))]

    def _evening(self, reader: str, weight: np.ndarray) -> Evening:
        seen = self.inputs[reader]
        return Evening(seen.mean, evening(seen.reach, weight))

    def _evening_after(self, layer: int) -> Evening:
        """Return what is done to the states after a layer (0: embeddings) for whatever reads them quantised."""
        if layer < self.shape.num_layers:
            name = f"roberta.encoder.layer.{layer}.attention.self"
            parts = (self._linear(f"{name}.{part}")[0] for part in ("query", "key", "value"))
            return self._evening(name, np.concatenate([*parts]))
        name = "classifier.dense"
        if f"{name}.weight" not in self.weights:
            return Evening.none(self.shape.width)
        return self._evening(name, self._linear(name)[0])

    def _projections(self, name: str, even: Evening, context: Evening) -> Quantised:
        """Return queries, keys and values as one layer, each filled up to whole panels."""
        parts = []
        for part in ("query", "key", "value"):
            weight, bias = self._linear(f"{name}.{part}")
            if part == "query":  # attention's scale
                factor = np.float32((self.shape.width // self.shape.num_heads) ** -0.5)
                weight, bias = weight * factor, bias * factor
            if part == "value":  # shares sum to one: what is done to the values is done to the context
                weight, bias = weight * context.factors[:, None], (bias - context.centers) * context.factors
            whole = quantise(weight, bias, self.inputs[name], even)
            more = -self.shape.num_heads * self.depth % PANEL
            parts.append([_more_rows(self._deep(each), more) for each in whole])
        return Quantised(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _quantised(self, name: str, even: Evening) -> Quantised:
        return quantise(*self._linear(name), self.inputs[name], even)

    def _deep(self, rows: np.ndarray) -> np.ndarray:
        """Return rows, which are the heads' channels, with rows of zero after each head's, up to whole vectors."""
        heads = rows.reshape(self.shape.num_heads, -1, *rows.shape[1:])
        filled = np.pad(heads, ((0, 0), (0, self.depth - heads.shape[1]), (0, 0))[: heads.ndim])
        return filled.reshape(-1, *rows.shape[1:])

    def _norm(self, name: str, even: Evening) -> bytes:
        return np.concatenate([np.stack(self._linear(name)), even.rows()]).astype(np.float32).tobytes()

    def _linear(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return weight.astype(np.float32), bias.astype(np.float32)


def _more_rows(array: np.ndarray, more: int) -> np.ndarray:
    return np.pad(array, ((0, more), (0, 0))[: array.ndim])
