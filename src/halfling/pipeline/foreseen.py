"""What a plan's stages will read, compute and write, as far as it follows from a recipe and from what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from halfling.corpus.build import CorpusSettings
from halfling.corpus.plan import plan_corpus
from halfling.cost.training import (
    FORWARD,
    LEARNING,
    checkpoint_bytes,
    device_bytes,
    language_model_head,
    parameters,
    pass_flops,
    weight_bytes,
)
from halfling.errors import HalflingError
from halfling.export.write import ExportSettings
from halfling.models.convert.four_bit import shape_in
from halfling.models.shapes import SHAPES, resolve_shape, shape_at
from halfling.records import EncoderShape, Record, Settings
from halfling.stage import Stage
from halfling.tasks.extent import Extent, train_extent
from halfling.tasks.task import Task
from halfling.tokens.blocks import PackedSummary
from halfling.tokens.masking import blocks_read
from halfling.tokens.pack import PackSettings
from halfling.tokens.tokenizer import TokenizerSettings
from halfling.training.distill import DistillSettings
from halfling.training.exits import ExitsSettings
from halfling.training.finetune import FinetuneSettings
from halfling.training.masked import MaskedTraining, shared
from halfling.training.pretrain import TeacherSettings
from halfling.training.trim import TrimSettings

_S = TypeVar("_S", bound=Settings)


class Estimate(Record):
    """What one stage takes; None: nobody knows yet, or it takes next to nothing. All but what is done is estimated."""

    shape: str | None = Field(None, description="layers x width of the model that learns or is written")
    tokens: int | None = Field(None, description="that a training reads, or a corpus has")
    steps: int | None = None
    flops: float | None = Field(None, description="operations of all passes of a training")
    device_bytes: int | None = Field(None, description="peak memory of one device")
    device_hours: float | None = Field(None, description="of all devices together")
    disk_bytes: int | None = Field(None, description="what stays")
    checkpoint_bytes: int | None = Field(None, description="beside that, while it trains")


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
        known = _written(shape, parameters(shape) + language_model_head(shape))
        return self._masked(known, stage, settings, shape, outputs=(shape,)) if settings.epochs else known

    def _trim(self, stage: Stage, done: bool) -> Estimate:
        settings, shape = _said(TrimSettings, stage), self._shape(stage, "model")
        if done:
            shape = shape_at(str(stage.out))
        elif shape and settings.max_pieces:  # at most
            shape = shape.model_copy(update={"vocab_size": min(shape.vocab_size, settings.max_pieces)})
        if shape is None:
            return Estimate()
        self.shapes[stage.out], self.vocabularies[stage.out] = shape, shape.vocab_size
        return _written(shape, parameters(shape))

    def _distill(self, stage: Stage, _: bool) -> Estimate:
        settings, teacher = _said(DistillSettings, stage), self._shape(stage, "teacher")
        if teacher is None:
            return Estimate()
        shape = self.shapes[stage.out] = resolve_shape(settings.student, teacher.vocab_size)
        terms = settings.weights
        outputs = (shape,) * ("kl" in terms or "mlm" in terms) + (teacher,) * ("kl" in terms)
        saved = {*settings.save_epochs, settings.epochs} & {*range(1, settings.epochs + 1)}
        known = _written(shape, parameters(shape) + (language_model_head(shape) if outputs else 0), len(saved))
        return self._masked(known, stage, settings, shape, teacher, outputs)

    def _masked(
        self,
        known: Estimate,
        stage: Stage,
        settings: MaskedTraining,
        shape: EncoderShape,
        teacher: EncoderShape | None = None,
        outputs: tuple[EncoderShape, ...] = (),
    ) -> Estimate:
        """Return what a training on packed blocks takes besides what is known.

        `outputs`: the models that answer over the whole vocabulary where tokens are masked, the one that learns first.
        """
        packed = _folder(stage, "packed")
        block = self.blocks[packed]
        frozen = shape.vocab_size * shape.width if settings.freeze_embeddings else 0
        learned = parameters(shape) + (language_model_head(shape) if outputs else 0) - frozen
        beside = parameters(teacher) + sum(map(language_model_head, outputs[1:])) if teacher else 0
        known = known.model_copy(
            update={
                "checkpoint_bytes": checkpoint_bytes(learned, frozen),
                "device_bytes": self._memory(settings, learned, frozen + beside, shape, block, outputs),
            }
        )
        steps = self._steps(settings, packed)
        if not steps:
            return known
        tokens = steps * settings.batch_size * settings.gradient_accumulation * block
        answers = [round(settings.mask_share * tokens)] * len(outputs) + [0, 0]
        # As if one sequence filled a block: at most.
        flops = LEARNING * pass_flops(shape, tokens, block, answers[0])
        if teacher:
            flops += FORWARD * pass_flops(teacher, tokens, block, answers[1])
        return known.model_copy(update={"tokens": tokens, "steps": steps, "flops": float(flops)})

    def _memory(
        self,
        settings: MaskedTraining,
        learned: int,
        frozen: int,
        shape: EncoderShape,
        block: int,
        outputs: tuple[EncoderShape, ...],
    ) -> int | None:
        """Return the memory of a device; None where so many cannot share a step."""
        try:
            size, _ = shared(settings, self.devices)
        except HalflingError:
            return None
        widths = tuple(one.width for one in outputs)
        bfloat16 = settings.precision != "float32"
        return device_bytes(learned, frozen, shape, size * block, output_widths=widths, bfloat16=bfloat16)

    def _steps(self, settings: MaskedTraining, packed: Path) -> int | None:
        """Return the steps of a training on packed blocks; where nobody knows the chunks, at most."""
        block, a_step = self.blocks[packed], settings.batch_size * settings.gradient_accumulation
        limit = settings.tokens_per_epoch
        chunks = self.chunks.get(packed) or ([limit] if limit else [])
        if not chunks:
            return None
        read = (chunks[epoch % len(chunks)] for epoch in range(settings.epochs))
        return sum(blocks_read(tokens // block, block, a_step, limit) // a_step for tokens in read)

    def _finetune(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(FinetuneSettings, stage), self._shape(stage, "encoder")
        task = stage.inputs["task"]
        assert isinstance(task, Task)
        self.tasks[stage.out] = task
        frozen = shape.vocab_size * shape.width if shape and settings.freeze_embeddings else 0
        return self._labelled(stage, settings, shape, self._shape(stage, "teacher"), frozen)

    def _exits(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(ExitsSettings, stage), self._shape(stage, "finetuned")
        self.tasks[stage.out] = self.tasks[_folder(stage, "finetuned")]
        if settings.method == "two_stage":
            return self._labelled(stage, settings, shape, None, parameters(shape) if shape else 0, FORWARD)
        frozen = shape.vocab_size * shape.width if shape and settings.freeze_embeddings else 0
        return self._labelled(stage, settings, shape, shape if settings.soft_share else None, frozen)

    def _labelled(
        self,
        stage: Stage,
        settings: FinetuneSettings | ExitsSettings,
        shape: EncoderShape | None,
        imitated: EncoderShape | None,
        frozen: int,
        times: int = LEARNING,
    ) -> Estimate:
        """Return what a training on labels takes; classifiers are left out."""
        if shape is None:
            return Estimate()
        self.shapes[stage.out] = shape
        learned = parameters(shape) - frozen
        beside = parameters(imitated) if imitated else 0
        at_once = -(-settings.batch_size // self.devices) * settings.max_tokens  # at most
        found = _written(shape, parameters(shape)).model_copy(
            update={
                "checkpoint_bytes": checkpoint_bytes(learned, frozen),
                "device_bytes": device_bytes(
                    learned, frozen + beside, shape, at_once, bfloat16=settings.precision != "float32"
                ),
            }
        )
        extent = self._extent(stage, settings)
        if extent is None or not extent.examples:
            return found
        tokens, length = settings.epochs * extent.tokens, max(1, extent.tokens // extent.examples)
        flops = times * pass_flops(shape, tokens, length)
        flops += FORWARD * pass_flops(imitated, tokens, length) if imitated else 0
        steps = settings.epochs * max(1, extent.examples // settings.batch_size)
        return found.model_copy(update={"tokens": tokens, "steps": steps, "flops": float(flops)})

    def _extent(self, stage: Stage, settings: FinetuneSettings | ExitsSettings) -> Extent | None:
        """Return what an epoch on labels reads."""
        task, most = self.tasks[stage.out], settings.max_tokens
        key = task.name, most, settings.max_train_examples
        if key not in self.extents:
            found = train_extent(task, most, settings.max_train_examples)
            if found is None and self.sample_sentences:  # at most
                found = Extent(self.sample_sentences, self.sample_sentences * most)
            self.extents[key] = found
        found, more = self.extents[key], settings.text_sequences
        if found is None or not more:
            return found
        longest = min(most, self.blocks[_folder(stage, "packed")])
        return Extent(found.examples + more, found.tokens + more * longest)  # at most

    def _export(self, stage: Stage, _: bool) -> Estimate:
        settings, shape = _said(ExportSettings, stage), self._shape(stage, "model")
        if shape is None:
            return Estimate()
        each = 1 if settings.precision == "int8" else 4
        return Estimate(shape=_name(shape), disk_bytes=each * parameters(shape) * len(settings.backends))

    def _shape(self, stage: Stage, role: str) -> EncoderShape | None:
        """Return the shape of the model that a stage reads; a student lies in its distillation's folder."""
        read = _folder(stage, role)
        return next((self.shapes[folder] for folder in (read, *read.parents) if folder in self.shapes), None)


def _folder(stage: Stage, role: str) -> Path:
    """Return the folder of an input; a place where nothing is, if the stage has none of this role."""
    place = stage.inputs.get(role)
    return place if isinstance(place, Path) else Path("/dev/null")


def _said(kind: type[_S], stage: Stage) -> _S:
    assert isinstance(stage.settings, kind)
    return stage.settings


def _written(shape: EncoderShape, weights: int, times: int = 1) -> Estimate:
    return Estimate(shape=_name(shape), disk_bytes=times * weight_bytes(weights))


def _name(shape: EncoderShape) -> str:
    return f"{shape.num_layers}x{shape.width}"


def _shape_of_source(stage: Stage, source: str) -> EncoderShape | None:
    """Return the shape of a model that is not made here: a folder's or a package's, or a published one by its name."""
    place = _folder(stage, "source")
    if place.is_dir():
        return shape_at(str(place))
    return shape_in(place) if place.is_file() else SHAPES.get(source.rpartition("/")[2])
