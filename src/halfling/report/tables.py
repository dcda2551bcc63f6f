"""Tables: the numbers as text once, in three forms (Markdown, page, terminal)."""

from collections.abc import Callable, Sequence
from statistics import fmean

import rich.box
import rich.table

from halfling.languages import CC100
from halfling.records import MaskedLoss, Record, Result
from halfling.report import summary
from halfling.report.summary import Mean, Saving

TASK_TITLES = {"xnli": "XNLI", "wikiann": "WikiANN-NER"}
SCORE_TITLES = {"xnli": "accuracy %", "wikiann": "span F1 %"}
ABSENT = "–"

_Measure = Callable[[Result], float]
_THESIS_COSTS: dict[str, _Measure] = {
    "GMACs linear": lambda row: row.gmacs_linear,
    "GFLOPs": lambda row: row.gflops,
    "time ms": lambda row: row.latency_ms_b1,
    "memory GB": lambda row: row.peak_bytes / 1e9,
}
_TERMINAL_COSTS: dict[str, _Measure] = {
    "layer": lambda row: row.mean_exit_layer,
    "GFLOPs": lambda row: row.gflops,
    "ms b1": lambda row: row.latency_ms_b1,
    "ms b32": lambda row: row.latency_ms_b32,
    "GB": lambda row: row.peak_bytes / 1e9,
}


class Table(Record):
    """Text in cells. The first `num_labels` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    num_labels: int = 1


def thesis_table(rows: Sequence[Result], task: str, language: str) -> Table:
    """Return the thesis's table for one task in one language, and beside its GFLOPs the whole truth."""
    here = [row for row in rows if row.task == task and row.language == language]

    def cells(model: str) -> tuple[str, ...]:
        own = [row for row in here if row.model == model]
        scores = (summary.over_seeds(own, measure) for measure in (lambda row: row.accuracy, lambda row: row.f1))
        # Time and memory are measured once for all seeds: a spread beside them would say nothing.
        costs = (fmean(measure(row) for row in own) for measure in _THESIS_COSTS.values())
        return (model, *(with_spread(mean, percent) for mean in scores), *map(amount, costs))

    return Table(
        title=f"The thesis's table: {language_name(language)}",
        columns=("model", "acc %", "F1 %", *_THESIS_COSTS),
        rows=tuple(cells(model) for model in summary.models(here)),
        note="GMACs linear is the thesis's GFLOPs column: linear layers at 128 tokens. GFLOPs is the whole "
        "count at real lengths. Time is that of a sentence alone, memory the peak of a fresh process.",
    )


def language_table(rows: Sequence[Result], task: str, order: Sequence[str], source: str) -> Table:
    """Return each model's score in every language, and the mean of those that it was not trained on."""
    here = [row for row in rows if row.task == task]
    codes = summary.languages(here, order)
    others = [code for code in codes if code != source]

    def cells(model: str) -> tuple[str, ...]:
        own = [row for row in here if row.model == model]
        by_language = [summary.over_seeds((r for r in own if r.language == code), summary.score) for code in codes]
        means = [*by_language, summary.mean_score(here, model, others)]
        return (model, *(with_spread(mean, percent) for mean in means))

    return Table(
        title=f"Languages: {SCORE_TITLES[task]}",
        columns=("model", *codes, "zero-shot mean"),
        rows=tuple(cells(model) for model in summary.models(here)),
        note=f"Labels were in {language_name(source)} only; the zero-shot mean is over all other languages.",
    )


def held_out_table(losses: Sequence[MaskedLoss]) -> Table:
    """Return each language's masked-language-model loss on held-out text, a column for each model."""
    models = sorted({line.model for line in losses}, key=lambda name: (name != "teacher", name))
    loss_of = {(line.model, line.language): line.loss for line in losses}
    codes = sorted({line.language for line in losses})
    means = [fmean(loss for (model, _), loss in loss_of.items() if model == name) for name in models]
    rows = [(code, language_name(code), *(_loss(loss_of.get((model, code))) for model in models)) for code in codes]
    return Table(
        title="Masked-language-model loss on held-out text",
        columns=("code", "language", *models),
        rows=(("", "mean of the languages", *map(_loss, means)), *rows) if rows else (),
        note="Nats per masked token, 15 % masked, on text of the chunk that no model was trained on.",
        num_labels=2,
    )


