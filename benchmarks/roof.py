"""How fast this machine could be at best: a copy in memory and a product of 8-bit integers, measured."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from halfling.cost.flops import Head, flops
from halfling.records import EncoderShape


class Roof(NamedTuple):
    """What bounds any engine with int8 weights.

    Attributes:
        bytes_a_second: Read and written together, of a copy that no cache holds.
        operations_a_second: Of the fastest int8 product of matrices found here, two for a multiply-accumulate.
    """

    bytes_a_second: float
    operations_a_second: float

    def seconds(self, shape: EncoderShape, head: Head, batches: Sequence[Sequence[int]]) -> float:
        """Return the least time for batches of sequences of these lengths, exits off.

        Of each batch the larger of two: its linear layers' weights once through memory, its arithmetic at the peak.
        """
        weights = shape.num_layers * (4 * shape.width**2 + 2 * shape.width * shape.ffn_width)
        plain = head.model_copy(update={"layers": ()})
        return sum(
            max(
                weights / self.bytes_a_second,
                flops(shape, lengths, [shape.num_layers] * len(lengths), plain).total / self.operations_a_second,
            )
            for lengths in batches
        )


def measure_roof(threads: int, megabytes: int = 256, goes: int = 10) -> Roof:
    """Measure both; the best of some goes counts."""
    parts = [np.ones(megabytes * 2**20 // threads, np.uint8) for _ in range(threads)]
    copies = [np.empty_like(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        took = _least(lambda: list(pool.map(np.copyto, copies, parts)), goes)
    peak = 0.0
    for size in (384, 768, 1024):  # some fit the caches of one machine, some of another
        one, other = (torch.randint(-127, 128, (size, size), dtype=torch.int8) for _ in range(2))
        peak = max(peak, 2 * size**3 / _least(lambda a=one, b=other: torch._int_mm(a, b), 5 * goes))
    return Roof(2 * sum(part.nbytes for part in parts) / took, peak)


def _least(call: Callable[[], object], goes: int) -> float:
    found = []
    for _ in range(goes + 1):  # the first warms up
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found[1:])
