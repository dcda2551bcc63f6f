"""What a plan's stages will read, compute and write, as far as it follows from a recipe and from what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from halfling.corpus.build import CorpusSettings
from halfling.corpus.plan import plan_corpus
from halfling.cost.training import FORWARD, LEARNING, language_model_head, parameters, teacher_states_bytes
from halfling.errors import HalflingError
from halfling.export.write import ExportSettings
from halfling.models.convert.four_bit import shape_in
from halfling.models.shapes import SHAPES, resolve_shape, shape_at
from halfling.pipeline.trainings import Estimate, named, on_blocks, on_labels, written
from halfling.records import EncoderShape, Settings
from halfling.stage import Stage
from halfling.tasks.extent import Extent, train_extent
from halfling.tasks.task import Task
from halfling.tokens.blocks import PackedSummary
from halfling.tokens.pack import PackSettings
from halfling.tokens.tokenizer import TokenizerSettings
from halfling.training.distill import DistillSettings
from halfling.training.exits import ExitsSettings
from halfling.training.finetune import FinetuneSettings
from halfling.training.labelled import LabelledTraining
from halfling.training.masked import MaskedTraining
from halfling.training.pretrain import TeacherSettings
from halfling.training.trim import TrimSettings

_S = TypeVar("_S", bound=Settings)


def kind_of(stage: Stage) -> str:
    """Return the kind of a plan's stage, the first part of its name."""
    return stage.name.partition("/")[0]


