"""Arithmetic counted from shapes: multiply-accumulates in the thesis's convention, and the whole truth.

What is counted: the linear layers, the attention products and the classifiers. What is not: softmax, layer
norms, biases, activations and embedding look-ups, which have no agreed price and are together below 1 % of
XLM-R Base.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from halfling.records import EncoderShape, Record


class Head(Record):
    """The classifiers of a model: one after each exit."""

    kind: Literal["sequence", "token"] = Field(
        description="sequence: dense, then classes, on the first token; token: classes, on every token"
    )
    num_classes: int = Field(gt=0)
    layers: tuple[int, ...] = Field(
        (), description="1-based layers with a classifier, ascending; empty: the last layer only"
    )


class Flops(Record):
    """Floating-point operations, two for each multiply-accumulate."""

    linear: int = Field(description="projections of attention and both halves of the feed-forward block")
    attention: int = Field(description="queries times keys, weights times values")
    heads: int = Field(description="every classifier that was evaluated, up to the exit taken")

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.linear + self.attention + self.heads


def gmacs_linear(shape: EncoderShape, tokens: int = 128, layers: int | float | None = None) -> float:
    """Return the multiply-accumulates of the encoder's linear layers for one input, in thousand millions.

    This is what the thesis calls GFLOPs: it prints 38.69 for XLM-R Large and 10.88 for Base, this function
    returns 38.65 and 10.87. Attention products, heads and real lengths stay outside: see `flops`.

    Args:
        shape: The encoder.
        tokens: Input length.
        layers: How many layers are computed; a mean exit layer need not be whole. All of them by default.
    """
    depth = shape.num_layers if layers is None else layers
    return depth * _linear_macs_per_token(shape) * tokens / 1e9


def flops(
    shape: EncoderShape,
    lengths: Sequence[int],
    exit_layers: Sequence[int],
    head: Head | None = None,
) -> Flops:
    """Return the operations of all inputs together, each at its own length and up to its own exit.

    Args:
        shape: The encoder.
        lengths: Tokens of each input, special tokens included, padding not.
        exit_layers: The layer after which each input left; `shape.num_layers` when it stayed to the end.
        head: The classifiers; None counts the encoder alone.

    Raises:
        ValueError: The two sequences differ in length, or an exit has no classifier.
    """
    if len(lengths) != len(exit_layers):
        raise ValueError(f"expected one exit for each length, got {len(exit_layers)} for {len(lengths)}")
    exits = _exits(shape, head)
    linear = attention = heads = 0
    for tokens, layer in zip(lengths, exit_layers, strict=True):
        if layer not in exits:
            raise ValueError(f"expected an exit after one of the layers {sorted(exits)}, got {layer}")
        linear += 2 * layer * _linear_macs_per_token(shape) * tokens
        attention += 4 * layer * tokens * tokens * shape.width
        if head is not None:
            evaluated = sum(exit_layer <= layer for exit_layer in exits)
            heads += 2 * evaluated * _head_macs(shape, head, tokens)
    return Flops(linear=linear, attention=attention, heads=heads)


def _exits(shape: EncoderShape, head: Head | None) -> frozenset[int]:
    """Return the layers after which an input may leave."""
    if head is None:
        return frozenset(range(1, shape.num_layers + 1))
    exits = frozenset(head.layers or (shape.num_layers,))
    if min(exits) < 1 or max(exits) != shape.num_layers:
        raise ValueError(f"expected exits within 1..{shape.num_layers}, the last one included, got {head.layers}")
    return exits


def _linear_macs_per_token(shape: EncoderShape) -> int:
    """Return one layer's multiply-accumulates for one token: queries, keys, values, output, up and down."""
    return 4 * shape.width**2 + 2 * shape.width * shape.ffn_width


def _head_macs(shape: EncoderShape, head: Head, tokens: int) -> int:
    """Return the multiply-accumulates of one classifier for one input."""
    classes = shape.width * head.num_classes
    return shape.width**2 + classes if head.kind == "sequence" else classes * tokens
