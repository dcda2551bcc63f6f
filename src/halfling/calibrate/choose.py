"""Which point of a curve is taken: what was chosen by expected times is measured before it is believed."""

from statistics import fmean

from halfling.calibrate.settings import Wish
from halfling.calibrate.timing import Clock
from halfling.errors import HalflingError
from halfling.exits.calibration import TradeOff
from halfling.exits.policy import ExitPolicy

_MEASURED = 3
"""So many policies at most are measured as one: each is an export."""


def choose(wish: Wish, points: dict[ExitPolicy, TradeOff], clock: Clock | None, where: str) -> ExitPolicy:
    """Return the policy to take.

    A time that was added up from layers is measured as one before its policy is taken, which must then still be the
    one to choose; `points` then hold what was measured. The others are expected to be off by as much. Tokens' policies
    were all measured.

    Args:
        wish: What is asked for.
        points: What may be taken, no exits first.
        clock: Measures times, if they are measured.
        where: What is calibrated, for messages.

    Raises:
        HalflingError: No point meets the wish.
    """
    plain = next(iter(points))
    plain_ms = clock.plain_ms if clock else None
    measured = {*points} if plain.granularity == "token" else {plain}
    by_time = wish.what == "latency_ms"

    def spent(point: TradeOff) -> float:
        return point.time_share or 1.0 if by_time else point.flops_share

    cheapest = min(points, key=lambda policy: spent(points[policy]))
    slower: list[float] = []
    while True:
        factor = fmean(slower) if slower else 1.0
        known = {
            policy: point if policy in measured else _slower(point, factor)
            for policy, point in points.items()
            if policy in measured or len(measured) <= _MEASURED
        }
        chosen = wish.choose([*known.values()], plain_ms)
        # Before there is said to be nothing, the cheapest is measured.
        policy = next((one for one, point in known.items() if point is chosen), cheapest if by_time else plain)
        if clock is not None and policy not in measured:
            share = clock.measured(policy)
            slower.append(share / (points[policy].time_share or 1.0))
            points[policy] = points[policy].model_copy(update={"time_share": share})
            measured.add(policy)
        elif chosen is not None:
            return policy
        else:
            least = min(known.values(), key=spent)
            took = f", time_share {least.time_share:.3f} of {plain_ms:.2f} ms" if plain_ms and least.time_share else ""
            raise HalflingError(
                f"{where}: {wish.what}={wish.limit:g} is out of reach: the cheapest policy has flops_share "
                f"{least.flops_share:.3f}{took}"
            )


def _slower(point: TradeOff, factor: float) -> TradeOff:
    return point if point.time_share is None else point.model_copy(update={"time_share": factor * point.time_share})
