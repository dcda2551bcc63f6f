"""How much a score may have dropped, with a confidence of 95 %: a paired bootstrap."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from halfling.tasks.score import Tally

CONFIDENCE = 0.95


class DropBounds(NamedTuple):
    """Points (0..100) that a drop exceeds, and that it does not exceed, each with 95 % confidence."""

    lower: float
    upper: float


def resamples(examples: int, times: int, seed: int) -> UInt8[np.ndarray, "times examples"]:
    """Return how often each example counts in each resample.

    Drawn from Poisson(1) one by one: the bootstrap for sums over many examples (Chamandy et al. 2012).
    """
    return np.random.default_rng(seed).poisson(1.0, (times, examples)).astype(np.uint8)


def drop_bounds(before: Tally, after: Tally, draws: UInt8[np.ndarray, "times examples"]) -> DropBounds:
    """Return what the drop of the score, in points, lies between.

    Both models are scored on the same resamples of the examples.
    """
    sums = np.stack([before.above, before.below, after.above, after.below], axis=1)
    per_draw = np.concatenate([part.astype(np.float64) @ sums for part in np.array_split(draws, 20)])
    scores = np.divide(per_draw[:, ::2], per_draw[:, 1::2], out=np.zeros((len(draws), 2)), where=per_draw[:, 1::2] > 0)
    drops = 100 * (scores[:, 0] - scores[:, 1])
    return DropBounds(float(np.quantile(drops, 1 - CONFIDENCE)), float(np.quantile(drops, CONFIDENCE)))
