"""What a mean of losses, each 0..1, does not exceed, and how sure one may be of it."""

from functools import lru_cache
from math import log

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
"""With which a bound holds."""


def p_value(losses: Float[np.ndarray, " texts"], limit: float) -> float:
    """Return the probability of a mean as low as that of `losses`, if the true one were above `limit`; at most.

    Losses are 0..1 and drawn independently. Those that are 0 or 1 alone: the binomial tail. Else the bound of Hoeffding
    and Bentkus, as Angelopoulos et al. give it ("Learn then Test", https://arxiv.org/abs/2110.01052, proposition 2).
    """
    number = len(losses)
    if not number or limit <= 0:
        return 1.0
    if limit >= 1:
        return 0.0
    mean = float(losses.mean())
    if ((losses == 0) | (losses == 1)).all():
        return _binomial_tail(round(float(losses.sum())), number, limit)
    if mean >= limit:
        return 1.0
    hoeffding = float(np.exp(-number * _divergence(mean, limit)))
    bentkus = float(np.e) * _binomial_tail(int(np.ceil(number * mean - 1e-9)), number, limit)
    return min(1.0, hoeffding, bentkus)


def upper_bound(losses: Float[np.ndarray, " texts"], confidence: float = CONFIDENCE) -> float:
    """Return what the true mean of losses exceeds in at most a share `1 - confidence` of draws, 0..1.

    Of labels it is Clopper and Pearson's. Without losses it is 1.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(losses, middle) <= 1 - confidence else (middle, high)
    return high


def lower_bound(losses: Float[np.ndarray, " texts"], confidence: float = CONFIDENCE) -> float:
    """Return what the true mean of losses falls below in at most a share `1 - confidence` of draws, 0..1."""
    return 1 - upper_bound(1 - losses, confidence)


def fewest(limit: float, confidence: float = CONFIDENCE) -> int:
    """Return how many texts show that a mean is at most `limit` where none disagrees.

    It is 0 for 0, which nothing shows, and for 1, which needs no showing.
    """
    return 0 if limit <= 0 or limit >= 1 else int(np.ceil(log(1 - confidence) / log(1 - limit)))


def least(number: int, confidence: float = CONFIDENCE) -> float:
    """Return the least limit of a mean, 0..1, that so many texts show where none disagrees."""
    return float(1 - (1 - confidence) ** (1 / number)) if number else 1.0


def _binomial_tail(most: int, number: int, share: float) -> float:
    """Return the probability of at most `most` in `number` draws of probability `share`."""
    hits = np.arange(min(most, number) + 1)
    factorials = _log_factorials(number)
    logs = factorials[number] - factorials[hits] - factorials[number - hits]
    return float(min(1.0, np.exp(logs + hits * log(share) + (number - hits) * log(1 - share)).sum()))


@lru_cache(64)
def _log_factorials(number: int) -> np.ndarray:
    """Return the logarithm of each factorial from that of 0 on."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])


def _divergence(mean: float, limit: float) -> float:
    """Return the Kullback-Leibler divergence of one coin from another, in nats."""
    parts = ((mean, limit), (1 - mean, 1 - limit))
    return sum(one * log(one / other) for one, other in parts if one > 0)
