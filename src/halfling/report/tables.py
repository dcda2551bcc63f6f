"""Tables: the numbers as text once, in three forms (Markdown, page, terminal)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import TypeVar

import rich.box
import rich.console
import rich.markup
import rich.table

from halfling.cost.latency import Ratio
from halfling.errors import HalflingError
from halfling.records import Record
from halfling.report import summary
from halfling.report.summary import Mean, Saving
from halfling.report.words import language_name
from halfling.results import MaskedLoss, Result, Scores

ABSENT = "–"

_Cell = Callable[[Sequence[Result]], str]
_Row = TypeVar("_Row", bound=Scores)


class Table(Record):
    """Text in cells. The first `num_labels` columns are words, the others numbers.

    Where it is `grouped`, rows of one first cell belong together: the page shows that cell once, as their heading.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    num_labels: int = 1
    grouped: bool = False


def thesis_table(rows: Sequence[Result], language: str) -> Table:
    """Return the thesis's table for the rows of one task in one language, and beside its GFLOPs the whole truth."""
    heads: dict[str, _Cell] = {
        "acc %": lambda own: with_spread(summary.over_seeds(own, "accuracy"), percent),
        "F1 %": lambda own: with_spread(summary.over_seeds(own, "f1"), percent),
        "GMACs linear": _mean_of("gmacs_linear"),
        "GFLOPs": _mean_of("gflops"),
        "time ms": _mean_of("latency_ms_b1"),
        "memory GB": _mean_of("peak_bytes", 1e9),
        "disk GB": _mean_of("disk_bytes", 1e9),
    }
    here = [row for row in rows if row.language == language]
    note = "The thesis's table. Its GFLOPs column is GMACs linear here."
    return _form_table(f"{language_name(language)}: quality and cost", here, heads, note)


def language_table(rows: Sequence[Scores], order: Sequence[str]) -> Table:
    """Return each model's score in every language of a task's rows, and the mean of those without labels."""
    others = summary.zero_shot(rows)

    def cell(code: str) -> Callable[[Sequence[Scores]], str]:
        return lambda own: with_spread(summary.over_seeds((r for r in own if r.language == code), "score"), percent)

    heads = {c if c in others else f"{c}, trained": cell(c) for c in summary.languages(rows, order)}
    # Where nothing is known of training, nothing is said of it.
    mean = "zero-shot mean" if any(row.trained_on for row in rows) else "mean"
    heads[mean] = lambda own: with_spread(summary.mean_score(own, others, trained_on=False), percent)
    return _form_table(f"Languages: {rows[0].metric} %", rows, heads)


def _form_table(
    title: str, rows: Sequence[_Row], heads: Mapping[str, Callable[[Sequence[_Row]], str]], note: str = ""
) -> Table:
    """Return a table with a row for each model in each of its forms."""
    own = {form: [row for row in rows if row.form == form] for form in summary.forms(rows)}
    return Table(
        title=title,
        columns=("model", "form", *heads),
        rows=tuple((f.model, f.label, *(cell(here) for cell in heads.values())) for f, here in own.items()),
        note=note,
        num_labels=2,
        grouped=True,
    )


def _mean_of(field: str, unit: float = 1) -> _Cell:
    # No spread: most of these are one for all seeds.
    return lambda own: amount(fmean(getattr(row, field) for row in own) / unit)


def held_out_table(losses: Sequence[MaskedLoss]) -> Table:
    """Return each language's masked-language-model loss on held-out text, a column for each model."""
    models = sorted({line.model for line in losses}, key=lambda name: (name != "teacher", name))
    loss_of = {(line.model, line.language): line.loss for line in losses}
    if len(loss_of) < len(losses):
        raise HalflingError("report: a model's held-out loss in a language is given twice: name each measurement once")
    codes = sorted({line.language for line in losses})
    means = [fmean(loss for (model, _), loss in loss_of.items() if model == name) for name in models]
    rows = [(code, language_name(code), *(_loss(loss_of.get((model, code))) for model in models)) for code in codes]
    return Table(
        title="Masked-language-model loss on held-out text",
        columns=("code", "language", *models),
        rows=(("", "mean of the languages", *map(_loss, means)), *rows) if rows else (),
        note="Nats per masked token, on the text that the masked-lm stage was given.",
        num_labels=2,
    )


