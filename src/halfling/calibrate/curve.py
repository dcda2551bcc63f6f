"""The trade-off curve on the dev split, drawn closest where a wish begins or ceases to be met."""

from collections.abc import Callable

import numpy as np

from halfling.calibrate.search import Options, search
from halfling.calibrate.settings import Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock
from halfling.exits.calibration import TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.tasks.bootstrap import drop_bounds
from halfling.tasks.score import Tally

_HIGHEST_PRICE = 300.0  # points for the whole arithmetic: above it everything leaves at the first exit


class Drawing:
    """Points of the curve as they are asked for, each computed once; without a clock they have no times."""

    def __init__(self, trial: Trial, clock: Clock | None, draws: np.ndarray) -> None:
        self.trial, self.clock = trial, clock
        self.draws = draws * ~trial.learned_from  # what thresholds were fitted to is no evidence of what they cost
        self.no_exits = trial.like
        self.points: dict[ExitPolicy, TradeOff] = {}
        self.at(self.no_exits)

    @property
    def curve(self) -> list[TradeOff]:
        """All points so far, no exits first, then by arithmetic."""
        first, *others = self.points.values()
        return [first, *sorted(others, key=lambda point: -point.flops_share)]

    def draw(self, wish: Wish, max_exits: int) -> None:
        """Add the points that a policy is chosen from."""
        if self.no_exits.criterion != "patience":
            self.close_in(wish, max_exits)
            return
        layers = self.trial.layers
        for patience in range(len(layers) - 2, 0, -1):
            # Any threshold up to 1 / patience means the same; half of it is clear of rounding.
            every = {"layers": layers, "thresholds": (0.5 / patience,) * (len(layers) - 1), "patience": patience}
            self.at(self.no_exits.model_copy(update=every))

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
        plain_ms = self.clock.plain_ms if self.clock else None
        at_first = wish.is_met(self.points[self.no_exits], plain_ms)
        before, after = self.no_exits, None

        def best(price: float) -> ExitPolicy:
            return self.no_exits.model_copy(update=search(options, price / 100, max_exits)._asdict())

        def changes(policy: ExitPolicy) -> bool:
            return wish.is_met(self.at(policy), plain_ms) != at_first

        def changes_at(price: float) -> bool:
            nonlocal before
            policy = best(price)
            if not changes(policy):
                before = policy
            return changes(policy)

        # A policy for tokens is a run over all of dev, so there are fewer of them.
        price, step = 0.1, 2.0 if self.no_exits.granularity == "sentence" else 4.0
        while price < _HIGHEST_PRICE:
            if after is not None:
                self.at(best(price))
            elif changes_at(price):
                after = best(price)
                _halve(price / step, price, 3, changes_at)
            price *= step
        if before.is_early:
            _halve(1.0, 4.0, 5, lambda factor: changes(scaled(before, factor)))
        elif after is not None:
            _halve(1 / 16, 1.0, 5, lambda factor: changes(scaled(after, factor)))

    def _measure(self, policy: ExitPolicy) -> TradeOff:
        found = self.trial.run(policy)
        quality, drop, bound = self._judged(found.tally)
        share = None
        if self.clock is not None:
            by_token = policy.granularity == "token"
            share = self.clock.measured(policy) if by_token else self.clock.expected(policy, found.left)
        return TradeOff(
            layers=policy.layers,
            thresholds=policy.thresholds,
            patience=policy.patience,
            quality=quality,
            drop=drop,
            drop_bound=bound if policy.is_early else 0.0,
            flops_share=found.flops_share if policy.is_early else 1.0,
            time_share=share,
            mean_exit_layer=float(found.left.mean()),
        )

    def _judged(self, tally: Tally) -> tuple[float, float, float]:
        """Return the quality of a policy, and its drop and what bounds that, in points."""
        plain = self.trial.plain
        # Of what nobody held back nothing is known.
        bound = drop_bounds(plain, tally, self.draws).upper if (~self.trial.learned_from).any() else 100.0
        return tally.score, 100 * (plain.score - tally.score), bound


def _halve(low: float, high: float, times: int, is_beyond: Callable[[float], bool]) -> None:
    """Ask at the geometric middle of an interval, and so on in the half where the answer changes."""
    for _ in range(times):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if is_beyond(middle) else (middle, high)


def scaled(policy: ExitPolicy, factor: float) -> ExitPolicy:
    """Return a policy with all thresholds multiplied, at most 1."""
    thresholds = tuple(min(1.0, round(factor * threshold, 9)) for threshold in policy.thresholds)
    return policy.model_copy(update={"thresholds": thresholds})
