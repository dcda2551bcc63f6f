"""How much a score may have dropped, with a confidence of 95 %: a paired bootstrap."""

import numpy as np
from jaxtyping import UInt8

from halfling.tasks.score import Tally

CONFIDENCE = 0.95


def resamples(examples: int, times: int, seed: int) -> UInt8[np.ndarray, "times examples"]:
    """Return how often each example counts in each resample.

    Drawn from Poisson(1) one by one: the bootstrap for sums over many examples (Chamandy et al. 2012).
    """
    return np.random.default_rng(seed).poisson(1.0, (times, examples)).astype(np.uint8)


def drop_bound(plain: Tally, early: Tally, draws: UInt8[np.ndarray, "times examples"]) -> float:
    """Return the drop of the score, in points, that is not exceeded with 95 % confidence.

    Both models are scored on the same resamples of the examples.
    """
    sums = np.stack([plain.above, plain.below, early.above, early.below], axis=1)
    per_draw = np.concatenate([part.astype(np.float64) @ sums for part in np.array_split(draws, 20)])
    scores = np.divide(per_draw[:, ::2], per_draw[:, 1::2], out=np.zeros((len(draws), 2)), where=per_draw[:, 1::2] > 0)
    return float(100 * np.quantile(scores[:, 0] - scores[:, 1], CONFIDENCE))
