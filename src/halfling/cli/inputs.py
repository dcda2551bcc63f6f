"""How the inputs of a stage are given on the command line: an annotation maps to arguments or options."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from halfling.cli.app import parameter
from halfling.cli.tasks import task_in, task_options
from halfling.pipeline.stages import Kind, place
from halfling.stage import Input
from halfling.tasks.task import Task

_INPUTS = "Inputs"
"""The panel of `--help`."""

Given = Mapping[str, Any]
"""What the command line gave, by the names of the parameters that asked for it."""


@dataclass(frozen=True)
class Asked:
    """What is asked for an input, and how the answer is read: as inputs by role, none if it was left out."""

    parameters: tuple[Parameter, ...]
    read: Callable[[Given], dict[str, Input]]


def ask(kind: Kind) -> list[Asked]:
    """Return what the command of a kind of stage asks for its inputs, in the signature's order."""
    help_of = _documented(kind)
    return [_one(one, help_of.get(one.name), required=len(kind.inputs) == 1) for one in kind.inputs]


def _one(one: Parameter, text: str | None, *, required: bool) -> Asked:
    """Return what is asked for one input. A new type of input gets its arguments or options here."""
    name, annotation = one.name, one.annotation
    if one.kind is Parameter.VAR_KEYWORD:
        return _folders(name, text, required=required)
    if annotation in (dict[str, Path], dict[str, Path] | None):
        return _named(name, text, required=annotation == dict[str, Path])
    if annotation in (Path, Path | str):
        how = typer.Argument(metavar=name.upper(), help=text)
        read_place = _model if name in _MODELS else place if annotation == Path | str else Path
        return Asked((parameter(name, str, how),), lambda given: {name: read_place(given[name])})
    if annotation == Path | None:
        metavar = "FILE" if name == "notes" else "FOLDER"
        how = typer.Option(_option(name), help=text, metavar=metavar, rich_help_panel=_INPUTS)
        wanted = parameter(name, Path | None, how, None)
        # Left out where a whole run has nothing to give: the same work has the same fingerprint.
        found = _model if name in _MODELS else Path
        return Asked((wanted,), lambda given: {name: found(str(given[name]))} if given[name] else {})
    if annotation in (Task, Task | None):

        def read(given: Given) -> dict[str, Input]:
            task = task_in(given)
            if task is None and annotation is Task:
                raise typer.BadParameter("no labelled data: give them with --train FILE, or --task PRESET --data PLACE")
            return {name: task} if task else {}

        return Asked(task_options(), read)
    raise TypeError(f"{name}: no way to ask for a {annotation} on the command line")


_MODELS = ("encoder", "finetuned", "model", "teacher")
"""Inputs that may be named by a hub id."""


def _model(value: str) -> Path:
    from halfling.models.load import fetched  # torch takes seconds

    return fetched(value)


def _folders(name: str, text: str | None, *, required: bool) -> Asked:
    """Ask for folders that are known by the last two parts of their paths."""

    def read(given: Given) -> dict[str, Input]:
        folders = given[name] or []
        if len({(folder.parent.name, folder.name) for folder in folders}) < len(folders):
            raise typer.BadParameter("two folders of one name: their results would hide each other")
        return {f"{folder.parent.name}/{folder.name}": folder for folder in folders}

    how = typer.Option("--from", help=f"{text or 'A folder'}; repeat.", metavar="FOLDER", rich_help_panel=_INPUTS)
    wanted = parameter(name, list[Path], how) if required else parameter(name, list[Path] | None, how, None)
    return Asked((wanted,), read)


def _named(name: str, text: str | None, *, required: bool) -> Asked:
    """Ask for folders by name: `--model NAME=FOLDER` for `models`."""
    singular = name.removesuffix("s")
    metavar = "NAME=FOLDER" if singular in _MODELS else "LANGUAGE=PLACE"

    def read(given: Given) -> dict[str, Input]:
        folders: dict[str, Path] = {}
        for said in given[name] or ():
            key, equals, folder = said.partition("=")
            if not (equals and key and folder):
                raise typer.BadParameter(f"{said!r}: expected {metavar}")
            if key in folders:
                raise typer.BadParameter(f"{key!r} stands there twice: name each {singular} once")
            folders[key] = _model(folder) if singular in _MODELS else Path(folder)
        return {name: folders} if folders else {}

    said = f"{text}; repeat." if text and not required else "Repeat."
    how = typer.Option(_option(singular), help=said, metavar=metavar, rich_help_panel=_INPUTS)
    wanted = parameter(name, list[str], how) if required else parameter(name, list[str] | None, how, None)
    return Asked((wanted,), read)


def _documented(kind: Kind) -> dict[str, str]:
    """Return what the docstring of a work function says of its arguments."""
    _, _, section = (inspect.getdoc(kind.work) or "").partition("\nArgs:\n")
    lines = section.partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.+(?:\n     .+)*)", lines, flags=re.MULTILINE)
    return {name: escape(" ".join(text.replace("`", "").split())) for name, text in found}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
