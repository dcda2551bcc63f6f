"""Token embeddings from a table that stays on disk: only the rows in use are read."""

import os
import weakref
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Num

TABLE, SCALES, POSITIONS = "words.npy", "word-scales.npy", "positions.npy"
"""Files of an exported model: the table (of int8 models int8 with a scale for each row), and position embeddings."""


class Embeddings:
    """Sums of word, position and type embeddings, before their layer norm (which the first segment does)."""

    def __init__(self, folder: Path, precision: str) -> None:
        # Not mapped: a mapping makes whole neighbourhoods of a row resident, 79 MB for 450 tokens (docs/log.md).
        self.table = _Rows(folder / TABLE)
        self.scales = np.load(folder / SCALES) if precision == "int8" else None
        self.positions = np.load(folder / POSITIONS)
        self.sums = self.places = np.empty((0, self.positions.shape[1]), np.float32)

    def __call__(
        self, ids: Int[np.ndarray, " tokens"], positions: Int[np.ndarray, " tokens"]
    ) -> Float32[np.ndarray, "tokens width"]:
        """Return the sums for `ids`, valid until the next call; `positions` count from 0 in each sequence."""
        if len(ids) > len(self.sums):
            # Kept, as fresh pages for a batch cost more than all that is computed here.
            self.sums, self.places = (np.empty((len(ids), self.positions.shape[1]), np.float32) for _ in range(2))
        words, places = self.sums[: len(ids)], self.places[: len(ids)]
        words[:] = self.table(ids)
        if self.scales is not None:
            words *= self.scales[ids, None]
        # All are there; "clip" spares NumPy a copy that it makes to leave `out` whole if one were not.
        words += self.positions.take(positions, axis=0, out=places, mode="clip")
        return words


class _Rows:
    """Reads rows of a two-dimensional array in NumPy's file format, from any thread."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self.dtype, self.bytes, self.start, self.rows = mapped.dtype, mapped.strides[0], mapped.offset, len(mapped)
        self.file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)

    def __call__(self, numbers: Int[np.ndarray, " rows"]) -> Num[np.ndarray, "rows width"]:
        file, size, start = self.file, self.bytes, self.start
        if numbers.max(initial=0) >= self.rows or numbers.min(initial=0) < 0:
            raise ValueError(f"ids {numbers.min()} to {numbers.max()}: the vocabulary is 0 to {self.rows - 1}")
        rows = b"".join([os.pread(file, size, start + size * number) for number in numbers.tolist()])
        return np.frombuffer(rows, self.dtype).reshape(len(numbers), -1)


def write_embeddings(
    folder: Path,
    words: Float32[np.ndarray, "vocabulary width"],
    positions: Float32[np.ndarray, "positions width"],
    precision: str,
) -> None:
    """Write the tables; `positions` with the type embedding added, int8 rows in 127ths of their largest value."""
    np.save(folder / POSITIONS, positions)
    if precision != "int8":
        np.save(folder / TABLE, words)
        return
    largest = np.abs(words).max(axis=1)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(127)
    np.save(folder / TABLE, np.round(words / scales[:, None]).astype(np.int8))
    np.save(folder / SCALES, scales)
