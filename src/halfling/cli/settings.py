"""Settings on the command line: each is an option with its default, and all can be said as KEY=VALUE."""

import json
import types
from collections.abc import Iterator, Mapping
from inspect import Parameter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

from halfling.cli.app import parameter
from halfling.records import Settings

_PANEL = "Settings, each also as KEY=VALUE"
_PREFIX = "setting_"
"""Of parameters: a setting may have an input's name."""
_METAVARS = {int: "INT", float: "NUM", str: "TEXT", tuple: "LIST", dict: "MAP"}


def setting_options(kind: type[Settings]) -> list[Parameter]:
    """Return an option for every setting, the required ones first; each can be given as KEY=VALUE instead."""
    return [_option(key, field) for key, field in sorted(_fields(kind), key=lambda one: not one[1].is_required())]


def overrides_in(given: Mapping[str, Any], kind: type[Settings]) -> list[str]:
    """Return the options that were given as `key=value`."""
    said = ((key, field, given[_name(key)]) for key, field in _fields(kind))
    return [f"{key}={_as_yaml(value, field.annotation)}" for key, field, value in said if value is not None]


def shown(field: FieldInfo) -> str:
    """Return a setting's default as `--help` shows it and a recipe would write it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "default: not set"
    said = json.dumps(default.model_dump(exclude_none=True) if isinstance(default, BaseModel) else default)
    return "default: " + (said.replace('"', "") or "empty")


def _fields(kind: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{before}{name}.")
        else:
            yield before + name, field


def _option(key: str, field: FieldInfo) -> Parameter:
    option, said = "--" + key.replace("_", "-"), field.description or ""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not types.NoneType]
    choice = get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()
    if not all(word in said for word in choice):
        said = "; ".join(filter(None, (said, "|".join(choice))))
    text = f"{escape(said)} [dim]{escape(f'[{shown(field)}]')}[/]".strip()
    if field.annotation is bool:
        # One flag, for what is not the default.
        flag = f"/--no-{option[2:]}" if field.default else option
        how = typer.Option(flag, help=text, metavar=" ", rich_help_panel=_PANEL)
        return parameter(_name(key), bool | None, how, None)
    metavar = "WORD" if choice else _METAVARS.get(get_origin(kinds[0]) or kinds[0], "VALUE")
    how = typer.Option(option, help=text, metavar=metavar, rich_help_panel=_PANEL)
    return parameter(_name(key), str | None, how, None)


def _as_yaml(value: Any, annotation: Any) -> Any:
    if annotation in (str, bool):  # what is text stays text, even where YAML would see a number
        return json.dumps(value)
    kinds = [*_alternatives(annotation)]
    if types.NoneType in kinds and value in ("null", "none"):
        return "null"
    is_list = any(get_origin(kind) is tuple for kind in kinds)
    one_word = (str in kinds or float in kinds) and "," not in value  # a set of languages, a weight that stays
    if is_list and not one_word and not value.startswith("["):
        return f"[{value}]"
    return value if value.strip() else '""'  # nothing is YAML's null, and would pass for "not set"


def _name(key: str) -> str:
    return _PREFIX + key.replace(".", "_")


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Return the types that a union stands for, annotations taken off."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(inner[0])
    elif origin in (Union, types.UnionType):
        for each in inner:
            yield from _alternatives(each)
    else:
        yield annotation
