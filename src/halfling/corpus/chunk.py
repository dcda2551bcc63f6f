"""Which documents are taken, and which chunk each goes to.

Both follow from the documents' digests and the seed alone, not from the order in which documents arrive.
"""

import heapq

import numpy as np
from jaxtyping import Int64, UInt64


def seeded_order(digests: UInt64[np.ndarray, " documents"], seed: int) -> Int64[np.ndarray, " documents"]:
    """Return the documents' indices in an order that `seed` and their digests decide."""
    # splitmix64's mixing steps (https://prng.di.unimi.it/splitmix64.c): another seed, another order.
    key = digests + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(key ^ (key >> np.uint64(31)), kind="stable")


def choose(
    order: Int64[np.ndarray, " documents"], sizes: Int64[np.ndarray, " documents"], budget: int
) -> Int64[np.ndarray, " chosen"]:
    """Return the first documents of `order` that fit in `budget` bytes; always at least one.

    A larger budget takes the same documents and more.
    """
    fitting = int(np.searchsorted(np.cumsum(sizes[order]), budget, side="right"))
    return order[: max(1, fitting)]


def deal(
    chosen: Int64[np.ndarray, " chosen"], sizes: Int64[np.ndarray, " documents"], num_chunks: int
) -> Int64[np.ndarray, " documents"]:
    """Return each document's chunk, 1..`num_chunks`, or 0 for a document that was not chosen.

    Each next document goes to the chunk with the fewest bytes so far, so that in the end no two chunks
    differ by more than the largest document.
    """
    chunk_of = np.zeros(len(sizes), dtype=np.int64)
    filled = [(0, number) for number in range(1, num_chunks + 1)]
    for document in chosen.tolist():
        size, number = filled[0]
        chunk_of[document] = number
        heapq.heapreplace(filled, (size + int(sizes[document]), number))
    return chunk_of