def _loss(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def saving_table(savings: Sequence[Saving], metric: str) -> Table:
    """Return what early exit gives up and gains within each model of one task, a row for each language."""
    heads: dict[str, Callable[[Saving], str]] = {
        "model": lambda s: f"{s.form.model}, {s.form._replace(exits=False).label}",
        "language": lambda s: language_name(s.language),
        "flops_share": lambda s: f"{s.flops_share:.3f}",
        "time_share": lambda s: _ratio(s.time_b1),
        "realisation": lambda s: f"{s.realisation(s.time_b1):.2f}",
        "time_share in 32": lambda s: _ratio(s.time_b32),
        "realisation in 32": lambda s: f"{s.realisation(s.time_b32):.2f}",
        "score change": lambda s: with_spread(s.score_change, "{:+.1f}".format),
        "against plain": lambda s: with_spread(s.plain_change, "{:+.1f}".format),
        "exit layer": lambda s: f"{s.mean_exit_layer:.2f}",
        "timed flops_share": lambda s: f"{s.timed_flops_share:.3f}",
    }
    return Table(
        title="Early exit: on against off",
        columns=tuple(heads),
        rows=tuple(tuple(cell(saving) for cell in heads.values()) for saving in savings),
        note=f"The same model with exits / without. Times: median over rounds [quartiles]. Changes: {metric} points.",
        num_labels=2,
        grouped=True,
    )


def _ratio(value: Ratio) -> str:
    # Where room is short a line may end before the quartiles, not within.
    text = f"{value.median:.2f} [{value.lower:.2f},\u00a0{value.upper:.2f}]"
    return f"{text} noise" if summary.is_noise(value) else text


def markdown(table: Table) -> str:
    """Return the table as Markdown, under a heading of the third level."""
    align = ["---"] * table.num_labels + ["---:"] * (len(table.columns) - table.num_labels)
    lines = [f"| {' | '.join(cells)} |" for cells in (table.columns, align, *table.rows)]
    parts = [f"### {table.title}", "\n".join(lines), table.note]
    return "\n\n".join(part for part in parts if part) + "\n"


def print_table(results: Sequence[Result]) -> rich.console.Group:
    """Return the results for a terminal of 80 columns, a table for each task: means over languages and seeds."""
    return rich.console.Group(
        *(_printed([row for row in results if row.task == task]) for task in sorted({row.task for row in results}))
    )


def _printed(rows: Sequence[Result]) -> rich.table.Table:
    others = summary.zero_shot(rows)
    trained = sorted({row.language for row in rows} - {*others})

    def cell(codes: Sequence[str], *, there: bool) -> _Cell:
        return lambda own: with_spread(summary.mean_score(own, codes, trained_on=there), percent).split("\u00a0")[0]

    heads: dict[str, _Cell] = {
        "trained": cell(trained, there=True),
        "zero": cell(others, there=False),
        "layer": _mean_of("mean_exit_layer"),
        "GFLOPs": _mean_of("gflops"),
        "ms": _mean_of("latency_ms_b1"),
        "ms/32": _mean_of("latency_ms_b32"),
        "RAM": _mean_of("peak_bytes", 1e9),
        "disk": _mean_of("disk_bytes", 1e9),
    }
    title = f"{rows[0].task}: {rows[0].metric} % where trained and zero-shot; ms alone and in 32; GB"
    # A terminal that wraps numbers makes them unreadable: only a long name is folded.
    # A name may hold what reads as markup.
    shown = rich.table.Table(
        title=rich.markup.escape(title), title_justify="left", box=rich.box.SIMPLE_HEAD, padding=0, pad_edge=False
    )
    shown.add_column("model", overflow="fold")
    for head in heads:
        shown.add_column(head, justify="right", no_wrap=True)
    for model, forms in groupby(summary.forms(rows), key=lambda form: form.model):
        shown.add_row(rich.markup.escape(model))
        for form in forms:
            own = [row for row in rows if row.form == form]
            shown.add_row(f"  {form.label}", *(show(own) for show in heads.values()))
    return shown


def percent(share: float) -> str:
    """Return a share (0..1) in percent with one decimal."""
    return f"{100 * share:.1f}"


def amount(value: float) -> str:
    """Return an amount with two decimals, large ones with none, small ones with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 or value == 0 else f"{value:.3g}"


def with_spread(mean: Mean | None, show: Callable[[float], str]) -> str:
    """Return a mean as text, with its spread when there is more than one seed."""
    if mean is None:
        return ABSENT
    spread = "" if mean.spread is None else f"\u00a0±\u00a0{show(mean.spread).lstrip('+')}"
    return show(mean.value) + spread
