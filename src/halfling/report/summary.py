"""The numbers that tables and plots show, from the rows of `results.csv`."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from halfling.records import Cost, Result


class Mean(NamedTuple):
    """A mean over seeds."""

    value: float
    spread: float | None
    """Sample standard deviation; None when there is one seed only."""


class Saving(NamedTuple):
    """What early exit gives up and gains against its plain student, on one task in one language."""

    model: str
    plain: str
    task: str
    language: str
    mean_exit_layer: float
    quality_change: float
    """Points (0..100) of the task's own score; below zero when exits cost quality."""
    flops_share: float
    """Over all examples of dev, and over seeds."""
    timed_flops_share: float
    """Over the sentences that were timed: what the time shares are to be held against."""
    time_share_b1: float
    time_share_b32: float

    @property
    def realisation_b1(self) -> float:
        """time_share / flops_share of the timed sentences, batch 1: 1.0 when all work saved is time saved."""
        return self.time_share_b1 / self.timed_flops_share

    @property
    def realisation_b32(self) -> float:
        """time_share / flops_share at batch 32."""
        return self.time_share_b32 / self.timed_flops_share


def score(row: Result) -> float:
    """Return the task's own score, 0..1: accuracy for XNLI, span F1 for WikiANN."""
    return row.accuracy if row.task == "xnli" else row.f1


def over_seeds(rows: Iterable[Result], measure: Callable[[Result], float]) -> Mean | None:
    """Return the mean of `measure` over seeds, each seed first averaged over its rows; None without rows."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(measure(row))
    if not by_seed:
        return None
    means = [fmean(values) for values in by_seed.values()]
    return Mean(fmean(means), spread(means))


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation; None of a single value."""
    return stdev(values) if len(values) > 1 else None


def tasks(rows: Sequence[Result]) -> list[str]:
    """Return the tasks that have rows, sorted."""
    return sorted({row.task for row in rows})


def models(rows: Sequence[Result]) -> list[str]:
    """Return the models of these rows, the cheapest first."""
    names = {row.model for row in rows}
    return sorted(names, key=lambda name: (fmean(r.gflops for r in rows if r.model == name), name))


def languages(rows: Sequence[Result], order: Sequence[str]) -> list[str]:
    """Return the languages of these rows: those of `order` in its order, then all others sorted."""
    there = {row.language for row in rows}
    return [code for code in order if code in there] + sorted(there - set(order))


def mean_score(rows: Sequence[Result], model: str, codes: Sequence[str]) -> Mean | None:
    """Return a model's mean score over the languages `codes`; None if any seed lacks one of them."""
    own = [row for row in rows if row.model == model and row.language in codes]
    complete = {(row.seed, code) for row in own for code in codes}
    return over_seeds(own, score) if {(row.seed, row.language) for row in own} == complete else None


def savings(rows: Sequence[Result], costs: Sequence[Cost], exit_suffix: str) -> list[Saving]:
    """Return what each model `X` + `exit_suffix` saves against the model `X`, where both were measured."""
    cells: dict[tuple[str, str, str], list[Result]] = {}
    for row in rows:
        cells.setdefault((row.model, row.task, row.language), []).append(row)
    timed = {(cost.model, cost.task, cost.language): cost for cost in costs}
    found = []
    for (model, task, language), own in cells.items():
        plain = model.removesuffix(exit_suffix)
        reference = cells.get((plain, task, language))
        if plain == model or reference is None:
            continue
        mine, its = timed[own[0].model, own[0].task, language], timed[plain, own[0].task, language]
        found.append(
            Saving(
                model=model,
                plain=plain,
                task=task,
                language=language,
                mean_exit_layer=fmean(row.mean_exit_layer for row in own),
                quality_change=100 * (fmean(map(score, own)) - fmean(map(score, reference))),
                flops_share=fmean(row.gflops for row in own) / fmean(row.gflops for row in reference),
                timed_flops_share=mine.timed_gflops / its.timed_gflops,
                time_share_b1=mine.latency_ms_b1 / its.latency_ms_b1,
                time_share_b32=mine.latency_ms_b32 / its.latency_ms_b32,
            )
        )
    return found
