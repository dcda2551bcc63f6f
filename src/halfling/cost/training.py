"""What training takes, counted from shapes before anything is spent: arithmetic, memory of a device, disk.

Arithmetic is that of the passes, two operations for each multiply-accumulate, as in `flops`. Losses on hidden states,
projections and the optimiser are left out. Memory is an estimate: its rates were fitted to what was measured.
"""

from halfling.cost.flops import flops
from halfling.records import EncoderShape

LEARNING, FORWARD = 3, 1
"""Times the arithmetic of a forward pass: the backward pass takes two more."""

_WEIGHT = 4  # bytes; float32
_LEARNED = 16  # bytes; the weight, its gradient, and Adam's two moments
_CHECKPOINT = 12  # bytes a learned weight; the gradient is not kept
_KEPT = 3  # checkpoints: the two newest, and the one that is being written
_ACTIVATIONS = 66
"""Bytes that a token leaves behind in each channel of each layer in bfloat16, teacher and losses included.

Together with `_AROUND` it gives 11.2, 13.5 and 18.2 GiB for XLM-R Large to Base with 4,096, 8,192 and 16,384 tokens at
once, to within 0.2 GiB of what an H100 measured (`docs/benchmarks.md`).
"""
_AROUND = 2**30  # bytes; of libraries


def parameters(shape: EncoderShape) -> int:
    """Return the number of an encoder's weights: embeddings and layers, no head."""
    width, inner = shape.width, shape.ffn_width
    layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return embeddings(shape) + shape.num_layers * layer


def embeddings(shape: EncoderShape) -> int:
    """Return the number of an encoder's weights outside its layers."""
    # Positions begin at 2, and there is one token type.
    return (shape.vocab_size + shape.max_tokens + 2 + 1 + 2) * shape.width


def language_model_head(shape: EncoderShape) -> int:
    """Return the number of weights that a masked language model has besides; its decoder is the word embeddings."""
    return shape.width**2 + 3 * shape.width + shape.vocab_size


def pass_flops(shape: EncoderShape, tokens: int, length: int, answers: int = 0) -> int:
    """Return the operations of one forward pass.

    Args:
        shape: The encoder.
        tokens: All that are read.
        length: Of the sequences within which they attend to each other.
        answers: Positions at which the output layer of a language model answers.
    """
    encoder = flops(shape, [length], [shape.num_layers]).total * tokens // length
    return encoder + 2 * answers * shape.width * (shape.width + shape.vocab_size)


def device_bytes(
    learned: int,
    frozen: int,
    shape: EncoderShape,
    tokens: int,
    *,
    output_widths: tuple[int, ...] = (),
    bfloat16: bool = True,
    shared_by: int = 1,
    whole: int = 0,
) -> int:
    """Return an estimate of the peak memory of one device that trains.

    Args:
        learned: Weights that learn.
        frozen: Weights that do not, a teacher's among them.
        shape: Of the model that learns.
        tokens: Read at once by one device.
        output_widths: Of the models whose output layer over the vocabulary answers, the learning one first.
        bfloat16: Whether products are computed in it; in float32 a token is taken to leave twice as much.
        shared_by: Devices of which each holds a part of every weight and of what learning adds to it.
        whole: Weights and gradients that lie whole beside these parts while a step lasts.
    """
    # A copy of each output layer in bfloat16, and the gradient of the one that learns as it is summed up.
    outputs = shape.vocab_size * (2 * sum(output_widths) + 4 * sum(output_widths[:1]))
    activations = _ACTIVATIONS * (1 if bfloat16 else 2) * shape.num_layers * shape.width * tokens
    parts = -(-(_LEARNED * learned + _WEIGHT * frozen) // shared_by)
    return parts + _WEIGHT * whole + outputs + activations + _AROUND


def weight_bytes(weights: int) -> int:
    """Return what weights take on disk, in float32."""
    return _WEIGHT * weights


def checkpoint_bytes(learned: int, frozen: int = 0) -> int:
    """Return what the checkpoints of one training take at most, while it runs."""
    return _KEPT * (_CHECKPOINT * learned + _WEIGHT * frozen)


def teacher_states_bytes(tokens: int, layers: int, width: int, *, bfloat16: bool) -> int:
    """Return what a teacher's states of some of its layers take on disk."""
    return tokens * layers * width * (2 if bfloat16 else 4)
