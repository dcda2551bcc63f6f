"""The report stage: results.csv, results.jsonl, table.md, plots and index.html."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from halfling.errors import HalflingError
from halfling.files import write_text
from halfling.languages import SETS
from halfling.records import Counts, Progress, Result, Settings, silent
from halfling.report import plots, summary, tables
from halfling.report.gather import Findings, gather, join
from halfling.report.page import Plot, Section, render_page
from halfling.report.summary import Saving
from halfling.report.tables import Table


class ReportSettings(Settings):
    """How the results are shown."""

    title: str = Field("halfling: results", description="heading of the page")
    note: str = Field("", description="what a reader must know first, for instance that the data is a sample")
    source_language: str = Field("en", description="the language of fine-tuning; all others are zero-shot")
    focus_language: str = Field("sw", description="the language of the thesis's table")
    languages: tuple[str, ...] = Field(SETS["thesis-6"], description="the order in which languages are shown")
    exit_suffix: str = Field("-exits", description="an early-exit model is named as its plain student, and this")


def build_report(*, settings: ReportSettings, out: Path, progress: Progress = silent, **inputs: Path) -> Counts:
    """Write the report of all `inputs` into `out`.

    Args:
        settings: How it is shown.
        out: The folder to write to.
        progress: Told of each file.
        inputs: By role, folders that hold `quality.jsonl`, `costs.jsonl`, `masked_lm.jsonl` or `exit_policy.json`.

    Returns:
        The numbers of results, models, languages and seeds.

    Raises:
        HalflingError: A folder holds nothing to report, a quality has no cost, or a cost no quality.
    """
    found = gather(inputs)
    rows = join(found.qualities, found.costs)
    if not rows:
        raise HalflingError("report: no quality among its inputs: name at least one evaluation")
    savings = _in_order(summary.savings(rows, found.costs, settings.exit_suffix), settings.languages)
    sections = [_section(task, rows, savings, found, settings) for task in summary.tasks(rows)]
    if found.masked_losses:
        sections.append(Section("Language modelling", [tables.held_out_table(found.masked_losses)], []))
    table = csv_text(rows)
    files = {
        "results.csv": table,
        "results.jsonl": "".join(row.model_dump_json() + "\n" for row in rows),
        "table.md": _markdown(settings, sections),
        **{f"{plot.name}.svg": plot.svg for section in sections for plot in section.plots},
        "index.html": render_page(
            title=settings.title,
            note=settings.note,
            findings=[_sentence(saving) for saving in savings if saving.language == settings.focus_language],
            sections=sections,
            results=_all_rows(rows),
            csv=table,
        ),
    }
    for done, (name, text) in enumerate(files.items(), start=1):
        write_text(out / name, text)
        progress(done, len(files), name)
    return {
        "results": len(rows),
        "models": len({row.model for row in rows}),
        "languages": len({row.language for row in rows}),
        "seeds": len({row.seed for row in rows}),
    }


def csv_text(rows: Sequence[Result]) -> str:
    """Return the rows as `results.csv`: the columns of `Result` in their order."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(Result.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return buffer.getvalue()


def _section(
    task: str, rows: Sequence[Result], savings: Sequence[Saving], found: Findings, settings: ReportSettings
) -> Section:
    title, order = tables.TASK_TITLES[task], settings.languages
    spoken = summary.languages([row for row in rows if row.task == task], order)
    focus = settings.focus_language if settings.focus_language in spoken else spoken[0]
    source = tables.language_name(settings.source_language)
    shown = [
        tables.thesis_table(rows, task, focus),
        tables.language_table(rows, task, order, settings.source_language),
        tables.saving_table(savings, task),
    ]
    drawn = {
        f"quality-{task}": (
            plots.quality_against_gflops(rows, task, settings.source_language, settings.exit_suffix),
            f"Quality against arithmetic. Full mark: {source}; hollow: mean of the zero-shot languages.",
        ),
        f"exits-{task}": (
            plots.exits_by_language(found.qualities, task, order),
            "The layer after which inputs leave, in % of inputs.",
        ),
        f"trade-off-{task}": (
            plots.trade_off(found.calibrations, task),
            f"What each policy costs and saves on {source} dev; the chosen one is ringed.",
        ),
    }
    return Section(
        title,
        [table for table in shown if table.rows],
        [Plot(name, caption, svg) for name, (svg, caption) in drawn.items() if svg is not None],
    )


def _markdown(settings: ReportSettings, sections: Sequence[Section]) -> str:
    parts = [f"# {settings.title}\n", *([f"{settings.note}\n"] if settings.note else [])]
    for section in sections:
        parts += [f"## {section.title}\n", *map(tables.markdown, section.tables)]
    return "\n".join(parts)


def _sentence(saving: Saving) -> str:
    """Return what early exit does to one model, in words."""
    where = f"{tables.TASK_TITLES[saving.task]}, {tables.language_name(saving.language)}"
    work, took = (f"{100 * share:.0f} %" for share in (saving.flops_share, saving.time_share_b1))
    return (
        f"{where}: {saving.model} does {work} of the arithmetic of {saving.plain} in {took} of its time, "
        f"and its score changes by {saving.quality_change:+.1f} points. "
        f"Realisation {saving.realisation_b1:.2f}; at 1.00 all work saved is time saved."
    )


def _in_order(savings: Sequence[Saving], order: Sequence[str]) -> list[Saving]:
    place = {code: index for index, code in enumerate(order)}
    return sorted(savings, key=lambda s: (s.task, s.model, place.get(s.language, len(order)), s.language))


def _all_rows(rows: Sequence[Result]) -> Table:
    def shown(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return Table(
        title="All results",
        columns=tuple(Result.model_fields),
        rows=tuple(tuple(shown(value) for value in row.model_dump().values()) for row in rows),
        num_labels=3,
    )
