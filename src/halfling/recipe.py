"""The typed recipe: what a whole run does, in one file; an unknown key is named with the nearest known one."""

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from halfling.calibrate import CalibrateSettings
from halfling.corpus.build import CorpusSettings
from halfling.corpus.pack import PackSettings
from halfling.distill.build import DistillSettings
from halfling.distill.layer_map import LayerMapName
from halfling.errors import HalflingError
from halfling.evaluate.costs import CostSettings
from halfling.evaluate.quality import QualitySettings
from halfling.exits.train import ExitsSettings
from halfling.models.shapes import SHAPES, Dimensions, Shape
from halfling.records import EncoderShape, Seed, Settings, TaskName
from halfling.report.build import ReportSettings
from halfling.sample.write import SampleSettings
from halfling.tasks.finetune import FinetuneSettings
from halfling.teacher.pretrain import TeacherSettings
from halfling.teacher.tokenizer import TokenizerSettings

_S = TypeVar("_S", bound=Settings)

_SEEDED = ("sample", "corpus", "tokenizer", "teacher", "distill")
_PER_TASK = ("finetune", "exits", "calibrate", "quality", "costs")
# What the run itself says in a task's section; a recipe that could say it too would not be heard.
_SAID_ELSEWHERE = {
    "task": "the section's own name says it",
    "model": "every model is evaluated under its own name",
    "from_scratch": "set models.scratch",
    "seed": "set models.seeds",
}


class Distillations(DistillSettings):
    """One distillation for each layer map."""

    layer_maps: tuple[LayerMapName, ...] = Field(("uniform",), min_length=1, description="a student for each")

    @model_validator(mode="after")
    def _maps_are_many(self) -> "Distillations":
        if "layer_map" in self.model_fields_set:
            raise ValueError(f"layer_map is of a single distillation: write layer_maps: [{self.layer_map}]")
        return self

    def each(self) -> dict[str, DistillSettings]:
        """Return the settings of every distillation by the name of its layer map."""
        shared = {name: getattr(self, name) for name in DistillSettings.model_fields}
        return {
            name: DistillSettings(
                **{**shared, "layer_map": name, "layer_pairs": self.layer_pairs if name == "custom" else ()}
            )
            for name in self.layer_maps
        }


class Models(Settings):
    """Which models are fine-tuned, which of them get exits."""

    scratch: bool = Field(False, description="also fine-tune the teacher's shape without pretraining")
    student_epochs: tuple[int, ...] | None = Field(
        None, min_length=1, description="fine-tune students saved after these epochs; the last only"
    )
    exits_on: tuple[LayerMapName, ...] | None = Field(
        None, description="give exits to the last students of these layer maps; of all"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="fine-tune every model once with each")


