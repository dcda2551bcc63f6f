"""The headline: what the best product keeps of its teacher, how much faster and how much smaller it is."""

from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import NamedTuple

from halfling.cost.latency import paired_ratio
from halfling.report import summary
from halfling.report.tables import ABSENT, amount
from halfling.report.words import language_name
from halfling.results import Cost, Form, Result


class Figure(NamedTuple):
    """A number to be shown large, and what it is."""

    number: str
    meaning: str


class Headline(NamedTuple):
    """Three figures of one task, and what exactly is compared."""

    task: str
    figures: Sequence[Figure]
    compared: str


def headline(rows: Sequence[Result], costs: Sequence[Cost], teacher: str, exit_suffix: str) -> Headline | None:
    """Return the headline of one task's rows; None when there are no two to compare.

    The product is the most served of the forms there are (engine, int8, exits), of several models the best.
    It is held against the teacher in PyTorch, where there is no teacher against its own model there.
    """
    means = {form: _means(row for row in rows if row.form == form) for form in {row.form for row in rows}}
    students = [form for form in means if form.model != teacher] or list(means)
    product = max(students, key=lambda form: (form.rank, fmean(means[form].values()), form.model))
    reference = next(
        (
            form
            for model in (teacher, product.model.removesuffix(exit_suffix), product.model)
            for form in (Form(model, "pytorch", "float32", exits=False),)
            if form in means and form != product
        ),
        None,
    )
    cost_of = {(cost.form, cost.language): cost for cost in costs}
    if reference is None:
        return None
    # Of seeds that both have: a teacher's others are of other students.
    seeds = {row.seed for row in rows if row.form == product} & {row.seed for row in rows if row.form == reference}
    rows = [row for row in rows if row.form in (product, reference) and row.seed in seeds]
    means = {form: _means(row for row in rows if row.form == form) for form in (product, reference)}
    codes = sorted({*means[product]} & {*means[reference]})
    if not codes:
        return None
    mine, its = ([cost_of[form, code] for code in codes] for form in (product, reference))
    return Headline(
        rows[0].task,
        (
            _kept(means[product], means[reference], codes, f"{reference.model}'s {rows[0].metric}"),
            _faster(mine, its),
            _smaller(mine[0].disk_bytes, its[0].disk_bytes),
        ),
        f"Compared: {product.model} ({product.label}) with {reference.model} (transformers, PyTorch float32). "
        f"Scores: dev, {_seeds(rows)}. Time: a text alone, from text to answer, mean over languages, median over "
        f"{len(mine[0].rounds_ms_b1)} rounds in which both take turns.",
    )


def _means(rows: Iterable[Result]) -> dict[str, float]:
    """Return the mean score in each language."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.language, []).append(row.score)
    return {code: fmean(seeds) for code, seeds in scores.items()}


def _kept(mine: dict[str, float], its: dict[str, float], codes: Sequence[str], of: str) -> Figure:
    # What scores nothing cannot be kept.
    kept = {code: 100 * mine[code] / its[code] for code in codes if its[code] > 0}
    if not kept:
        return Figure(ABSENT, f"{of} is 0 in every language: nothing to keep")
    worst = min(kept, key=lambda code: kept[code])
    where = f"in {language_name(worst)}"
    if len(kept) > 1:
        where += f", the worst language; {fmean(kept.values()):.1f} % on average over {len(kept)} languages"
    return Figure(f"{kept[worst]:.1f} %", f"of {of} {where}")


def _faster(mine: Sequence[Cost], its: Sequence[Cost]) -> Figure:
    own, other = (
        [fmean(languages) for languages in zip(*(cost.rounds_ms_b1 for cost in costs), strict=True)]
        for costs in (mine, its)
    )
    times, quartiles = median(other) / median(own), paired_ratio(other, own)
    between = f"[{_times(quartiles.lower)},\u00a0{_times(quartiles.upper)}]"
    what = "noise" if summary.is_noise(quartiles) else "faster" if times > 1 else "as fast"
    took = f"a text alone takes {amount(median(own))} ms instead of {amount(median(other))} ms"
    return Figure(f"{_times(times)}×", f"{what}: {took}; quartiles over rounds {between}")


def _smaller(mine: int, its: int) -> Figure:
    number = f"{_times(its / mine)}×" if mine else ABSENT
    what = "smaller" if its > mine else "as small"
    return Figure(number, f"{what} on disk: {mine / 1e6:,.0f} MB instead of {its / 1e6:,.0f} MB")


def _seeds(rows: Sequence[Result]) -> str:
    number = len({row.seed for row in rows})
    return "one seed" if number == 1 else f"mean over {number} seeds"


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