def _loss(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def saving_table(savings: Sequence[Saving], task: str) -> Table:
    """Return what early exit gives up and gains against its plain student, a row for each language."""
    return Table(
        title="Early exit against its plain student",
        columns=(
            "model",
            "language",
            "flops_share",
            "timed flops_share",
            "time_share",
            "realisation",
            "score change",
            "exit layer",
            "time_share b32",
            "realisation b32",
        ),
        rows=tuple(_saving_cells(saving) for saving in savings if saving.task == task),
        note="Shares are of the plain student's arithmetic and time; flops_share is over all of dev, the timed one "
        "over the 32 sentences that were timed. realisation = time_share / timed flops_share: 1.00 when work saved is "
        "time saved, above when part of it is lost. The score change is in points.",
        num_labels=2,
    )


def _saving_cells(saving: Saving) -> tuple[str, ...]:
    return (
        saving.model,
        saving.language,
        f"{saving.flops_share:.3f}",
        f"{saving.timed_flops_share:.3f}",
        f"{saving.time_share_b1:.3f}",
        f"{saving.realisation_b1:.2f}",
        f"{saving.quality_change:+.1f}",
        f"{saving.mean_exit_layer:.2f}",
        f"{saving.time_share_b32:.3f}",
        f"{saving.realisation_b32:.2f}",
    )


def markdown(table: Table) -> str:
    """Return the table as Markdown, under a heading of the third level."""
    align = ["---"] * table.num_labels + ["---:"] * (len(table.columns) - table.num_labels)
    lines = [f"| {' | '.join(cells)} |" for cells in (table.columns, align, *table.rows)]
    parts = [f"### {table.title}", "\n".join(lines), table.note]
    return "\n\n".join(part for part in parts if part) + "\n"


def print_table(results: Sequence[Result], source: str = "en") -> rich.table.Table:
    """Return the results for the terminal: a row for each task and model, means over languages and seeds.

    Scores are apart: in the language of fine-tuning, `source`, and on average over all others.
    """
    # 80 columns hold it: a terminal that wraps numbers makes them unreadable.
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    for column in ("task", "model"):
        table.add_column(column, no_wrap=True)
    for column in (f"{source} %", "zero %", *_TERMINAL_COSTS):
        table.add_column(column, justify="right", no_wrap=True)
    for task in summary.tasks(results):
        here = [row for row in results if row.task == task]
        others = [code for code in summary.languages(here, ()) if code != source]
        for model in summary.models(here):
            own = [row for row in here if row.model == model]
            scores = (summary.mean_score(here, model, [source]), summary.mean_score(here, model, others))
            costs = (fmean(measure(row) for row in own) for measure in _TERMINAL_COSTS.values())
            shown = (with_spread(mean, percent) for mean in scores)
            table.add_row(task, model, *shown, *map(amount, costs))
        table.add_section()
    return table


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where CC100 has no such language."""
    return CC100[code].name if code in CC100 else code


def percent(share: float) -> str:
    """Return a share (0..1) in percent with one decimal."""
    return f"{100 * share:.1f}"


def amount(value: float) -> str:
    """Return an amount with two decimals, small ones with three significant digits."""
    return f"{value:.2f}" if value >= 1 or value == 0 else f"{value:.3g}"


def with_spread(mean: Mean | None, show: Callable[[float], str]) -> str:
    """Return a mean as text, with its spread when there is more than one seed."""
    if mean is None:
        return ABSENT
    return show(mean.value) if mean.spread is None else f"{show(mean.value)} ± {show(mean.spread)}"
