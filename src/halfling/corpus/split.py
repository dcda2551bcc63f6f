"""Which documents are taken, and which chunk each goes to.

Both follow from the documents' digests and the seed alone, not from the order in which documents arrive.
"""

import heapq

import numpy as np
from jaxtyping import Int64, UInt64


def seeded_keys(digests: UInt64[np.ndarray, " documents"], seed: int) -> UInt64[np.ndarray, " documents"]:
    """Return the keys that order documents: `seed` and a digest decide them, and different digests differ."""
    # splitmix64's mixing steps (https://prng.di.unimi.it/splitmix64.c): another seed, another order.
    key = digests + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def seeded_order(digests: UInt64[np.ndarray, " documents"], seed: int) -> Int64[np.ndarray, " documents"]:
    """Return the documents' indices in the order of their `seeded_keys`."""
    return np.argsort(seeded_keys(digests, seed), kind="stable")


def choose(
    order: Int64[np.ndarray, " documents"], sizes: Int64[np.ndarray, " documents"], budget: int
) -> Int64[np.ndarray, " chosen"]:
    """Return the first documents of `order` that fit in `budget` bytes; always at least one.

    A larger budget takes the same documents and more.
    """
    fitting = int(np.searchsorted(np.cumsum(sizes[order]), budget, side="right"))
    return order[: max(1, fitting)]


class Dealer:
    """Deals the documents of one language out to chunks, in the order of their keys, a batch at a time.

    Each next document goes to the chunk with the fewest bytes so far, so that in the end no two chunks differ by
    more than the largest document.

    Attributes:
        full: The next document did not fit in the budget: nothing more is dealt.
    """

    def __init__(self, num_chunks: int, budget: int) -> None:
        """Deal at most `budget` bytes, but at least one document."""
        self.full = False
        self._budget = budget
        self._taken = 0
        self._filled = [(0, number) for number in range(num_chunks)]

    def deal(self, sizes: Int64[np.ndarray, " documents"]) -> Int64[np.ndarray, " dealt"]:
        """Return the chunk, from 0, of each next document; fewer than came when the budget is full."""
        totals = np.cumsum(sizes) + self._taken
        fitting = 0 if self.full else int(np.searchsorted(totals, self._budget, side="right"))
        if self._taken == 0 and len(sizes):
            fitting = max(1, fitting)
        self.full |= fitting < len(sizes)
        chunk_of = np.empty(fitting, np.int64)
        for place, size in enumerate(sizes[:fitting].tolist()):
            bytes_, number = self._filled[0]
            chunk_of[place] = number
            heapq.heapreplace(self._filled, (bytes_ + size, number))
        self._taken += int(sizes[:fitting].sum())
        return chunk_of
