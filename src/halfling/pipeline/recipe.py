"""The typed recipe: what a whole run does, in one file."""

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, StringConstraints, model_validator

from halfling.bounds import Repeats, Seed
from halfling.calibrate.settings import CalibrateSettings
from halfling.corpus.build import CorpusSettings
from halfling.engine.exported import BackendName, Precision
from halfling.errors import HalflingError
from halfling.evaluate.costs import CostSettings
from halfling.evaluate.quality import QualitySettings
from halfling.export.gate import GateSettings
from halfling.languages import resolve
from halfling.models.shapes import SHAPES, Dimensions, Shape
from halfling.pipeline.estimate import EstimateSettings
from halfling.records import EncoderShape, Settings
from halfling.report.build import ReportSettings
from halfling.sample.write import SampleSettings
from halfling.settings import check, read_yaml
from halfling.tasks import presets
from halfling.tasks.task import Task
from halfling.tokens.pack import PackSettings
from halfling.tokens.tokenizer import TokenizerSettings
from halfling.training.distill import DistillSettings
from halfling.training.exits import ExitsSettings
from halfling.training.finetune import FinetuneSettings
from halfling.training.layer_maps import LayerMapName
from halfling.training.pretrain import TeacherSettings
from halfling.training.trim import TrimSettings

StudentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
"""Of a layer map or a variant; folders are named after it."""

_SEEDED = ("sample", "corpus", "tokenizer", "teacher", "distill")
_PER_TASK = ("finetune", "exits", "calibrate", "quality", "costs")
# What the run itself says in a task's section; a recipe that could say it too would not be heard.
_SAID_ELSEWHERE = {
    "from_scratch": "set models.scratch",
    "seed": "set models.seeds",
}


_SAME_FOR_ALL = ("epochs", "save_epochs", "tokens_per_epoch")


class Distillations(DistillSettings):
    """One distillation for each layer map, and for each variant."""

    layer_maps: tuple[LayerMapName, ...] = Field(("uniform",), min_length=1, description="a student for each")
    variants: dict[StudentName, dict[str, Any]] = Field(
        default_factory=dict, description="more students by name: what differs for each, for instance {start: random}"
    )

    @model_validator(mode="after")
    def _maps_are_many(self) -> "Distillations":
        if "layer_map" in self.model_fields_set:
            raise ValueError(f"layer_map is of a single distillation: write layer_maps: [{self.layer_map}]")
        return self

    @model_validator(mode="after")
    def _variants_are_understood(self) -> "Distillations":
        for name, differs in self.variants.items():
            if name in get_args(LayerMapName):
                raise ValueError(f"variants.{name}: is a layer map's name: take another")
            if said := [key for key in _SAME_FOR_ALL if key in differs]:
                raise ValueError(f"variants.{name}.{said[0]} is the same for all students: set distill.{said[0]}")
        self.each()
        return self

    @property
    def maps(self) -> tuple[LayerMapName, ...]:
        """All that a student is distilled with, variants aside."""
        return self.layer_maps

    def each(self) -> dict[str, DistillSettings]:
        """Return the settings of every distillation by the name of its layer map, or the variant's."""
        shared = self.model_dump(exclude={"layer_maps", "layer_map", "layer_pairs", "variants"})
        pairs = {"custom": self.layer_pairs}
        of_maps = {
            name: DistillSettings(**shared, layer_map=name, layer_pairs=pairs.get(name, ())) for name in self.layer_maps
        }
        return of_maps | {name: DistillSettings(**{**shared, **differs}) for name, differs in self.variants.items()}


class Finetunings(FinetuneSettings):
    """How every encoder learns a task, and what differs where the teacher does."""

    teacher: dict[str, Any] = Field(default_factory=dict, description="settings of the teacher's own fine-tuning")

    @model_validator(mode="after")
    def _teacher_is_understood(self) -> "Finetunings":
        if said := sorted({*self.teacher} & {*_SAID_ELSEWHERE}):
            raise ValueError(f"teacher.{said[0]} is not for a recipe: {_SAID_ELSEWHERE[said[0]]}")
        self.of("teacher")
        return self

    def of(self, encoder: str) -> FinetuneSettings:
        """Return the settings for an encoder, by its name in a plan. What imitates is a student."""
        settings = {name: getattr(self, name) for name in FinetuneSettings.model_fields if name != "from_scratch"}
        if encoder in ("teacher", "scratch"):
            settings |= {"soft_share": 0.0, "hidden_weight": 0.0, "text_sequences": 0, **self.teacher}
        return FinetuneSettings(**settings, from_scratch=encoder == "scratch")


class Models(Settings):
    """Which models are fine-tuned, which of them get exits."""

    scratch: bool = Field(False, description="also fine-tune the teacher's shape without pretraining")
    student_epochs: tuple[Repeats, ...] | None = Field(
        None, min_length=1, description="fine-tune students saved after these epochs; the last only"
    )
    exits_on: tuple[StudentName, ...] | None = Field(
        None, description="give exits to the last students of these layer maps or variants; of all"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="fine-tune every model once with each")
    slope_seeds: tuple[Seed, ...] | None = Field(
        None, description="fine-tune students of earlier epochs with these seeds only; with all"
    )


