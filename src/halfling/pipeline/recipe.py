"""The typed recipe: what a whole run does, in one file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import model_validator

from halfling.errors import HalflingError
from halfling.pipeline.misfits import misfits
from halfling.pipeline.sections import PER_TASK, SAID_ELSEWHERE, Sections
from halfling.settings import check, read_yaml
from halfling.tasks import presets

_SEEDED = ("sample", "corpus", "tokenizer", "teacher", "distill")


class Recipe(Sections):
    """A whole run: presets and defaults filled in, and all sections checked together."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        """Put presets in, and tell each stage the seed; sections left out take their defaults for every task."""
        if not isinstance(raw, dict):
            return raw
        filled = {**raw}
        tasks = raw.get("tasks")
        if isinstance(tasks, list):  # names of presets
            if strange := [name for name in tasks if not isinstance(name, str)]:
                raise ValueError(f"tasks: {strange[0]!r} is no preset's name: write names, or NAME: and what it is")
            tasks = dict.fromkeys(tasks)
        if isinstance(tasks, dict):
            filled["tasks"] = {name: _task(str(name), said, str(raw.get("data", ""))) for name, said in tasks.items()}
            for section in PER_TASK:
                given = raw.get(section) or {}
                if isinstance(given, dict):
                    filled[section] = {name: _of_task(section, name, given.get(name)) for name in {**tasks, **given}}
        seed = raw.get("seed", 0)
        for section in _SEEDED:
            filled[section] = _with_defaults({"seed": seed}, raw.get(section))
        filled["models"] = _with_defaults({"seeds": [seed]}, raw.get("models"))
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        for misfit in misfits(self):
            raise ValueError(misfit)
        return self


def _of_task(section: str, task: str, given: Any) -> Any:
    """Return a task's section; what the run itself says there is refused."""
    for key, instead in SAID_ELSEWHERE.items():
        if isinstance(given, dict) and key in given:
            raise ValueError(f"{section}.{task}.{key} is not for a recipe: {instead}")
    return {} if given is None else given


def _task(name: str, said: Any, data: str) -> Any:
    """Return what a recipe says of a task as fields of a `Task`; a preset's name stands for all that it says."""
    if said is not None and not isinstance(said, dict):
        return said
    return presets.preset(name, data, said) if name in presets.names() else {"name": name, **(said or {})}


def _with_defaults(defaults: dict[str, Any], given: Any) -> Any:
    """Return a section with its defaults; what is no section stays as it is, for the check to refuse."""
    return {**defaults, **given} if isinstance(given, dict) else defaults if given is None else given


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe, with `key=value` overrides (`teacher.epochs=2`) put in before it is checked.

    Raises:
        HalflingError: The file is missing or is no recipe, or a key or value is not understood.
    """
    return check(Recipe, read_yaml(path, overrides), str(path))


def changes(recipe: Recipe, path: Path, overrides: Sequence[str]) -> list[str]:
    """Return a line for each setting that overrides made another: what it is, and what it would be without them."""
    try:
        plain = _flat(read_recipe(path).model_dump(mode="json")) if overrides else None
    except HalflingError:  # only the overrides make it whole
        plain = {}
    if plain is None:
        return []
    now = _flat(recipe.model_dump(mode="json"))
    changed = [key for key in dict.fromkeys((*now, *plain)) if now.get(key) != plain.get(key)]
    shown = (tuple(json.dumps(each.get(key), ensure_ascii=False) for each in (now, plain)) for key in changed)
    return [f"{key} = {here} ({there} without)" for key, (here, there) in zip(changed, shown, strict=True)]


def _flat(said: Any, before: str = "") -> dict[str, Any]:
    if not isinstance(said, dict) or not said:
        return {before: said}
    return {
        key: value for name, one in said.items() for key, value in _flat(one, f"{before}.{name}".lstrip(".")).items()
    }
