"""Labelled data on the command line: what `--train`, `--dev` and their like say of a task."""

import re
from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

import typer

from halfling.cli.app import parameter
from halfling.tasks.task import Task

_PANEL = "The task; left out: the one that travels with the model"
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
        match = re.match(r"([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)=(.+)", value)
        language, source = (match[1], match[2]) if match and not Path(value).exists() else ("en", value)
        if language in found:
            raise typer.BadParameter(f"--{split} {value}: {language} has a file already: name another language")
        found[language] = source
    return found


def _name(name: str) -> str:
    return f"task_{name}"
