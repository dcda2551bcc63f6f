"""Which chunk each document goes to: by the documents' order and sizes alone."""

import heapq

import numpy as np
from jaxtyping import Int64


class Splitter:
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