class Recipe(Settings):
    """A whole run. `{data}` in a string stands for the data folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder is runs/{name}")
    data: str = Field(min_length=1, description='a data folder, "hub", or "sample" for the data that halfling brings')
    text: str = Field(min_length=1, description="where text comes from: a folder of CC100's files, or a URL")
    seed: Seed = Field(0, description="of every stage that does not name its own")
    sample: SampleSettings = SampleSettings()
    corpus: CorpusSettings = CorpusSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    pack: PackSettings = PackSettings()
    teacher: TeacherSettings = TeacherSettings()
    distill: Distillations = Distillations()
    models: Models = Models()
    finetune: dict[TaskName, FinetuneSettings] = Field(min_length=1, description="the tasks, by name")
    exits: dict[TaskName, ExitsSettings] = Field(default_factory=dict)
    calibrate: dict[TaskName, CalibrateSettings] = Field(default_factory=dict)
    quality: dict[TaskName, QualitySettings] = Field(default_factory=dict)
    costs: dict[TaskName, CostSettings] = Field(default_factory=dict)
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        """Tell each task's section its task, and each stage the seed; sections left out take their defaults."""
        if not isinstance(raw, dict):
            return raw
        filled = {**raw}
        named = raw.get("finetune")
        tasks = named if isinstance(named, dict) else {}
        for section in _PER_TASK:
            given = raw.get(section) or {}
            if isinstance(given, dict):
                filled[section] = {
                    task: _with_defaults(_of_task(section, task, given.get(task)), given.get(task))
                    for task in {**tasks, **given}
                }
        seed = raw.get("seed", 0)
        for section in _SEEDED:
            filled[section] = _with_defaults({"seed": seed}, raw.get(section))
        filled["models"] = _with_defaults({"seeds": [seed]}, raw.get("models"))
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        unknown = {*self.exits, *self.calibrate, *self.quality, *self.costs} - {*self.finetune}
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]} is not under finetune, so there is no model for it")
        there = range(1, self.distill.epochs + 1)
        for epoch in self.distill.save_epochs if "save_epochs" in self.distill.model_fields_set else ():
            if epoch not in there:
                raise ValueError(f"distill.save_epochs: epoch {epoch} outside 1..{self.distill.epochs}")
        saved = {epoch for epoch in self.distill.save_epochs if epoch in there} | {self.distill.epochs}
        if self.distill.layer_pairs and "custom" not in self.distill.layer_maps:
            raise ValueError("distill.layer_pairs: read by the layer map custom only, which layer_maps does not name")
        for task in self.finetune:
            if {*self.quality[task].languages} != {*self.costs[task].languages}:
                raise ValueError(f"quality.{task}.languages and costs.{task}.languages differ: the report joins them")
        self._shapes_fit()
        for epoch in self.models.student_epochs or ():
            if epoch not in saved:
                raise ValueError(
                    f"models.student_epochs: epoch {epoch} is not saved (distill.save_epochs {sorted(saved)})"
                )
        for name in self.models.exits_on or ():
            if name not in self.distill.layer_maps:
                raise ValueError(f"models.exits_on: {name} is not among distill.layer_maps {self.distill.layer_maps}")
        return self

    def _shapes_fit(self) -> None:
        """Refuse now what would fail after hours, as far as shapes are known before anything is loaded."""
        teacher = _known(self.teacher.shape) if self.teacher.source == "scratch" else None
        student = _known(self.distill.student)
        if teacher and student and student.num_layers > teacher.num_layers:
            raise ValueError(
                f"distill.student has {student.num_layers} layers, more than the teacher's {teacher.num_layers}"
            )
        for name, shape in {"teacher": teacher, "distill": student}.items():
            if shape and self.pack.block_tokens > shape.max_tokens:
                raise ValueError(
                    f"pack.block_tokens {self.pack.block_tokens}: the {name} reads {shape.max_tokens} tokens"
                )
        room = min((shape.max_tokens for shape in (teacher, student) if shape), default=None)
        for section in _PER_TASK:
            for task, settings in getattr(self, section).items():
                if room and settings.max_tokens > room:
                    raise ValueError(
                        f"{section}.{task}.max_tokens {settings.max_tokens}: the models read {room} tokens"
                    )
        for task, settings in self.exits.items():
            if student and settings.layers and not all(1 <= layer <= student.num_layers for layer in settings.layers):
                raise ValueError(f"exits.{task}.layers {settings.layers} outside 1..{student.num_layers}")


def _known(shape: Shape) -> Dimensions | EncoderShape:
    return shape if isinstance(shape, Dimensions) else SHAPES[shape]


def _of_task(section: str, task: str, given: Any) -> dict[str, Any]:
    """Return what a task's section need not say, and refuse what it cannot say."""
    for key, instead in _SAID_ELSEWHERE.items():
        if isinstance(given, dict) and key in given:
            raise ValueError(f"{section}.{task}.{key} is not for a recipe: {instead}")
    return {"task": task, "model": ""} if section == "quality" else {"task": task}


def _with_defaults(defaults: dict[str, Any], given: Any) -> Any:
    """Return a section with its defaults; what is no section stays as it is, for the check to refuse."""
    return {**defaults, **given} if isinstance(given, dict) else defaults if given is None else given


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe, with `key=value` overrides (`teacher.epochs=2`) put in before it is checked.

    Raises:
        HalflingError: The file is missing or is no recipe, or a key or value is not understood.
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
    return _checked(Recipe, _with_data(raw, str(raw.get("data", ""))), str(path))


def read_settings(kind: type[_S], overrides: Sequence[str]) -> _S:
    """Return a stage's settings from `key=value` overrides of its defaults.

    Raises:
        HalflingError: A key or value is not understood.
    """
    raw: dict[str, Any] = {}
    _apply(raw, overrides)
    return _checked(kind, raw, kind.__name__)


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


def _checked(kind: type[_S], raw: dict[str, Any], where: str) -> _S:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found = _most_helpful(error)
        keys = _keys(found["loc"])
        path = ".".join(keys)
        if found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(keys[-1], _known_keys(kind, keys[:-1]), n=1, cutoff=0)
            raise HalflingError(f"{where}: unknown key {path}: the nearest known is {near[0]}") from error
        if found["loc"][-1:] == ("[key]",):  # of a dictionary whose keys are names of tasks
            near = difflib.get_close_matches(keys[-1], get_args(TaskName), n=1, cutoff=0)
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
    return isinstance(key, str) and ("[" in key or key in ("str", Dimensions.__name__))


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
