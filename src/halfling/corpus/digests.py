"""The digests by which documents and lines are compared, and the seeded keys that put documents in order."""

import hashlib
from collections.abc import Callable

import numpy as np
import xxhash
from jaxtyping import UInt64

line_digest: Callable[[bytes], int] = xxhash.xxh3_64_intdigest
"""Returns the 64-bit digest by which lines are compared."""


def digest64(text: str | bytes) -> int:
    """Return the 64-bit BLAKE2b digest by which documents are compared, ordered and named."""
    content = text.encode() if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def seeded_keys(digests: UInt64[np.ndarray, " documents"], seed: int) -> UInt64[np.ndarray, " documents"]:
    """Return the keys that order documents: `seed` and a digest decide them, and different digests differ."""
    # splitmix64's mixing steps (https://prng.di.unimi.it/splitmix64.c): another seed, another order.
    key = digests + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
