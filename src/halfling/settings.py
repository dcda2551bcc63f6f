"""Settings from YAML and from `key=value`: every mistake is one line, an unknown key names the nearest known one."""

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from halfling.errors import HalflingError
from halfling.records import Record, Settings

_S = TypeVar("_S", bound=Settings)


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a recipe's file says, `key=value` overrides put in, `{data}` replaced by its `data`.

    Raises:
        HalflingError: The file is missing or is no recipe, or an override is not understood.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HalflingError(f"{path}: no such recipe ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HalflingError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise HalflingError(f"{path}: expected a recipe of `key: value` lines")
    _apply(raw, overrides)
    return {key: _with_data(value, str(raw.get("data", ""))) for key, value in raw.items()}


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
        section = raw
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                raise HalflingError(f"{override!r}: {parent} is a value, not a section")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise HalflingError(f"{override!r}: the value is not YAML") from error


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
        found = _most_helpful(error)
        keys = _keys(found["loc"])
        path = ".".join(keys)
        if found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(keys[-1], _known_keys(kind, keys[:-1]), n=1, cutoff=0)
            raise HalflingError(f"{where}: unknown key {path}: the nearest known is {near[0]}") from error
        message = found["msg"].removeprefix("Value error, ")
        raise HalflingError(f"{where}: {path + ': ' if path else ''}{message}") from error


def _most_helpful(error: ValidationError) -> Any:
    """Return an unknown key if there is one, or the first error; of a union's branches the one that looked deepest."""
    errors = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    first = errors[0]
    if first["type"] == "extra_forbidden" or not any(map(_is_branch, first["loc"][-1:])):
        return first
    place = first["loc"][:-1]
    branches = [found for found in errors if found["loc"][: len(place)] == place]
    return max(branches, key=lambda found: (len(found["loc"]), found["type"] == "value_error"))


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """Return where an error lies as a recipe writes it."""
    return [str(key) for key in location if not _is_branch(key)]


def _is_branch(key: int | str) -> bool:
    """Return whether this is no key, but pydantic's name of a union's branch."""
    return isinstance(key, str) and ("[" in key or key == "str" or key in _names_of(Record))


def _names_of(kind: type[Record]) -> Iterator[str]:
    for each in kind.__subclasses__():
        yield each.__name__
        yield from _names_of(each)


def _known_keys(kind: type[BaseModel], keys: Sequence[str]) -> list[str]:
    """Return the fields of the model that `keys` lead to."""
    if not keys:
        return list(kind.model_fields)
    first, *rest = keys
    if first == kind.__name__ or first not in kind.model_fields:  # a union's branch, a dictionary's key
        return _known_keys(kind, rest)
    models = list(_models_in(kind.model_fields[first].annotation))
    return _known_keys(models[0], rest) if models else list(kind.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, dict, tuple):
        for inner in get_args(annotation):
            yield from _models_in(inner)