class Exports(GateSettings):
    """As what models are exported and measured."""

    backends: tuple[BackendName, ...] = Field(("native",), min_length=1, description="who can run them")
    precisions: tuple[Precision, ...] = Field(
        ("int8",),
        min_length=1,
        description="each model once in each; native runs int8 only, torch float32 and bfloat16",
    )


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
    trim: TrimSettings | None = Field(None, description="cut the teacher's vocabulary; left out, it stays whole")
    distill: Distillations = Distillations()
    models: Models = Models()
    tasks: dict[str, Task] = Field(min_length=1, description="labelled data by name; a preset's name needs no more")
    finetune: dict[str, Finetunings] = Field(default_factory=dict, description="by task, as all that follow")
    exits: dict[str, ExitsSettings] = Field(default_factory=dict)
    calibrate: dict[str, CalibrateSettings] = Field(default_factory=dict)
    export: Exports = Exports()
    quality: dict[str, QualitySettings] = Field(default_factory=dict)
    costs: dict[str, CostSettings] = Field(default_factory=dict)
    report: ReportSettings = ReportSettings()
    estimate: EstimateSettings = EstimateSettings()

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
            for section in _PER_TASK:
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
        for misfit in self._misfits():
            raise ValueError(misfit)
        return self

    def _misfits(self) -> Iterator[str]:
        """Yield what would fail after hours, as far as it is known before anything is loaded."""
        for section in _PER_TASK:
            for name in [name for name in getattr(self, section) if name not in self.tasks]:
                near = difflib.get_close_matches(name, self.tasks, n=1, cutoff=0)[0]
                yield f"{section}.{name}: no such task under tasks: the nearest is {near}"
        if "int8" in self.export.precisions and "torch" in self.export.backends:
            yield "export: torch runs no int8: leave int8 out of precisions, or torch out of backends"
        if "float32" in self.export.precisions and "native" in self.export.backends:
            yield "export: native runs int8 only: leave float32 out of precisions, or native out of backends"
        if "bfloat16" in self.export.precisions and self.export.backends != ("torch",):
            yield "export: only torch runs bfloat16: leave it out of precisions, or set backends to torch"
        distill, there = self.distill, range(1, self.distill.epochs + 1)
        for epoch in sorted({*distill.save_epochs} - {*there}) if "save_epochs" in distill.model_fields_set else ():
            yield f"distill.save_epochs: epoch {epoch} outside 1..{distill.epochs}"
        if distill.layer_pairs and "custom" not in distill.layer_maps:
            yield "distill.layer_pairs: read by the layer map custom only, which layer_maps does not name"
        if self.corpus.languages != "all":
            resolve(self.corpus.languages)
        for name, task in self.tasks.items():
            quality, costs = (settings[name].languages or task.languages for settings in (self.quality, self.costs))
            if {*quality} != {*costs}:
                yield f"quality.{name}.languages and costs.{name}.languages differ: the report joins them"
            for section in ("quality", "costs", "calibrate"):
                for code in getattr(self, section)[name].languages or ():
                    if code not in task.languages:
                        known = ", ".join(task.languages) or "none"
                        yield f"{section}.{name}.languages: no dev data in {code!r}: there is {known}"
        yield from self._shape_misfits()
        saved = sorted({*distill.save_epochs} & {*there} | {distill.epochs})
        for epoch in sorted({*(self.models.student_epochs or ())} - {*saved}):
            yield f"models.student_epochs: epoch {epoch} is not saved (distill.save_epochs {saved})"
        if strange := sorted({*(self.models.slope_seeds or ())} - {*self.models.seeds}):
            yield f"models.slope_seeds: {strange[0]} is not among models.seeds {self.models.seeds}"
        for name in [name for name in self.models.exits_on or () if name not in distill.each()]:
            also = " or distill.variants" if distill.variants else ""
            yield f"models.exits_on: {name} is not among distill.layer_maps {distill.layer_maps}{also}"

    def _shape_misfits(self) -> Iterator[str]:
        each = self.distill.each()
        yield from self._student_misfits("distill.student", self.distill.student)
        for name in [name for name, differs in self.distill.variants.items() if "student" in differs]:
            yield from self._student_misfits(f"distill.variants.{name}.student", each[name].student)

    def _student_misfits(self, where: str, shape: Shape) -> Iterator[str]:
        teacher = _known(self.teacher.shape) if self.teacher.source == "scratch" else None
        student = _known(shape)
        if teacher and student.num_layers > teacher.num_layers:
            yield f"{where} has {student.num_layers} layers, more than the teacher's {teacher.num_layers}"
        room = student.max_tokens
        for name, known in {"teacher": teacher, where.removesuffix(".student"): student}.items():
            if known and self.pack.block_tokens > known.max_tokens:
                yield f"pack.block_tokens {self.pack.block_tokens}: the {name} reads {known.max_tokens} tokens"
            room = min(room, known.max_tokens if known else room)
        for section in _PER_TASK:
            for task, settings in getattr(self, section).items():
                if getattr(settings, "max_tokens", 0) > room:
                    yield f"{section}.{task}.max_tokens {settings.max_tokens}: the models read {room} tokens"
        for task, exits in self.exits.items():
            if not {*(exits.layers or ())} <= {*range(1, student.num_layers + 1)}:
                yield f"exits.{task}.layers {exits.layers} outside 1..{student.num_layers}"


def _known(shape: Shape) -> Dimensions | EncoderShape:
    return shape if isinstance(shape, Dimensions) else SHAPES[shape]


def _of_task(section: str, task: str, given: Any) -> Any:
    """Return a task's section; what the run itself says there is refused."""
    for key, instead in _SAID_ELSEWHERE.items():
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
