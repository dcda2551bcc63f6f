"""Thresholds, shares and losses by language, where a policy holds several sets."""

from collections.abc import Iterator, Mapping, Sequence

from halfling.exits.calibration import Calibration, OfLanguage
from halfling.exits.policy import ExitPolicy
from halfling.report.tables import ABSENT, Table
from halfling.report.words import language_name

_ANY_OTHER = "any other"

_NOTE = (
    "As calibrated, not as measured on dev. Thresholds: layer: uncertainty below which an input exits there. "
    "Loss: points of score where labels chose, of all dev; else points of disagreement with full depth. "
    "Bound: what it does not exceed with 95 % confidence, by texts that thresholds were not fitted to. "
    "Any other language exits by the most cautious of all sets."
)


def sets_table(calibrations: Mapping[str, Calibration], order: Sequence[str]) -> Table:
    """Return a row for each language's own set of each calibration, and one for the default; none without sets.

    Languages stand in their `order`, all others after them.
    """
    several = {name: one for name, one in calibrations.items() if one.languages}
    return Table(
        title="Thresholds by language",
        columns=("model", "language", "chosen by", "thresholds", "flops_share", "time_share", "loss", "bound", "texts"),
        rows=tuple(row for name, one in several.items() for row in _rows(name, one, order)),
        note=_NOTE if several else "",
        num_labels=4,
        grouped=True,
    )


def _rows(name: str, found: Calibration, order: Sequence[str]) -> Iterator[tuple[str, ...]]:
    codes = [code for code in order if code in found.languages]
    for code in codes + sorted({*found.languages} - {*codes}):
        yield name, language_name(code), *_cells(found.languages[code])
    yield name, _ANY_OTHER, "the most cautious", _thresholds(found.policy), *[ABSENT] * 5


def _cells(one: OfLanguage) -> tuple[str, ...]:
    point = one.point
    return (
        "labels" if one.from_labels else "text",
        _thresholds(one.policy),
        f"{point.flops_share:.3f}",
        ABSENT if point.time_share is None else f"{point.time_share:.2f}",
        f"{point.drop:.2f}",
        f"{point.drop_bound:.2f}",
        str(one.num_texts),
    )


def _thresholds(policy: ExitPolicy) -> str:
    if not policy.is_early:
        return "no early exits"
    if policy.patience is not None:
        return f"{policy.patience} exits that agree"
    return ", ".join(f"{layer}: {limit:.3g}" for layer, limit in zip(policy.layers, policy.thresholds, strict=False))
