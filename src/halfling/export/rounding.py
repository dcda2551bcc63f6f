"""Linear layers in 8 bits: which whole number stands for a weight, so that outputs on text change least."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int8

PANEL = 64
"""Outputs that lie together in a weight matrix. `native/kernels.h` has the same number."""
_LEVELS = np.float32(127)
_BLOCK = 64
_DAMPING = 0.1


class Inputs(NamedTuple):
    """What a linear layer reads on text.

    Attributes:
        mean: Of each channel.
        reach: The largest distance of each channel from its mean.
        covariance: Of the channels.
    """

    mean: Float32[np.ndarray, " inputs"]
    reach: Float32[np.ndarray, " inputs"]
    covariance: Float32[np.ndarray, "inputs inputs"]


class Evening(NamedTuple):
    """What is done to the channels of an activation before it is quantised: less the centers, times the factors."""

    centers: Float32[np.ndarray, " width"]
    factors: Float32[np.ndarray, " width"]

    @classmethod
    def none(cls, width: int) -> "Evening":
        """Return the one that changes nothing."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))

    def rows(self) -> Float32[np.ndarray, "2 width"]:
        """Return factors and shifts, as the engine applies them."""
        return np.stack([self.factors, -self.centers * self.factors])


class Quantised(NamedTuple):
    """A linear layer in 8 bits: the weight of output o and input i is `values[o, i] * scales[o]`."""

    values: Int8[np.ndarray, "outputs inputs"]
    scales: Float32[np.ndarray, " outputs"]
    bias: Float32[np.ndarray, " outputs"]

    def packed(self, group: int) -> bytes:
        """Return the layer as the file holds it, for activations with a scale for each `group` of inputs."""
        more = -len(self.values) % PANEL
        values, scales, bias = (np.pad(each, ((0, more), (0, 0))[: each.ndim]) for each in self)
        outputs, inputs = values.shape
        order = values.reshape(outputs // PANEL, PANEL, inputs // 4, 4).transpose(0, 2, 1, 3)
        # Some processors multiply unsigned bytes: activations are raised by 128, and this is taken off again.
        sums = -128 * values.reshape(outputs, inputs // group, group).sum(axis=-1, dtype=np.int32).T
        arrays = (order, scales, bias, sums)
        return b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)


def evening(
    reach: Float32[np.ndarray, " width"], weight: Float32[np.ndarray, "outputs width"]
) -> Float32[np.ndarray, " width"]:
    """Return what each channel of an activation is multiplied by before it is quantised for a linear layer.

    The layer's weights are divided by it. A channel that is large and matters little shrinks, so that it does not
    take the others' bits. SmoothQuant (https://arxiv.org/abs/2211.10438) with alpha 0.6 and, for its largest weight,
    the length of a channel's weights.

    Args:
        reach: How far each channel was seen from its center.
        weight: Of the linear layer.
    """
    need = np.linalg.norm(weight, axis=0)
    there = (reach > 0) & (need > 0)
    return (np.where(there, need, 1) ** 0.4 / np.where(there, reach, 1) ** 0.6).astype(np.float32)


def steps(rows: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, " rows"]:
    """Return the 127th part of each row's largest magnitude."""
    largest = np.abs(rows).max(axis=1)
    return np.where(largest > 0, largest, 1).astype(np.float32) / _LEVELS


def quantise(
    weight: Float32[np.ndarray, "outputs inputs"],
    bias: Float32[np.ndarray, " outputs"],
    inputs: Inputs,
    even: Evening,
) -> Quantised:
    """Return a linear layer in 8 bits for activations that are evened out, its mean output on text unchanged."""
    evened = weight / even.factors
    scales = steps(evened)
    values = rounded(evened, scales, inputs.covariance * np.outer(even.factors, even.factors))
    seen = (values * scales[:, None]) @ ((inputs.mean - even.centers) * even.factors)
    return Quantised(values, scales, (bias + weight @ inputs.mean - seen).astype(np.float32))


def rounded(
    weight: Float32[np.ndarray, "outputs inputs"],
    scales: Float32[np.ndarray, " outputs"],
    covariance: Float[np.ndarray, "inputs inputs"],
) -> Int8[np.ndarray, "outputs inputs"]:
    """Return weights in whole numbers of `scales`, within 127, that change outputs least for inputs of a covariance.

    One input's weights are rounded after the other, and those that remain make up for the error: GPTQ
    (https://arxiv.org/abs/2210.17323), inputs that vary most first.
    """
    order = np.argsort(-np.diagonal(covariance), kind="stable")
    known = covariance[np.ix_(order, order)].astype(np.float64)
    known[np.diag_indices_from(known)] += _DAMPING * (np.trace(known) / len(known) or 1)
    # How an error at one input is made up for at those after it.
    shares = np.linalg.cholesky(np.linalg.inv(known)).T.astype(np.float32)
    undone = weight[:, order].T / scales
    found = np.empty(undone.shape, np.int8)
    for start in range(0, len(undone), _BLOCK):
        block = slice(start, start + _BLOCK)
        errors = np.empty_like(undone[block])
        for place, row in enumerate(undone[block], start):
            found[place] = np.clip(np.round(row), -_LEVELS, _LEVELS)
            errors[place - start] = (row - found[place]) / shares[place, place]
            undone[place + 1 : block.stop] -= np.outer(shares[place, place + 1 : block.stop], errors[place - start])
        undone[block.stop :] -= shares[block, block.stop :].T @ errors
    values = np.empty_like(found)
    values[order] = found
    return np.ascontiguousarray(values.T)
