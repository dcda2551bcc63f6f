"""Tasks that halfling knows by name, written as a recipe would write them."""

from importlib import resources
from pathlib import Path
from typing import Any

from halfling import yaml_text
from halfling.errors import HalflingError
from halfling.languages import task_name

HUB = "hub"
"""The data place that stands for a preset's own data set on the Hugging Face hub."""


_CODES = ("train_languages", "languages")


def names() -> list[str]:
    """Return the names of all presets."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def on_hub(id: str) -> dict[str, Any] | None:
    """Return what a preset says of its data set on the hub, `train_examples` and mean `train_tokens` included."""
    hubs: list[dict[str, Any]] = [_read(name)["hub"] for name in names()]
    return next((hub for hub in hubs if hub["id"] == id), None)


def _read(name: str) -> dict[str, Any]:
    file = resources.files(__name__).joinpath(f"{name}.yaml")
    said: dict[str, Any] = yaml_text.parse(file.read_text(encoding="utf-8"), file.name)
    return said


def preset(name: str, data: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a preset as fields of a `Task`.

    Args:
        data: A folder with the preset's files, a folder in the form of its data set on the hub, or "hub".
        changes: Fields that differ, for instance `languages`.

    Raises:
        HalflingError: There is no such preset, or it does not hold a language.
    """
    said = _read(name)
    hub = said.pop("hub")
    folder = Path(said["dev"].removeprefix("{data}/")).parts[0]
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    for key in {*_CODES} & {*changes}:
        changes[key] = _codes(changes[key], f"task {name}: {key}")
    said |= {"name": name, **changes}
    on_hub = data == HUB or (Path(data).is_dir() and not _has_files(Path(data), folder))
    if on_hub:
        for key in ("columns", "format"):
            said.pop(key, None)
        said |= {"train": hub["train"], "dev": hub["dev"]} | {
            key: value for key, value in changes.items() if key in ("train", "dev")
        }
    place = hub["id"] if data == HUB else data
    for split, codes in (("train", said.pop("train_languages")), ("dev", said.pop("languages"))):
        if isinstance(said[split], str):
            template = said[split].replace("{data}", place)
            said[split] = {code: template.replace("{language}", task_name(name, code)) for code in codes}
    return said


def _codes(said: Any, where: str) -> list[str]:
    """Return languages as a recipe names them, one or a list.

    Raises:
        HalflingError: They are something else.
    """
    codes = [said] if isinstance(said, str) else said
    if not isinstance(codes, list | tuple) or not all(isinstance(code, str) for code in codes):
        raise HalflingError(f"{where}: expected a list of codes, for instance [en, sw]")
    return list(codes)


def _has_files(data: Path, folder: str) -> bool:
    """Return whether a folder is of our files: of this preset, or of a neighbour's."""
    return (data / folder).is_dir() or any((data / other).is_dir() for other in ("xnli", "panx"))


def require_data(data: str) -> None:
    """Refuse a data folder that is not there.

    Raises:
        HalflingError: It is not.
    """
    if data != HUB and not Path(data).is_dir():
        raise HalflingError(f'{data}: no such data folder: give one, or "{HUB}"')
