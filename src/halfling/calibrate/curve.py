"""The trade-off curve on the dev split, drawn closest where a wish begins or ceases to be met."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from halfling.calibrate.bootstrap import drop_bound
from halfling.calibrate.search import Options, search
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock
from halfling.exits.policy import ExitPolicy, TradeOff

_HIGHEST_PRICE = 300.0  # points for the whole arithmetic: above it everything leaves at the first exit


@dataclass(frozen=True)
class Wish:
    """What the user asks: at most so many points of drop (upper bound), so much arithmetic, or so long a time."""

    what: Literal["max_drop", "flops_share", "latency_ms"]
    limit: float

    def is_met(self, point: TradeOff, plain_ms: float | None = None) -> bool:
        """Return whether a point meets it; a time needs that of the plain model."""
        if self.what == "max_drop":
            return point.drop_bound <= self.limit
        if self.what == "flops_share":
            return point.flops_share <= self.limit
        return (1.0 if point.time_share is None else point.time_share) * (plain_ms or 0.0) <= self.limit

    def choose(self, curve: Sequence[TradeOff], plain_ms: float | None = None) -> TradeOff | None:
        """Return the cheapest point within a drop, or the best within an arithmetic or time; None when there is none.

        The cheapest takes the least time where that is measured, else (and where times are alike) the least arithmetic.
        A point measured to be slower than no exits, the first of the curve, is never chosen: when only such points
        meet the wish, no exits is.
        """
        met = [point for point in curve if self.is_met(point, plain_ms)]
        quick = [point for point in met if point.time_share is None or point.time_share < 1 or point == curve[0]]
        if not quick:
            return curve[0] if met else None
        if self.what == "max_drop":
            return min(quick, key=_price)
        return max(quick, key=lambda point: (point.quality, -point.flops_share))


def _price(point: TradeOff) -> tuple[float, float, float]:
    # To whole hundredths: closer than that, measured times are a lottery.
    time = 0.0 if point.time_share is None else round(point.time_share, 2)
    return time, point.flops_share, point.drop


class Drawing:
    """Points of the curve as they are asked for, each computed once.

    Args:
        trial: the dev split, answered.
        clock: Measured times, or None.
        draws: Resamples for the drop's bound.
        confidence: Of that bound.
    """

    def __init__(self, trial: Trial, clock: Clock | None, draws: np.ndarray, confidence: float) -> None:
        self.trial, self.clock, self.confidence = trial, clock, confidence
        self.draws = draws * ~trial.learned_from  # what thresholds were fitted to is no evidence of what they cost
        self.no_exits = trial.like
        self.points: dict[ExitPolicy, TradeOff] = {}
        self.at(self.no_exits)

    @property
    def curve(self) -> list[TradeOff]:
        """All points so far, no exits first, then by arithmetic."""
        first, *others = self.points.values()
        return [first, *sorted(others, key=lambda point: -point.flops_share)]

    def at(self, policy: ExitPolicy) -> TradeOff:
        """Return the point of a policy."""
        if policy not in self.points:
            self.points[policy] = self._measure(policy)
        return self.points[policy]

    def close_in(self, wish: Wish, max_exits: int) -> None:
        """Add points for rising prices of arithmetic, and more of them where the wish changes from met to not met.

        Where times are measured, also for rising prices of time: an exit costs more of it than of arithmetic, so fewer
        of them may be quicker. (Not for tokens that leave alone: the clock knows the time of whole sentences.)
        """
        options = self.trial.options()
        self._close_in(wish, max_exits, options)
        if self.clock is not None and self.no_exits.granularity == "sentence":
            self._close_in(wish, max_exits, self.clock.priced(options))

    def _close_in(self, wish: Wish, max_exits: int, options: Options) -> None:
        """Add points for rising prices of what `options` spend, and more of them where the wish changes.

        Between the last price before that change and the next there may be nothing: the best for a price lie on a
        convex hull. So the thresholds of the last policy before it are then raised together until the wish changes.
        Where that is no exits, those of the first policy after it are lowered together: a price does not know what
        tokens that left cost those who stay, so the lowest may already ask too much.
        """

        def at(price: float) -> tuple[ExitPolicy, TradeOff]:
            found = search(options, price / 100, max_exits)
            policy = self.no_exits.model_copy(update=found._asdict())
            return policy, self.at(policy)

        plain_ms = self.clock.plain_ms if self.clock else None
        at_first = wish.is_met(self.points[self.no_exits], plain_ms)
        # A policy for tokens is a run over all of dev, so there are fewer of them.
        step = 2.0 if self.no_exits.granularity == "sentence" else 4.0
        price, before, after = 0.1, self.no_exits, None

        def changes(point: TradeOff) -> bool:
            return wish.is_met(point, plain_ms) != at_first

        while price < _HIGHEST_PRICE:
            policy, point = at(price)
            if after is None and changes(point):
                after = policy
                before = self._last_before(changes, at, before, price, step)
            elif after is None:
                before = policy
            price *= step
        if before.is_early:
            self._scale(before, 1.0, 4.0, changes)
        elif after is not None:
            self._scale(after, 1 / 16, 1.0, changes)

    def _last_before(
        self,
        changes: Callable[[TradeOff], bool],
        at: Callable[[float], tuple[ExitPolicy, TradeOff]],
        before: ExitPolicy,
        price: float,
        step: float,
    ) -> ExitPolicy:
        low, high = price / step, price
        for _ in range(3):
            middle = (low * high) ** 0.5
            policy, point = at(middle)
            if changes(point):
                high = middle
            else:
                low, before = middle, policy
        return before

    def _scale(self, policy: ExitPolicy, low: float, high: float, changes: Callable[[TradeOff], bool]) -> None:
        """Multiply all thresholds of a policy by factors that close in on where the wish changes."""
        for _ in range(5):
            middle = (low * high) ** 0.5
            thresholds = tuple(min(1.0, round(middle * threshold, 9)) for threshold in policy.thresholds)
            scaled = self.at(policy.model_copy(update={"thresholds": thresholds}))
            low, high = (low, middle) if changes(scaled) else (middle, high)

    def _measure(self, policy: ExitPolicy) -> TradeOff:
        found, plain = self.trial.run(policy), self.trial.plain
        share = None
        if self.clock is not None:
            by_token = policy.granularity == "token"
            share = self.clock.measured(policy) if by_token else self.clock.expected(policy, found.left)
        return TradeOff(
            layers=policy.layers,
            thresholds=policy.thresholds,
            patience=policy.patience,
            quality=found.tally.score,
            drop=100 * (plain.score - found.tally.score),
            drop_bound=drop_bound(plain, found.tally, self.draws, self.confidence) if policy.is_early else 0.0,
            flops_share=found.flops_share if policy.is_early else 1.0,
            time_share=share,
            mean_exit_layer=float(found.left.mean()),
        )