class Foreseen:
    """Goes along the stages of a plan, in their order, and keeps what later ones need of earlier ones."""

    def __init__(self, devices: int, sample_sentences: int | None) -> None:
        """Begin; `sample_sentences` are the embedded sample's for training, where it is what a run reads."""
        self.devices, self.sample_sentences = devices, sample_sentences
        self.shapes: dict[Path, EncoderShape] = {}
        self.vocabularies: dict[Path, int] = {}
        self.chunks: dict[Path, list[int]] = {}  # tokens of each
        self.blocks: dict[Path, int] = {}  # tokens of each block
        self.tasks: dict[Path, Task] = {}
        self.extents: dict[tuple[str, int, int | None], Extent | None] = {}
        self.ways: dict[str, Callable[[Stage, bool], Estimate]] = {
            "corpus": self._corpus,
            "tokenizer": self._tokenizer,
            "pack": self._pack,
            "teacher": self._teacher,
            "trim": self._trim,
            "distill": self._distill,
            "finetune": self._finetune,
            "exits": self._exits,
            "export": self._export,
        }

    def stage(self, stage: Stage, *, done: bool) -> Estimate:
        """Return what a stage takes, its hours aside."""
        way = self.ways.get(kind_of(stage))
        return way(stage, done) if way else Estimate()

    def _corpus(self, stage: Stage, _: bool) -> Estimate:
        settings = _said(CorpusSettings, stage)
        try:
            budget = plan_corpus(settings, stage.inputs["source"])  # type: ignore[arg-type]
        except HalflingError:  # the sample, which is written first; or what the stage's state says
            return Estimate()
        self.chunks[stage.out] = [budget.tokens // settings.chunks] * settings.chunks
        return Estimate(tokens=budget.tokens, disk_bytes=budget.quota_bytes)

    def _tokenizer(self, stage: Stage, _: bool) -> Estimate:
        settings = _said(TokenizerSettings, stage)
        known = None if settings.source == "train" else _shape_of_source(stage, settings.source)
        size = settings.vocab_size if settings.source == "train" else known and known.vocab_size
        if size:
            self.vocabularies[stage.out] = size
        return Estimate()

    def _pack(self, stage: Stage, done: bool) -> Estimate:
        block = self.blocks[stage.out] = _said(PackSettings, stage).block_tokens
        if done:
            summary = PackedSummary.read(stage.out / "corpus.json")
            self.chunks[stage.out] = [block * sum(each.values()) for each in summary.blocks.values()]
            size: int | None = summary.vocab_size
        else:
            size = self.vocabularies.get(_folder(stage, "tokenizer"))
            if (corpus := _folder(stage, "corpus")) in self.chunks:
                self.chunks[stage.out] = self.chunks[corpus]
        tokens = sum(self.chunks.get(stage.out, []))
        if not tokens or not size:
            return Estimate(tokens=tokens or None)
        return Estimate(tokens=tokens, disk_bytes=tokens * (2 if size <= 2**16 else 4))

    def _teacher(self, stage: Stage, done: bool) -> Estimate:
        settings = _said(TeacherSettings, stage)
        words = self.vocabularies.get(_folder(stage, "tokenizer"))
        if done:
            shape: EncoderShape | None = shape_at(str(stage.out))
        elif settings.source == "scratch":
            shape = resolve_shape(settings.shape, words) if words else None
        else:
            shape = _shape_of_source(stage, settings.source)
        if shape is None:
            return Estimate()
        self.shapes[stage.out] = shape
        known = written(shape, parameters(shape) + language_model_head(shape))
        return self._on_blocks(known, stage, settings, shape, outputs=(shape,)) if settings.epochs else known

    def _trim(self, stage: Stage, done: bool) -> Estimate:
        settings, shape = _said(TrimSettings, stage), self._shape(stage, "model")
        if done:
            shape = shape_at(str(stage.out))
        elif shape and settings.max_pieces:  # at most
            shape = shape.model_copy(update={"vocab_size": min(shape.vocab_size, settings.max_pieces)})
        if shape is None:
            return Estimate()
        self.shapes[stage.out], self.vocabularies[stage.out] = shape, shape.vocab_size
        return written(shape, parameters(shape))

    def _distill(self, stage: Stage, _: bool) -> Estimate:
        settings, teacher = _said(DistillSettings, stage), self._shape(stage, "teacher")
        if teacher is None:
            return Estimate()
        shape = self.shapes[stage.out] = resolve_shape(settings.student, teacher.vocab_size)
        terms = settings.weights
        outputs = (shape,) * ("kl" in terms or "mlm" in terms) + (teacher,) * ("kl" in terms)
        saved = {*settings.save_epochs, settings.epochs} & {*range(1, settings.epochs + 1)}
        known = written(shape, parameters(shape) + (language_model_head(shape) if outputs else 0), len(saved))
        return self._on_blocks(known, stage, settings, shape, teacher, outputs)

    def _on_blocks(
        self,
        known: Estimate,
        stage: Stage,
        settings: MaskedTraining,
        shape: EncoderShape,
        teacher: EncoderShape | None = None,
        outputs: tuple[EncoderShape, ...] = (),
    ) -> Estimate:
        packed = _folder(stage, "packed")
        chunks = self.chunks.get(packed, [])
        return on_blocks(known, settings, shape, self.blocks[packed], chunks, self.devices, teacher, outputs)

    def _finetune(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(FinetuneSettings, stage), self._shape(stage, "encoder")
        task = stage.inputs["task"]
        assert isinstance(task, Task)
        self.tasks[stage.out] = task
        if shape is None:
            return Estimate()
        self.shapes[stage.out] = shape
        frozen = shape.vocab_size * shape.width if settings.freeze_embeddings else 0
        imitated, (extent, text) = self._shape(stage, "teacher"), self._read(stage, settings)
        layers = shape.num_layers if imitated and settings.hidden_weight else 0
        once, states = self._remembered(settings, extent, text, layers, (imitated or shape).width)
        found = on_labels(settings, shape, extent, self.devices, text=text, imitated=imitated, once=once, frozen=frozen)
        return _with_states(found, states)

    def _remembered(
        self,
        settings: LabelledTraining,
        extent: Extent | None,
        text: Extent,
        layers: int,
        width: int,
        *,
        by_token: bool = True,
    ) -> tuple[bool, int]:
        """Return whether what stays from pass to pass is computed once, and what its states take on disk.

        They are states of so many layers, of each token or of each example.
        """
        if self.devices > 1 or settings.epochs == 1 or not extent:
            return False, 0
        places = extent.tokens + text.tokens if by_token else extent.examples + text.examples
        states = teacher_states_bytes(places, layers, width, bfloat16=settings.precision != "float32")
        once = settings.states_gb > 0 and states <= settings.states_gb * 1e9
        return once, states if once else 0

    def _exits(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(ExitsSettings, stage), self._shape(stage, "finetuned")
        self.tasks[stage.out] = self.tasks[_folder(stage, "finetuned")]
        if shape is None:
            return Estimate()
        self.shapes[stage.out] = shape
        extent, text = self._read(stage, settings)
        imitated = self._shape(stage, "teacher") if settings.soft_share else None
        if settings.method == "two_stage":
            layers = len({*(settings.layers or range(1, shape.num_layers + 1)), shape.num_layers})
            by_token = self.tasks[stage.out].kind == "tagging"  # a text's exits look at one state of it
            once, states = self._remembered(settings, extent, text, layers, shape.width, by_token=by_token)
            frozen, times = parameters(shape), FORWARD
        else:
            imitated = imitated or (shape if settings.soft_share else None)
            once, states = self._remembered(settings, extent, text, 0, shape.width)
            frozen, times = shape.vocab_size * shape.width if settings.freeze_embeddings else 0, LEARNING
        found = on_labels(
            settings, shape, extent, self.devices, text=text, imitated=imitated, once=once, frozen=frozen, times=times
        )
        return _with_states(found, states)

    def _read(self, stage: Stage, settings: FinetuneSettings | ExitsSettings) -> tuple[Extent | None, Extent]:
        """Return the labelled examples that every epoch reads, and the text that all of them together read, at most."""
        task, most = self.tasks[stage.out], settings.max_tokens
        key = task.name, most, settings.max_train_examples
        if key not in self.extents:
            found = train_extent(task, most, settings.max_train_examples)
            if found is None and self.sample_sentences:  # at most
                found = Extent(self.sample_sentences, self.sample_sentences * most)
            self.extents[key] = found
        more = settings.text_sequences
        longest = min(most, self.blocks[_folder(stage, "packed")]) if more else 0
        return self.extents[key], Extent(more, more * longest)

    def _export(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(ExportSettings, stage), self._shape(stage, "model")
        if shape is None:
            return Estimate()
        each = 1 if settings.precision == "int8" else 4
        return Estimate(shape=named(shape), disk_bytes=each * parameters(shape) * len(settings.backends))

    def _shape(self, stage: Stage, role: str) -> EncoderShape | None:
        """Return the shape of the model that a stage reads; a student lies in its distillation's folder."""
        read = _folder(stage, role)
        return next((self.shapes[folder] for folder in (read, *read.parents) if folder in self.shapes), None)


def _folder(stage: Stage, role: str) -> Path:
    """Return the folder of an input; a place where nothing is, if the stage has none of this role."""
    place = stage.inputs.get(role)
    return place if isinstance(place, Path) else Path("/dev/null")


def _with_states(found: Estimate, states: int) -> Estimate:
    """Return what a training takes whose remembered states lie beside its checkpoints."""
    return found.model_copy(update={"checkpoint_bytes": (found.checkpoint_bytes or 0) + states}) if states else found


def _said(kind: type[_S], stage: Stage) -> _S:
    assert isinstance(stage.settings, kind)
    return stage.settings


def _shape_of_source(stage: Stage, source: str) -> EncoderShape | None:
    """Return the shape of a model that is not made here: a folder's or a package's, or a published one by its name."""
    place = _folder(stage, "source")
    if place.is_dir():
        return shape_at(str(place))
    return shape_in(place) if place.is_file() else SHAPES.get(source.rpartition("/")[2])
