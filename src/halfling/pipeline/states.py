"""What is to be done of a plan (a stand-in until `halfling.stage.states` is there)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from halfling.errors import HalflingError
from halfling.files import MANIFEST, STARTED
from halfling.records import Manifest
from halfling.stage import Stage


def states(stages: Sequence[Stage]) -> list[str]:
    """Return for each stage "done", "to do", "changed", "interrupted", or "missing INPUT" that no stage makes."""
    made: dict[Path, str] = {}
    for stage in stages:
        made[stage.out] = _state(stage, made)
    return [*made.values()]


def _state(stage: Stage, made: dict[Path, str]) -> str:
    read = [(role, path, _maker(path, made)) for role, path in _paths(stage)]
    for role, path, maker in read:
        if maker is None and not path.exists():
            return f"missing {role} at {path}"
    if (stage.out / MANIFEST).is_file():
        fresh = all(maker is None or made[maker] == "done" for *_, maker in read)
        return "done" if fresh and _same(stage) else "changed"
    return "interrupted" if (stage.out.with_name(stage.out.name + ".partial") / STARTED).is_file() else "to do"


def _maker(path: Path, made: dict[Path, str]) -> Path | None:
    return next((out for out in made if path.is_relative_to(out)), None)


def _same(stage: Stage) -> bool:
    try:
        return Manifest.read(stage.out / MANIFEST).settings == stage.settings.model_dump(mode="json")
    except HalflingError:
        return False


def _paths(stage: Stage) -> Iterator[tuple[str, Path]]:
    for role, value in stage.inputs.items():
        for path in value.values() if isinstance(value, dict) else [value]:
            if isinstance(path, Path):
                yield role, path
