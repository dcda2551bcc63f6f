"""`halfling tasks show`: what was understood of labelled data."""

import json
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import typer

from halfling.cli.app import LOOKING, AsJson, app, parameter
from halfling.cli.task import task_in, task_options
from halfling.errors import HalflingError

tasks = typer.Typer(no_args_is_help=True, help="Look at labelled data as halfling understands them.")
app.add_typer(tasks, name="tasks", rich_help_panel=LOOKING)


@tasks.callback()
def about() -> None:
    """Look at labelled data as halfling understands them."""


def show(file: str | None, as_json: bool, **given: Any) -> None:
    """Print what was understood of FILE, or of a model's folder: kind, labels with counts, splits, three examples."""
    from halfling.tasks.examples import describe
    from halfling.tasks.of_model import task_of
    from halfling.tasks.task import Task, read_task

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
