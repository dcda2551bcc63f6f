"""The sections of a recipe, each understood by itself."""

from typing import Annotated, Any, get_args

from pydantic import Field, StringConstraints, model_validator

from halfling.bounds import Repeats, Seed
from halfling.calibrate.settings import CalibrateSettings
from halfling.corpus.build import CorpusSettings
from halfling.engine.exported import BackendName, Precision
from halfling.evaluate.costs import CostSettings
from halfling.evaluate.quality import QualitySettings
from halfling.export.gate import GateSettings
from halfling.pipeline.estimate import EstimateSettings
from halfling.records import Settings
from halfling.report.build import ReportSettings
from halfling.sample.write import SampleSettings
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

PER_TASK = ("finetune", "exits", "calibrate", "quality", "costs")
"""Sections that hold a section for each task."""
SAID_ELSEWHERE = {
    "from_scratch": "set models.scratch",
    "seed": "set models.seeds",
}
"""What the run itself says in a task's section; a recipe that could say it too would not be heard."""
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
        # Not dumped: what no fingerprint holds (`fsdp`, `report_to`) would be left out.
        own = ("layer_map", "layer_pairs")
        shared = {name: getattr(self, name) for name in DistillSettings.model_fields if name not in own}
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
        if said := sorted({*self.teacher} & {*SAID_ELSEWHERE}):
            raise ValueError(f"teacher.{said[0]} is not for a recipe: {SAID_ELSEWHERE[said[0]]}")
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


class Sections(Settings):
    """All that a recipe says. `{data}` in a string stands for the data folder."""

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
    report: ReportSettings | None = Field(
        ReportSettings(), description="null: quality alone is measured, no times, and no report is made of them"
    )
    estimate: EstimateSettings = EstimateSettings()
