"""What int8 cost when models were exported, as a table."""

from collections.abc import Sequence
from statistics import fmean

from halfling.report.tables import ABSENT, Table
from halfling.report.words import language_name
from halfling.results import MeasuredDrop


def int8_table(drops: Sequence[MeasuredDrop], order: Sequence[str]) -> Table:
    """Return a row for each export of one task's models, with each language's drop and its bound; none without drops.

    Languages stand in their `order`, all others after them.
    """
    spoken = {drop.language for drop in drops}
    codes = [code for code in order if code in spoken] + sorted(spoken - {*order})
    rows: dict[tuple[str, str], list[MeasuredDrop]] = {}
    for drop in sorted(drops, key=lambda one: (one.model, one.exits, one.backend, one.language, one.seed)):
        rows.setdefault((drop.model, f"{drop.backend}{', exits' * drop.exits}"), []).append(drop)
    return Table(
        title="int8 against float32, as measured at export",
        columns=("model", "export", *map(language_name, codes), "layers in 16 bits"),
        rows=tuple(
            (*name, *(_cell([drop for drop in own if drop.language == code]) for code in codes), _wide(own))
            for name, own in rows.items()
        ),
        note=_note(drops) if drops else "",
        num_labels=2,
        grouped=True,
    )


def _cell(own: Sequence[MeasuredDrop]) -> str:
    if not own:
        return ABSENT
    few = "" if all(drop.suffices for drop in own) else "*"
    return f"{fmean(drop.drop for drop in own):.2f} ≤\u00a0{max(drop.bound for drop in own):.2f}{few}"


def _wide(own: Sequence[MeasuredDrop]) -> str:
    return ", ".join(map(str, sorted({layer for drop in own for layer in drop.wide_layers}))) or ABSENT


def _note(drops: Sequence[MeasuredDrop]) -> str:
    return (
        f"Points of {drops[0].metric} that float32 has more ≤ what this drop does not exceed with 95 % confidence; "
        f"at most {max(drop.num_examples for drop in drops)} dev examples a language, the same for both. "
        "Over several seeds: the mean, and the largest bound. "
        "*: too few examples to tell whether the drop is within the limit."
    )
