"""Which exits and which thresholds: for a price on arithmetic or time, those of most quality less its price."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# A cut between two uncertainties closer than rounding would let a batch's neighbours decide who leaves.
_CLEAR = 1e-6


@dataclass(frozen=True)
class Options:
    """What leaving at each trained exit means for each unit (a sentence, or a token), the last exit included.

    Attributes:
        layers: The trained exits.
        unsure: Uncertainty, 0..1.
        gain: Share of the task's score that the unit adds when it leaves there.
        spent: Share of the plain model's arithmetic, or time, that the encoder spends on the unit until then.
        head: Share that one exit costs for the unit.
    """

    layers: tuple[int, ...]
    unsure: Float[np.ndarray, "exits units"]
    gain: Float[np.ndarray, "exits units"]
    spent: Float[np.ndarray, "exits units"]
    head: Float[np.ndarray, " units"]

    def of(self, units: Bool[np.ndarray, " units"]) -> "Options":
        """Return the same for some units."""
        return Options(self.layers, self.unsure[:, units], self.gain[:, units], self.spent[:, units], self.head[units])


class Found(NamedTuple):
    """Exits in use and their thresholds, as in `ExitPolicy`."""

    layers: tuple[int, ...]
    thresholds: tuple[float, ...]


def search(options: Options, price: float, max_exits: int) -> Found:
    """Return at most `max_exits` early exits and their thresholds that maximise `gain - price * spent` in sum.

    Exits are added one at a time, each time the one that gains most, as long as one gains. With given exits, one
    threshold is optimal for the others exactly (sort by uncertainty, cut where the running sum is largest); they
    are set in turn until none moves. That is a local optimum: good, not proved best.
    """
    order = [np.argsort(row, kind="stable") for row in options.unsure[:-1]]
    chosen: list[int] = []
    cuts: dict[int, float] = {}
    best = _value(options, price, chosen, cuts)
    while len(chosen) < max_exits:
        tried = []
        for place in sorted({*range(len(order))} - {*chosen}):
            places = sorted([*chosen, place])
            set_to = _set_in_turn(options, price, order, places, {**cuts, place: 0.0})
            tried.append((_value(options, price, places, set_to), -place, places, set_to))
        if not tried:
            break
        value, _, places, set_to = max(tried, key=lambda each: each[:2])
        if value <= best + 1e-12:
            break
        best, chosen, cuts = value, places, set_to
    kept = [place for place in chosen if cuts[place] > 0]
    return Found(
        layers=(*(options.layers[place] for place in kept), options.layers[-1]),
        thresholds=tuple(cuts[place] for place in kept),
    )


def taken(unsure: Float[np.ndarray, "exits units"], thresholds: Sequence[float]) -> np.ndarray:
    """Return the place (0-based, among the rows) of each unit's exit: the first below its threshold, or the last."""
    sure = unsure[:-1] < np.asarray(thresholds, dtype=np.float32)[:, None]
    return np.concatenate([sure, np.ones((1, unsure.shape[1]), dtype=bool)]).argmax(axis=0)


def _worth(options: Options, price: float, places: Sequence[int]) -> Float[np.ndarray, "used units"]:
    """Return what leaving at each of `places` and at the last exit is worth, the classifiers until then paid."""
    used = [*places, len(options.layers) - 1]
    heads = np.arange(1, len(used) + 1)[:, None] * options.head
    return options.gain[used] - price * (options.spent[used] + heads)


def _value(options: Options, price: float, places: Sequence[int], cuts: dict[int, float]) -> float:
    worth = _worth(options, price, places)
    at = taken(options.unsure[[*places, -1]], [cuts[place] for place in places])
    return float(np.take_along_axis(worth, at[None], axis=0).sum())


def _set_in_turn(
    options: Options, price: float, order: list[np.ndarray], places: list[int], cuts: dict[int, float]
) -> dict[int, float]:
    worth, cuts = _worth(options, price, places), dict(cuts)
    units = np.arange(worth.shape[1])
    for _ in range(4):
        before = dict(cuts)
        later = worth[-1]
        for row in reversed(range(len(places))):
            place = places[row]
            comes = np.ones(len(units), dtype=bool)
            for earlier in places[:row]:
                comes &= options.unsure[earlier] >= np.float32(cuts[earlier])
            cuts[place] = _best_cut(options.unsure[place], order[place], comes, worth[row] - later)
            later = np.where(options.unsure[place] < np.float32(cuts[place]), worth[row], later)
        if cuts == before:
            break
    return cuts


def _best_cut(unsure: np.ndarray, order: np.ndarray, comes: np.ndarray, better: np.ndarray) -> float:
    """Return the threshold under which the sum of `better` over those who come this far and leave is largest."""
    sorted_units = order[comes[order]]
    if not len(sorted_units):
        return 0.0
    values = unsure[sorted_units].astype(np.float64)
    sums = np.cumsum(better[sorted_units])
    clear = np.append(np.diff(values) > _CLEAR, values[-1] < 1 - _CLEAR)
    sums = np.where(clear, sums, -np.inf)
    last = int(sums.argmax())
    if sums[last] <= 0:
        return 0.0
    above = values[last + 1] if last + 1 < len(values) else 1.0
    return float(round((values[last] + above) / 2, 9))
