"""Sequences into rows without padding between them: which row, which place, and who may see whom."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32

HIDDEN = -1e9
"""What attention adds where a token must not look: its share is then exactly 0, and no softmax is NaN."""

ATTENTION_COST = 1e-3
"""Time of attention for a token of a row of n tokens, per n, in units of its linear layers."""

FULL_ROW = 128
"""Tokens of a row that `lay_out` fills: on a GPU a row's length matters little, and fewer rows are laid out sooner."""

_STEPS = ((64, 8), (128, 16), (256, 32), (1 << 30, 64))


def bucket(count: int) -> int:
    """Return the length that `count` tokens are rounded up to: steps of 8 up to 64, then about an eighth."""
    step = next(step for limit, step in _STEPS if count <= limit)
    return -(-count // step) * step


def bucket_rows(rows: int) -> int:
    """Return the number of rows that `rows` is rounded up to: all up to 16, then steps of a sixteenth to an eighth."""
    step = 1 if rows <= 16 else 1 << (rows - 1).bit_length() - 4
    return -(-rows // step) * step


def bucket_answers(answers: int) -> int:
    """Return the number of answers that `answers` is rounded up to: the next power of two, above 64 steps of 64."""
    return 1 << max(answers - 1, 0).bit_length() if answers <= 64 else -(-answers // 64) * 64


@dataclass(frozen=True)
class Layout:
    """Where sequences lie in rows.

    Attributes:
        rows: Number of rows.
        tokens: Length of each row.
        starts: The first token of each sequence, rows counted through.
        lengths: Tokens of each sequence.
    """

    rows: int
    tokens: int
    starts: Int[np.ndarray, " sequences"]
    lengths: Int[np.ndarray, " sequences"]

    @property
    def cost(self) -> float:
        """Return what a layer costs over this layout, in tokens of linear layers."""
        return self.rows * self.tokens * (1 + ATTENTION_COST * self.tokens)

    def places(self) -> Int[np.ndarray, " places"]:
        """Return the place of every token of every sequence, one sequence after the other."""
        return np.repeat(self.starts, self.lengths) + within(self.lengths)

    def owners(self) -> Int32[np.ndarray, "rows tokens"]:
        """Return the number of the sequence that each place belongs to, -1 where none does."""
        owners = np.full(self.rows * self.tokens, -1, dtype=np.int32)
        owners[self.places()] = np.repeat(np.arange(len(self.starts), dtype=np.int32), self.lengths)
        return owners.reshape(self.rows, self.tokens)


def within(lengths: Int[np.ndarray, " sequences"]) -> Int[np.ndarray, " places"]:
    """Return 0, 1, ... for each sequence, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def lay_out(lengths: Sequence[int] | Int[np.ndarray, " sequences"]) -> Layout:
    """Return a layout of rows of about `FULL_ROW` tokens, found in no time: the longest first, to and fro over rows.

    A search for less waste takes milliseconds for hundreds of sequences, in which a GPU computes whole models.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) == 1:
        return Layout(1, bucket(int(sizes[0])), np.zeros(1, np.int64), sizes)
    rows = min(len(sizes), bucket_rows(-(-int(sizes.sum()) // max(FULL_ROW, int(sizes.max())))))
    return min((_folded(sizes, number) for number in {rows, max(1, rows - 1)}), key=lambda layout: layout.cost)


def _folded(sizes: Int[np.ndarray, " sequences"], rows: int) -> Layout:
    turn, place = np.divmod(np.arange(len(sizes)), rows)
    row = np.where(turn % 2, rows - 1 - place, place)
    order = np.argsort(-sizes, kind="stable")
    table = np.zeros((int(turn[-1]) + 1, rows), np.int64)
    table[turn, row] = sizes[order]
    ends = table.cumsum(axis=0)
    tokens = -(-int(ends[-1].max()) // 8) * 8
    starts = np.zeros_like(sizes)
    starts[order] = row * tokens + (ends - table)[turn, row]
    return Layout(bucket_rows(rows), tokens, starts, sizes)


def move_rows(
    hidden: Float32[np.ndarray, "rows tokens width"],
    source: Int[np.ndarray, " places"],
    target: Int[np.ndarray, " places"],
    rows: int,
    tokens: int,
) -> Float32[np.ndarray, "new_rows new_tokens width"]:
    """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`.

    Places that nobody uses hold the first state, which nobody sees: to clear them would be a second pass.
    """
    wanted = np.zeros(rows * tokens, np.int64)
    wanted[target] = source
    width = hidden.shape[-1]
    return hidden.reshape(-1, width).take(wanted, axis=0).reshape(rows, tokens, width)
