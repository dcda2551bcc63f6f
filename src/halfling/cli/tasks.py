"""Labelled data on the command line: what `--train`, `--dev` and their like say, and `halfling tasks show`."""

import json
import re
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import typer

from halfling.cli.app import LOOKING, AsJson, app, parameter
from halfling.errors import HalflingError
from halfling.languages import CODE
from halfling.tasks.task import Task, read_task

tasks = typer.Typer(no_args_is_help=True, help="Look at labelled data as halfling understands them.")
app.add_typer(tasks, name="tasks", rich_help_panel=LOOKING)

_PANEL = "The task; left out where one travels with the model"
_SOURCE = "[LANGUAGE=]FILE"
_METAVARS = {
    **dict.fromkeys(("train", "dev"), _SOURCE),
    **dict.fromkeys(("labels", "columns"), "A,B,..."),
    **dict.fromkeys(("text", "text_pair", "words", "label"), "COLUMN"),
}
_FIELDS = {name: field.description or "" for name, field in Task.model_fields.items() if name != "held_out"} | {
    "name": "in results; or a preset, with --data",
    "data": "where a preset's data lie: a folder, or hub",
}


def task_options() -> tuple[Parameter, ...]:
    """Return an option for everything that can be said of a task."""
    found = []
    for name, text in _FIELDS.items():
        metavar = _METAVARS.get(name, name.upper())
        many = metavar == _SOURCE
        option = "--task" if name == "name" else "--" + name.replace("_", "-")
        how = typer.Option(option, metavar=metavar, help=text + "; repeat" * many, rich_help_panel=_PANEL)
        found.append(parameter(_name(name), list[str] | None if many else str | None, how, None))
    return tuple(found)


def task_in(given: Mapping[str, Any]) -> Task | None:
    """Return the task that options speak of, None where none was given.

    Raises:
        HalflingError: They do not fit together.
    """
    # Here: they read YAML, and `halfling predict` does without.
    from halfling.settings import check
    from halfling.tasks import presets

    said = {name: given[_name(name)] for name in _FIELDS if given[_name(name)]}
    if not said:
        return None
    data = said.pop("data", None)
    for split in ("train", "dev"):
        if split in said:
            said[split] = _sources(said[split], split)
    said |= {name: said[name].split(",") for name in ("labels", "columns") if name in said}
    if data is not None:
        name = said.pop("name", None)
        if name not in presets.names():
            raise typer.BadParameter(
                f"--data is for a preset: name it with --task {' or --task '.join(presets.names())}"
            )
        presets.require_data(data)
        said = presets.preset(name, data, said)
    return check(Task, said, "the task")


def _sources(values: Sequence[str], split: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        match = re.match(f"({CODE})=(.+)", value)
        language, source = (match[1], match[2]) if match and not Path(value).exists() else ("en", value)
        if language in found:
            raise typer.BadParameter(f"--{split} {value}: {language} has a file already: name another language")
        found[language] = source
    return found


def _name(name: str) -> str:
    return f"task_{name}"


@tasks.callback()
def about() -> None:
    """Look at labelled data as halfling understands them."""


def show(file: str | None, as_json: bool, **given: Any) -> None:
    """Print what was understood of FILE, or of a model's folder: kind, labels with counts, splits, three examples."""
    from halfling.tasks.examples import describe
    from halfling.tasks.of_model import task_of

    if file is not None and not Path(file).is_dir():
        given["task_train"] = [*(given["task_train"] or []), file]
    said = task_in(given)
    if file is not None and Path(file).is_dir():
        own = read_task(Path(file))
        said = own.with_sources(said) if own else task_of(Path(file), said)
    if said is None:
        raise HalflingError("tasks show: no data: name a file, a model's folder, or --task PRESET --data PLACE")
    found = describe(said)
    task: Task = found["task"]
    if as_json:
        typer.echo(json.dumps({**found, "task": task.model_dump(mode="json")}, ensure_ascii=False, indent=1))
        return
    if file is not None and said.train == {"en": file} and not said.dev:
        typer.echo("note: no language named, so English training data: --train CODE=FILE, --dev CODE=FILE", err=True)
    typer.echo(f"{task.name}: {task.kind}, judged by {task.metric}")
    typer.echo(f"labels: {', '.join(task.labels or ())}")
    for split, what in found["splits"].items():
        scheme = f", written in {what['scheme']}" if what["scheme"] else ""
        counts = ", ".join(f"{label} {number}" for label, number in what["labels"].items())
        typer.echo(f"{split}: {what['examples']} examples of {what['source']}{scheme}: {counts}")
    for example in found["examples"]:
        typer.echo(
            json.dumps({name: value for name, value in example.items() if value is not None}, ensure_ascii=False)
        )


show.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        parameter("file", str | None, typer.Argument(), None),
        Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
        *task_options(),
    ]
)
tasks.command()(show)
