"""The tables and the picture of docs/results.md, from what `halfling run recipes/real.yaml` measured.

python benchmarks/results.py runs/real/quality/*/quality.jsonl
python benchmarks/results.py docs/results/quality.jsonl --picture docs/images/results.svg
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from halfling.languages import SETS
from halfling.report import summary, tables
from halfling.report.svg import SERIES, WIDTH_INCHES, house_style, themed_svg
from halfling.report.words import language_name
from halfling.results import Form, Quality

EXITS = "-exits"
_INT8 = {"runtime": "engine", "precision": "int8"}


def all_tables(rows: Sequence[Quality]) -> Iterator[tables.Table]:
    """Yield three tables a task: scores by language, what exits change, what int8 changes."""
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        found = tables.language_table(own, SETS["thesis-6"])
        seeds = {form: len({row.seed for row in own if row.form == form}) for form in summary.forms(own)}
        counted = tuple((*cells, str(count)) for cells, count in zip(found.rows, seeds.values(), strict=True))
        yield found.model_copy(
            update={"title": f"{task}: {own[0].metric} %", "columns": (*found.columns, "seeds"), "rows": counted}
        )
        yield _exits(task, own)
        yield _int8(task, own)


def _exits(task: str, rows: Sequence[Quality]) -> tables.Table:
    model = next(row.model for row in rows if row.exits)
    on, off = Form(model, exits=True, **_INT8), Form(model, exits=False, **_INT8)
    plain = Form(model.removesuffix(EXITS), exits=False, **_INT8)

    def share(codes: Sequence[str]) -> str:
        spent = [fmean(row.gflops for row in rows if row.form == form and row.language in codes) for form in (on, off)]
        return f"{spent[0] / spent[1]:.3f}"

    return _by_language(
        f"{task}: what exits change, in points",
        rows,
        {
            "flops_share": share,
            "exits on, less exits off": lambda codes: _change(rows, on, off, codes),
            "exits on, less the student before it had exits": lambda codes: _change(rows, on, plain, codes),
        },
    )


def _int8(task: str, rows: Sequence[Quality]) -> tables.Table:
    models = list(dict.fromkeys(form.model for form in summary.forms(rows)))

    def of(model: str) -> Callable[[Sequence[str]], str]:
        engine, torch = Form(model, exits=False, **_INT8), Form(model, "pytorch", "float32", False)
        return lambda codes: _change(rows, engine, torch, codes)

    return _by_language(
        f"{task}: int8 in the engine, less float32 in PyTorch, in points", rows, {model: of(model) for model in models}
    )


def _by_language(title: str, rows: Sequence[Quality], lines: dict[str, Callable[[Sequence[str]], str]]) -> tables.Table:
    codes = summary.languages(rows, SETS["thesis-6"])
    others = summary.zero_shot(rows)
    return tables.Table(
        title=title,
        columns=("", *codes, "zero-shot mean"),
        rows=tuple((name, *(cell([code]) for code in codes), cell(others)) for name, cell in lines.items()),
    )


def _change(rows: Sequence[Quality], form: Form, reference: Form, codes: Sequence[str]) -> str:
    """Return the change over the seeds that both forms have; of several languages the mean of their changes."""
    changes = [
        summary.change(
            *([row for row in rows if row.form == each and row.language == code] for each in (form, reference))
        )
        for code in codes
    ]
    if len(codes) == 1:
        return tables.with_spread(changes[0], "{:+.2f}".format)
    return f"{fmean(change.value for change in changes):+.2f}"


def picture(rows: Sequence[Quality], name: str) -> str:
    """Return, as SVG, what is served beside the teacher: a panel a task, a bar a model in each language."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    codes = summary.languages(rows, SETS["thesis-6"])
    last = next(row.model for row in rows if row.exits)
    shown = {
        "teacher, float32": Form("teacher", "pytorch", "float32", False),
        "half its depth, int8": Form(last.removesuffix(EXITS), exits=False, **_INT8),
        "half its depth, int8, exits": Form(last, exits=True, **_INT8),
    }
    with house_style():
        figure = Figure(figsize=(WIDTH_INCHES, 2.4 * len(tasks) + 0.5), layout="constrained")
        for axes, task in zip(figure.subplots(len(tasks), squeeze=False)[:, 0], tasks, strict=True):
            own = [row for row in rows if row.task == task]
            axes.set_title(f"{task}: {own[0].metric} %, trained on English", fontsize=11, loc="left")
            for place, (label, form) in enumerate(shown.items()):
                heights = [100 * fmean(r.score for r in own if r.form == form and r.language == code) for code in codes]
                at = [number + 0.27 * (place - 1) for number in range(len(codes))]
                axes.bar(at, heights, width=0.25, color=SERIES[place], label=label)
            axes.set_xticks(range(len(codes)), [language_name(code) for code in codes])
            axes.grid(axis="x", visible=False)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1)
        return themed_svg(figure, name)


def main() -> None:
    """Print the tables; write the picture where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="quality.jsonl of the run's folders quality/*")
    parser.add_argument("--picture", type=Path, help="write the picture here")
    told = parser.parse_args()
    rows = [row for file in told.files for row in Quality.read_lines(file)]
    print("\n".join(map(tables.markdown, all_tables(rows))))
    if told.picture:
        told.picture.write_text(picture(rows, told.picture.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
