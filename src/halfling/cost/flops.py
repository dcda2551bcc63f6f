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
    return depth * (_key_value_macs(shape) + _other_linear_macs(shape)) * tokens / 1e9


def flops(
    shape: EncoderShape,
    lengths: Sequence[int],
    exit_layers: Sequence[int | Sequence[int]],
    head: Head | None = None,
) -> Flops:
    """Return the operations of all inputs together, each at its own length and up to its own exit.

    Of an input whose tokens leave one by one, a layer computes keys and values for all tokens as long as one of them
    is there; queries, the attention's output, the feed-forward block and the classifiers for those that are there.

    Args:
        shape: The encoder.
        lengths: Tokens of each input, special tokens included, padding not.
        exit_layers: The layer after which each input left, or each of its tokens; `shape.num_layers` when it
            stayed to the end.
        head: The classifiers; None counts the encoder alone.

    Raises:
        ValueError: The two sequences differ in length, an exit has no classifier, or an input has not as many exits
            as tokens.
    """
    exits = _exits(shape, head)
    linear = attention = heads = 0
    for tokens, left in zip(lengths, exit_layers, strict=True):
        each = [left] * tokens if isinstance(left, int) else list(left)
        if wrong := {*each} - exits:
            raise ValueError(f"expected an exit after one of the layers {sorted(exits)}, got {min(wrong)}")
        if len(each) != tokens:
            raise ValueError(f"expected an exit for each of {tokens} tokens, got {len(each)}")
        deepest, in_all = max(each), sum(each)
        linear += 2 * (deepest * tokens * _key_value_macs(shape) + in_all * _other_linear_macs(shape))
        attention += 4 * in_all * tokens * shape.width
        if head is not None:
            there = (sum(exit_layer >= layer for exit_layer in each) for layer in exits)
            heads += sum(2 * _head_macs(shape, head, number) for number in there if number)
    return Flops(linear=linear, attention=attention, heads=heads)


def _exits(shape: EncoderShape, head: Head | None) -> frozenset[int]:
    """Return the layers after which an input may leave."""
    if head is None:
        return frozenset(range(1, shape.num_layers + 1))
    exits = frozenset(head.layers or (shape.num_layers,))
    if min(exits) < 1 or max(exits) != shape.num_layers:
        raise ValueError(f"expected exits within 1..{shape.num_layers}, the last one included, got {head.layers}")
    return exits


def _key_value_macs(shape: EncoderShape) -> int:
    """Return one layer's multiply-accumulates for the key and the value of one token."""
    return 2 * shape.width**2


def _other_linear_macs(shape: EncoderShape) -> int:
    """Return the others of its linear layers: query, output, up and down."""
    return 2 * shape.width**2 + 2 * shape.width * shape.ffn_width


def _head_macs(shape: EncoderShape, head: Head, tokens: int) -> int:
    """Return the multiply-accumulates of one classifier for one input."""
    classes = shape.width * head.num_classes
    return shape.width**2 + classes if head.kind == "sequence" else classes * tokens
