"""Time, measured so that two candidates meet the same weather."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import quantiles
from typing import TypeVar

from pydantic import Field

from halfling.records import Record


class Ratio(Record):
    """How much longer one call took than another, each round a pair."""

    median: float
    lower: float = Field(description="first quartile of the rounds' ratios")
    upper: float = Field(description="third quartile of the rounds' ratios")


_Name = TypeVar("_Name", bound=Hashable)

PAUSE = 0.02
"""Seconds before each turn, in which threads of the one before fall asleep: OpenMP's look for work for a while."""


def interleaved(
    calls: Mapping[_Name, Callable[[], object]],
    *,
    rounds: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[_Name, list[float]]:
    """Time every call once a round and return each one's seconds, round by round.

    A, B, A, B rather than A, A, B, B: a machine that slows down, or that is shared, then slows all alike.
    Every second round runs backwards, so that none always follows the same neighbour's warm caches. Before each turn
    is a pause, so that none shares its cores with the neighbour's threads.

    Args:
        calls: What to time, by name. A call on an accelerator must wait for its own result.
        rounds: How often each is timed.
        warmup: Rounds before these, untimed.
        clock: Seconds, never going back.
    """
    names = list(calls)
    seconds: dict[_Name, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            time.sleep(PAUSE)
            start = clock()
            calls[name]()
            took = clock() - start
            if turn >= warmup:
                seconds[name].append(took)
    return seconds


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Return how much longer `seconds` are than `reference`, both of the same rounds.

    Dividing within a round, and only then taking the median, leaves out what slowed a whole round.

    Raises:
        ValueError: The rounds differ in number.
    """
    lower, middle, upper = quantiles(
        [one / other for one, other in zip(seconds, reference, strict=True)], n=4, method="inclusive"
    )
    return Ratio(median=middle, lower=lower, upper=upper)


def spread(seconds: Sequence[float]) -> float:
    """Return the interquartile range of some rounds divided by their median; 0 when they agree."""
    lower, middle, upper = quantiles(seconds, n=4, method="inclusive")
    # A clock too coarse for the call reads zero throughout: that is no spread, not a division by zero.
    return (upper - lower) / middle if middle else 0.0
