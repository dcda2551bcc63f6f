"""The report stage: results.csv, results.jsonl, table.md, plots and index.html."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from halfling.errors import HalflingError
from halfling.files import write_text
from halfling.languages import SETS
from halfling.records import Counts, Progress, Settings, json_lines, silent
from halfling.report import plots, summary, tables
from halfling.report.gather import Findings, gather, join
from halfling.report.headline import Headline, headline
from halfling.report.int8 import int8_table
from halfling.report.page import Plot, Section, render_page
from halfling.report.sets import sets_table
from halfling.report.tables import Table
from halfling.results import Case, Cost, Result


class ReportSettings(Settings):
    """How the results are shown."""

    title: str = Field("halfling: results", description="heading of the page")
    note: str = Field("", description="what a reader must know first, for instance that the data is a sample")
    focus_language: str = Field("sw", description="the language of the table of quality and cost")
    languages: tuple[str, ...] = Field(SETS["thesis-6"], description="the order in which languages are shown")
    teacher: str = Field("teacher", description="the model that the headline compares with, in PyTorch")
    exit_suffix: str = Field("-exits", description="an early-exit model is named as its plain student, and this")


def build_report(*, settings: ReportSettings, out: Path, progress: Progress = silent, **inputs: Path) -> Counts:
    """Write the report of all `inputs` into `out`.

    Args:
        inputs: Folders that hold `quality.jsonl`, `costs.jsonl`, `masked_lm.jsonl` or `exit_policy.json`.

    Returns:
        The numbers of results, models, languages and seeds.

    Raises:
        HalflingError: A folder holds nothing to report, a quality has no cost, or a cost no quality.
    """
    found = gather(inputs)
    rows = join(found.qualities, found.costs)
    if not rows:
        raise HalflingError("report: no quality among its inputs: name at least one evaluation")
    by_task = {task: [row for row in rows if row.task == task] for task in sorted({row.task for row in rows})}
    costs = {task: [cost for cost in found.costs if cost.task == task] for task in by_task}
    sections = [_section(task, own, costs[task], found, settings) for task, own in by_task.items()]
    if found.masked_losses:
        sections.append(Section("Language modelling", [tables.held_out_table(found.masked_losses)], []))
    headlines = [headline(own, costs[task], settings.teacher, settings.exit_suffix) for task, own in by_task.items()]
    told = [line for line in headlines if line is not None]
    table = csv_text(rows)
    note = _note(settings, found)
    files = {
        "results.csv": table,
        "results.jsonl": json_lines(rows),
        "table.md": _markdown(settings, note, told, sections),
        **{f"{plot.name}.svg": plot.svg for section in sections for plot in section.plots},
        "index.html": render_page(
            title=settings.title,
            note=note,
            headlines=told,
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
    task: str, rows: Sequence[Result], costs: Sequence[Cost], found: Findings, settings: ReportSettings
) -> Section:
    order = settings.languages
    spoken = summary.languages(rows, order)
    focus = settings.focus_language if settings.focus_language in spoken else spoken[0]
    qualities = [quality for quality in found.qualities if quality.task == task]
    calibrations = {name: calibration for name, calibration in found.calibrations.items() if calibration.task == task}
    shown = [
        tables.thesis_table(rows, focus),
        tables.saving_table(summary.savings(rows, costs, settings.exit_suffix, order), rows[0].metric),
        tables.language_table(rows, order),
        sets_table(calibrations, order),
        int8_table([drop for drop in found.int8_drops if drop.task == task], order),
    ]
    name = re.sub(r"[^\w.-]+", "-", task)  # a task is named by its user, and files are named by it
    drawn = {
        f"quality-{name}": (
            plots.quality_against_time(rows, f"quality-{name}"),
            "Score against time: the mean over languages of each model in each form. Up and to the left is better.",
        ),
        f"exits-{name}": (
            plots.exits_by_language(qualities, f"exits-{name}", order),
            "Where inputs exit, in % of each language's dev inputs. The fuller the colour, the more work.",
        ),
        f"trade-off-{name}": (
            plots.trade_off(calibrations, f"trade-off-{name}"),
            "Calibration: every policy that was tried, its score against its share of the GFLOPs without exits. "
            "The chosen one is ringed.",
        ),
    }
    return Section(
        task,
        [table for table in shown if table.rows],
        [Plot(name, caption, svg) for name, (svg, caption) in drawn.items() if svg is not None],
    )


def _note(settings: ReportSettings, found: Findings) -> str:
    """Return the settings' note, and what the models were made of where that was converted."""
    names: dict[str, list[str]] = {}
    for line in found.origins:
        here = names.setdefault(line.origin.note, [])
        here += [] if line.name in here else [line.name]
    made = [f"{', '.join(each)}: {note}." for note, each in names.items()]
    return " ".join([*([settings.note] if settings.note else []), *made])


def _markdown(settings: ReportSettings, note: str, headlines: Sequence[Headline], sections: Sequence[Section]) -> str:
    parts = [f"# {settings.title}\n", *([f"{note}\n"] if note else [])]
    for line in headlines:
        figures = "\n".join(f"- **{figure.number}** {figure.meaning}" for figure in line.figures)
        parts += [f"**{line.task}**\n", f"{figures}\n", f"{line.compared}\n"]
    for section in sections:
        parts += [f"## {section.title}\n", *map(tables.markdown, section.tables)]
    return "\n".join(parts)


def _all_rows(rows: Sequence[Result]) -> Table:
    cells = (
        tuple(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.model_dump().values())
        for row in rows
    )
    columns = tuple(Result.model_fields)
    return Table(title="All results", columns=columns, rows=tuple(cells), num_labels=len(Case.model_fields))
