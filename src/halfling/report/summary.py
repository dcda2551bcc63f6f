"""The numbers that tables and plots show, from the rows of `results.csv` and the rounds that were timed."""

from collections.abc import Iterable, Sequence
from itertools import product
from statistics import fmean, stdev
from typing import NamedTuple

from halfling.cost.latency import Ratio, paired_ratio
from halfling.results import Case, Cost, Form, Result, Scores


class Mean(NamedTuple):
    """A mean over seeds."""

    value: float
    spread: float | None
    """Sample standard deviation; None when there is one seed only."""


class Saving(NamedTuple):
    """What early exit gives up and gains within one model in one language."""

    form: Form
    language: str
    mean_exit_layer: float
    score_change: Mean | None
    """Points (0..100) of the task's own score, less those of the same model without exits."""
    plain_change: Mean | None
    """Likewise, less those of the plain student; None where none was measured."""
    flops_share: float
    """Over all examples of dev, and over seeds."""
    timed_flops_share: float
    """Over the texts that were timed: what the time shares are to be held against."""
    time_b1: Ratio
    time_b32: Ratio

    def realisation(self, time: Ratio) -> float:
        """Return time_share / flops_share of the timed texts: 1.0 when all work saved is time saved."""
        return time.median / self.timed_flops_share


def is_noise(ratio: Ratio) -> bool:
    """Return whether the quartiles hold 1: no difference was measured."""
    return ratio.lower <= 1 <= ratio.upper


def over_seeds(rows: Iterable[Scores], field: str) -> Mean | None:
    """Return the mean of a field over seeds, each seed first averaged over its rows; None without rows."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(getattr(row, field))
    return mean([fmean(values) for values in by_seed.values()])


def mean(values: Sequence[float]) -> Mean | None:
    """Return the mean of one value a seed; None without any."""
    return Mean(fmean(values), stdev(values) if len(values) > 1 else None) if values else None


def forms(rows: Sequence[Scores]) -> list[Form]:
    """Return the models of these rows in every form they run in: the cheapest model first, what is served last."""
    work: dict[str, list[float]] = {}
    for row in rows:
        work.setdefault(row.model, []).append(row.gflops)
    return sorted({row.form for row in rows}, key=lambda form: (fmean(work[form.model]), form.model, form.rank))


def languages(rows: Iterable[Case], order: Sequence[str]) -> list[str]:
    """Return the languages of these rows: those of `order` in its order, then all others sorted."""
    there = {row.language for row in rows}
    return [code for code in order if code in there] + sorted(there - set(order))


def zero_shot(rows: Iterable[Scores]) -> list[str]:
    """Return the languages that some model had no labels in, sorted."""
    return sorted({row.language for row in rows if not row.trained_on})


def mean_score(rows: Iterable[Scores], codes: Sequence[str], *, trained_on: bool) -> Mean | None:
    """Return the mean score over the languages `codes`; None if a seed lacks one, or was not so trained in it."""
    own = [row for row in rows if row.language in codes and row.trained_on == trained_on]
    complete = {(row.seed, code) for row in own for code in codes}
    return over_seeds(own, "score") if {(row.seed, row.language) for row in own} == complete else None


def savings(rows: Sequence[Result], costs: Sequence[Cost], exit_suffix: str, order: Sequence[str]) -> list[Saving]:
    """Return what exits save where a model was measured with and without, in the same runtime and precision.

    Rows and costs are of one task. An early-exit model is named as its plain student, and `exit_suffix`.
    """
    cells: dict[tuple[Form, str], list[Result]] = {}
    for row in rows:
        cells.setdefault((row.form, row.language), []).append(row)
    timed = {(cost.form, cost.language): cost for cost in costs}
    found = []
    for form, code in product(forms(rows), languages(rows, order)):
        without = form._replace(exits=False)
        plain = without._replace(model=form.model.removesuffix(exit_suffix))
        if not form.exits or (form, code) not in cells or (without, code) not in cells:
            continue
        own, reference = cells[form, code], cells[without, code]
        mine, its = timed[form, code], timed[without, code]
        saving = Saving(
            form=form,
            language=code,
            mean_exit_layer=fmean(row.mean_exit_layer for row in own),
            score_change=change(own, reference),
            plain_change=None if plain == without else change(own, cells.get((plain, code), ())),
            flops_share=fmean(row.gflops for row in own) / fmean(row.gflops for row in reference),
            timed_flops_share=mine.timed_gflops / its.timed_gflops,
            time_b1=paired_ratio(mine.rounds_ms_b1, its.rounds_ms_b1),
            time_b32=paired_ratio(mine.rounds_ms_b32, its.rounds_ms_b32),
        )
        found.append(saving)
    return found


def change(own: Iterable[Scores], reference: Iterable[Scores]) -> Mean | None:
    """Return how many points the score of one language changes, mean over the seeds that both have."""
    before = {row.seed: row.score for row in reference}
    return mean([100 * (row.score - before[row.seed]) for row in own if row.seed in before])
