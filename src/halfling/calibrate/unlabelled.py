"""Exits and thresholds for a language from its text alone: how far may answers be from those of full depth?"""

from math import ceil

from halfling.calibrate.agreement import disagreements
from halfling.calibrate.choose import choose
from halfling.calibrate.curve import Drawing, scaled
from halfling.calibrate.settings import MOST, Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock
from halfling.errors import HalflingError
from halfling.exits.bound import CONFIDENCE, fewest, least, upper_bound
from halfling.exits.calibration import OfLanguage
from halfling.exits.policy import ExitPolicy
from halfling.tasks.score import Tally

_CLOSER = 10
"""So many times thresholds are lowered by a quarter."""


class Agreement(Drawing):
    """Points whose drop is the mean disagreement with full depth, of a trial that nobody has labelled."""

    def __init__(self, trial: Trial, clock: Clock | None) -> None:
        super().__init__(trial, clock, trial.learned_from[None])

    def number(self, policy: ExitPolicy) -> int:
        """Return how many texts say something of a policy."""
        return len(disagreements(self.trial.run(policy).tally))

    def _judged(self, tally: Tally) -> tuple[float, float, float]:
        losses = disagreements(tally)
        mean = float(losses.mean()) if len(losses) else 0.0
        return 1 - mean, 100 * mean, 100 * upper_bound(losses)


def of_text(
    wish: Wish, trial: Trial, clock: Clock | None, max_exits: int, where: str, more: str = "give more text"
) -> OfLanguage:
    """Return the exits and thresholds that meet a wish on text without labels.

    Half of the text fits thresholds and orders them, from the least disagreement on; the other half bounds. A limit of
    disagreement is tested in that order until a test fails, at a confidence of 95 %, and the cheapest of those that
    passed is taken: fixed-sequence testing of "Learn then Test" (https://arxiv.org/abs/2110.01052), whose choice
    exceeds the limit in at most 5 % of draws of the text. The bound is then the limit. For any other wish the first
    half alone chooses, and the second bounds that one choice.

    Args:
        wish: What is asked for.
        trial: Not labelled.
        clock: What times are expected from, if they are.
        max_exits: Early exits in use at most.
        where: The text, for messages.
        more: What to do where it is too little.

    Raises:
        HalflingError: The text is too little to bound anything, or the wish is out of reach.
    """
    by_limit, halves = wish.what == "max_disagreement", trial.halves()
    needed = max(1, fewest(wish.limit / 100)) if by_limit else 1
    number = min(len(half.examples) for half in halves)
    if number:
        fitted, held = (Agreement(half, clock) for half in halves)
        number = min(each.number(each.no_exits) for each in (fitted, held))
    if number < needed:
        what = "texts in which the model finds spans" if trial.task.metric == "span F1" else "texts"
        shown = ceil(1000 * least(number)) / 10
        mend = f"or set max_disagreement={shown:g}" if by_limit and shown <= MOST else "or leave the language out"
        raise HalflingError(
            f"{where}: {number} {what} in each half are too few to bound the disagreement with full depth: at least "
            f"{needed} are needed: {more}, {mend}"
        )
    fitted.draw(wish, max_exits)
    allowed = fitted.points
    if by_limit:
        _draw_closer(fitted, wish)
        allowed = {held.no_exits: held.points[held.no_exits]}
        for each in sorted(fitted.points, key=lambda one: (fitted.points[one].drop, -fitted.points[one].flops_share)):
            if not wish.is_met(point := held.at(each)):
                break
            allowed[each] = point
    policy = choose(wish, allowed, clock, where)
    point = held.at(policy).model_copy(update={"time_share": allowed[policy].time_share})
    if by_limit and policy.is_early:
        point = point.model_copy(update={"drop_bound": wish.limit})
    return OfLanguage(
        policy=policy, from_labels=False, point=point, num_texts=held.number(policy), confidence=CONFIDENCE
    )


def _draw_closer(fitted: Agreement, wish: Wish) -> None:
    """Add lower thresholds than those that meet the wish here: on the other half it may be met by these alone."""
    met = wish.choose(fitted.curve)
    policy = next((one for one, point in fitted.points.items() if point is met), fitted.no_exits)
    if policy.criterion != "patience":
        for step in range(1, _CLOSER + 1):
            fitted.at(scaled(policy, 0.75**step))
