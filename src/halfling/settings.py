"""Settings from YAML and from `key=value`: every mistake is one line, an unknown key names the nearest known one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from halfling import yaml_text
from halfling.errors import HalflingError
from halfling.records import Settings

_S = TypeVar("_S", bound=Settings)

_LONGEST_PLACE = 4096
_LONGEST_SHOWN = 200
_DEEPEST = 8  # sections within sections


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a recipe's file says, `key=value` overrides put in, `{data}` replaced by its `data`.

    Raises:
        HalflingError: The file is missing or is no recipe, or an override is not understood.
    """
    raw = yaml_text.read(path)
    if not isinstance(raw, dict):
        raise HalflingError(f"{path}: expected a recipe of `key: value` lines")
    _apply(raw, overrides)
    data = str(raw.get("data", ""))
    if len(data) > _LONGEST_PLACE:
        raise HalflingError(f"{path}: data: longer than {_LONGEST_PLACE} characters, so no folder and no data set")
    return {key: _with_data(value, data) for key, value in raw.items()}


def read_settings(kind: type[_S], overrides: Sequence[str]) -> _S:
    """Return a stage's settings from `key=value` overrides of its defaults.

    Raises:
        HalflingError: A key or value is not understood.
    """
    raw: dict[str, Any] = {}
    _apply(raw, overrides)
    return check(kind, raw, kind.__name__)


def _apply(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise HalflingError(f"{override!r}: expected key=value, for instance teacher.epochs=2")
        *parents, last = key.split(".")
        if len(parents) > _DEEPEST:
            raise HalflingError(f"{key[:40]}...: more than {_DEEPEST} sections within each other: no setting is there")
        section = raw
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                raise HalflingError(f"{override!r}: {parent} is a value, not a section")
        section[last] = yaml_text.parse(value, override if len(override) < _LONGEST_SHOWN else f"{key[:40]}=...")


def _with_data(value: Any, data: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_data(inner, data) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_data(inner, data) for inner in value]
    return value.replace("{data}", data) if isinstance(value, str) else value


def check(kind: type[_S], raw: Any, where: str) -> _S:
    """Return `raw` as settings.

    Raises:
        HalflingError: A key or value is not understood; an unknown key is named with the nearest known one.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        # An unknown key before all else; of the first setting that is wrong the branch that looked deepest.
        rank = {"unknown_key": 2, "value_error": 1, "too_long": 1}
        errors = error.errors()
        here = [one for one in errors if one["type"] == "unknown_key" or one["loc"][:1] == errors[0]["loc"][:1]]
        found = max(here, key=lambda one: (rank.get(one["type"], 0), len(one["loc"])))
        path = ".".join(str(key) for key in found["loc"] if not _is_branch(key))
        if found["type"] == "unknown_key":
            key = ".".join(filter(None, (path, found["ctx"]["key"])))
            raise HalflingError(f"{where}: unknown key {key}: {found['msg']}") from error
        message = found["msg"].removeprefix("Value error, ")
        raise HalflingError(f"{where}: {path + ': ' if path else ''}{message}") from error


def _is_branch(key: int | str) -> bool:
    """Return whether this is no key, but pydantic's name of a union's branch."""
    names = {"str", *(one.__name__ for one in Settings.__subclasses__())}
    return isinstance(key, str) and ("[" in key or key.startswith("constrained-") or key in names)
