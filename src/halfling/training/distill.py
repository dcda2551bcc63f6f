"""The distillation stage: a teacher and a packed corpus in, a student after chosen epochs out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.data import default_collate
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling import processes
from halfling.bounds import Count, Repeats
from halfling.errors import HalflingError
from halfling.models.load import load_masked_lm, load_tokenizer, origin_of
from halfling.models.masked_lm import MaskedReader
from halfling.models.on_cpu import computing_on_cpu
from halfling.models.shapes import Dimensions, Shape, config_for, require_room, resolve_shape, shape_of
from halfling.processes import together
from halfling.records import Counts, EncoderShape, Progress, silent
from halfling.training.distilled import DistilledMaskedLM
from halfling.training.distiller import DistillationTrainer, SaveAfterEpochs, number_of_draw
from halfling.training.fit import Parts, fit_layers
from halfling.training.initialise import FITTED, TAKING_OVER, Start, begin
from halfling.training.layer_losses import relation_heads
from halfling.training.layer_maps import LayerMapName, LayerPair, how_of, layer_map
from halfling.training.masked import masked_training
from halfling.training.objective import LossSettings, Objective
from halfling.training.trainer import last_complete, train_resumably

_CALIBRATION_TOKENS = 4096
"""So many tell what matters in a teacher, and are read in seconds by XLM-R Large on a CPU."""


class DistillSettings(LossSettings):
    """What the student looks like, how it begins, and from which layers it learns."""

    student: Shape = Field(Dimensions(num_layers=4, width=128, num_heads=4), description="the student's shape")
    layer_map: LayerMapName = Field("uniform", description="which teacher layers each student layer learns from")
    layer_pairs: tuple[LayerPair, ...] = Field((), description="(student, teacher) pairs of a `custom` map")
    redraw: Literal["step", "epoch"] = Field("step", description="a random map is drawn anew each step or epoch")
    start: Start = Field(
        "embeddings",
        description="the student begins at random; with its teacher's embeddings turned to its width; with the mapped "
        "layers, of equal width; as a subclone, a part of them, of any smaller width; or as a checkpoint",
    )
    checkpoint: str = Field("", description="a model of the student's shape, a folder or a hub id, for that")
    fit_tokens: Count = Field(
        0,
        description="then each layer is fitted, by least squares, to what its teacher layer says on so many tokens: "
        "with start=layers or subclone",
    )
    save_epochs: tuple[Repeats, ...] = Field(
        (1, 3, 5), description="the student is written after these; the last always"
    )

    @model_validator(mode="after")
    def _a_checkpoint_is_begun_with(self) -> "DistillSettings":
        if bool(self.checkpoint) != (self.start == "checkpoint"):
            raise ValueError("start=checkpoint and checkpoint=FOLDER: give both, or neither")
        return self

    @model_validator(mode="after")
    def _what_is_fitted_was_a_teachers(self) -> "DistillSettings":
        if self.fit_tokens and self.start not in FITTED:
            raise ValueError(f"fit_tokens={self.fit_tokens}: fits copied layers: set start=layers or start=subclone")
        return self

    @property
    def maps(self) -> tuple[LayerMapName, ...]:
        """The layer maps that these settings are for."""
        return (self.layer_map,)

    @model_validator(mode="after")
    def _nothing_looks_into_what_is_compiled(self) -> "DistillSettings":
        if self.compile and "relation" in self.weights:
            raise ValueError("compile=true: relation_weight looks into layers: set relation_weight=0 or compile=false")
        return self

    @model_validator(mode="after")
    def _pairs_are_there_for_what_compares_pairs(self) -> "DistillSettings":
        for name in self.maps:
            for term in ("relation", "attention"):
                if how_of(name) != "pairs" and term in self.weights:
                    raise ValueError(
                        f"{term}_weight compares pairs of layers, and the layer map {name} has none: set "
                        f"{term}_weight=0 or another layer map"
                    )
        return self


@together
def distill(
    *,
    settings: DistillSettings,
    teacher: Path,
    packed: Path,
    out: Path,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write `epoch-{e}/` for each saved epoch, each a plain `XLMRobertaForMaskedLM` with its tokenizer.

    A student whose language-model head neither came along nor learned has none: a plain `XLMRobertaModel`.

    Args:
        teacher: Who is imitated.
        packed: What both read.
        checkpoint: The folder that `settings.checkpoint` names, if it is one.

    Returns:
        The layer pairs (of a random map the first draw), steps, tokens read, and the curve of the loss and its terms.

    Raises:
        HalflingError: Teacher, student, layer map, weights or corpus do not fit each other.
    """
    set_seed(settings.seed)  # a teacher without a head is given one, which students may take over
    model, has_head = load_masked_lm(MaskedReader, teacher)
    weights = settings.weights
    if "kl" in weights and not has_head:
        raise HalflingError(
            f"{teacher}: has no language-model head, so its logits mean nothing: set kl_weight=0 to distil from hidden "
            "states"
        )
    words = load_tokenizer(teacher, model)
    shape = resolve_shape(settings.student, model.config.vocab_size)
    depths = shape.num_layers, model.config.num_hidden_layers
    with _misfits_named():
        pairs = layer_map(settings.layer_map, *depths, settings.layer_pairs, draw=(settings.seed, 0))
        objective = Objective(
            terms=tuple(weights),
            how=how_of(settings.layer_map),
            hidden_loss=settings.hidden_loss,
            relation_heads=heads_of_relations(settings, shape, shape_of(model.config)),
            temperature=settings.temperature,
        )
    begun, begun_has_head = _begun_with(settings, checkpoint)
    set_seed(settings.seed)
    config = config_for(shape, dropout=settings.dropout)
    config.update(_said_of(model, begun, takes_over=settings.start in TAKING_OVER))
    compared = [*({own for own, _ in pairs} if "hidden" in weights else ()), *([0] if "embedding" in weights else ())]
    student = DistilledMaskedLM(config, compared, model.config.hidden_size)
    arguments, blocks = masked_training(settings, packed, out, student, words)
    for name, reader in (("teacher", model), ("student", student)):
        require_room(reader.config, blocks.block_tokens, f"distill: the {name}", "block_tokens")

    def first(tokens: int) -> dict[str, Tensor]:
        """Return blocks of so many tokens, as both read them; of a small corpus all."""
        some = range(min(len(blocks), max(1, tokens // blocks.block_tokens)))
        return default_collate([blocks[n] for n in some])

    # A checkpoint holds what a beginning became.
    resumed = processes.told(None if processes.follows() else last_complete(Path(arguments.output_dir)))
    if not resumed:
        # A map that is drawn anew says nothing of where to begin.
        fixed = [] if settings.layer_map == "random" else pairs
        with _misfits_named():
            parts = begin(settings.start, student, model, fixed, first(_CALIBRATION_TOKENS), begun)
            if parts and settings.fit_tokens:
                if settings.fit_tokens > (most := len(blocks) * blocks.block_tokens):
                    raise ValueError(
                        f"fit_tokens={settings.fit_tokens}: all epochs read {most} tokens: give so many at most"
                    )
                _fit(student, model, parts, pairs, first(settings.fit_tokens), arguments.device, progress)
    for reader in (model, student):
        reader.set_attn_implementation(settings.attention)
        if arguments.use_cpu and settings.attention == "sdpa":
            computing_on_cpu(reader)
    del begun
    if settings.start != "checkpoint":
        begun_has_head = has_head and settings.start in TAKING_OVER
    has_head = begun_has_head or not {"kl", "mlm"}.isdisjoint(weights)
    if not has_head:  # nothing tells it what to learn; the decoder's weights are the word embeddings, which do learn
        for part in (student.lm_head.dense, student.lm_head.layer_norm):
            part.requires_grad_(False)
        student.lm_head.bias.requires_grad_(False)

    def pairs_at(step: int) -> list[LayerPair]:
        number = number_of_draw(step, blocks.steps_at_epoch_end, settings.redraw)
        return layer_map(settings.layer_map, *depths, settings.layer_pairs, draw=(settings.seed, number))

    trainer = DistillationTrainer(
        teacher=model,
        objective=objective,
        weights=weights,
        pairs_at=pairs_at,
        **settings.computed,
        model=student,
        args=arguments,
        train_dataset=blocks,
        data_collator=default_collate,
        processing_class=words,
    )
    wanted = {*settings.save_epochs, settings.epochs}
    ends = {step: epoch for epoch, step in enumerate(blocks.steps_at_epoch_end, start=1) if epoch in wanted}
    trainer.add_callback(SaveAfterEpochs(trainer, out, ends, has_head=has_head))
    curve = train_resumably(trainer, progress, list(weights))
    return {
        "layer_pairs": pairs,
        "parameters": student.num_parameters() - sum(weight.numel() for weight in student.projections.parameters())
        if has_head
        else student.roberta.num_parameters(),
        "steps": trainer.state.global_step,
        "tokens": len(blocks) * blocks.block_tokens,
        "curve": curve,
        **origin_of(student),
    }


def _fit(
    student: DistilledMaskedLM,
    teacher: MaskedReader,
    parts: Parts,
    pairs: Sequence[LayerPair],
    batch: dict[str, Tensor],
    device: torch.device,
    progress: Progress,
) -> None:
    """Fit a student's layers, and the projections of those that are compared with what they begin as."""
    for reader in (student, teacher):
        reader.to(device)
    fit_layers(
        student,
        teacher,
        parts,
        {name: rows.to(device) for name, rows in batch.items()},
        {
            own: student.projections[str(own)]
            for own, of in {(0, 0), *pairs} & {(0, 0), *parts.pairs}
            if str(own) in student.projections
        },
        lambda done: progress(done, len(parts.pairs), "layers fitted"),
    )


@contextmanager
def _misfits_named() -> Iterator[None]:
    """Say of a misfit, a `ValueError` of the block, where it is."""
    try:
        yield
    except ValueError as error:
        raise HalflingError(f"distill: {error}") from error


def heads_of_relations(
    settings: DistillSettings, student: Dimensions | EncoderShape, teacher: Dimensions | EncoderShape
) -> int:
    """Return into how many heads queries, keys and values are cut to be compared.

    Raises:
        ValueError: They do not divide the widths, or attention is to be compared and its heads differ.
    """
    widths = student.width, teacher.width
    heads = settings.relation_heads or relation_heads(*widths)
    if "relation" in settings.weights and any(width % heads for width in widths):
        raise ValueError(
            f"relation_heads {heads} does not divide the widths {widths[0]} and {widths[1]}: leave it out, or set one "
            "that divides both"
        )
    if "attention" in settings.weights and student.num_heads != teacher.num_heads:
        raise ValueError(
            f"attention_weight compares head by head, and the student has {student.num_heads} heads, its teacher "
            f"{teacher.num_heads}: set relation_weight in its place"
        )
    return heads


def _begun_with(settings: DistillSettings, checkpoint: Path | None) -> tuple[XLMRobertaForMaskedLM | None, bool]:
    """Return the model that the student begins as, if it begins as one, and whether that has a head of its own."""
    if not settings.checkpoint:
        return None, False
    return load_masked_lm(XLMRobertaForMaskedLM, checkpoint or settings.checkpoint)


def _said_of(
    teacher: XLMRobertaForMaskedLM, begun: XLMRobertaForMaskedLM | None, *, takes_over: bool
) -> dict[str, Any]:
    """Return what a student's configuration takes over: epsilon and activation of layers, and what it is made of."""
    names = ("layer_norm_eps", "hidden_act") if takes_over else ()
    said: dict[str, Any] = {name: getattr((begun or teacher).config, name) for name in names}
    own, theirs = (getattr(model.config, "origin", None) if model else None for model in (begun, teacher))
    notes = [f"distilled from {theirs['note'].removeprefix('distilled from ')}"] if theirs else []
    if own and (not theirs or own["model"] != theirs["model"]):
        notes.append(f"begun with {own['note']}")
    if notes:
        said["origin"] = {**(theirs or own or {}), "note": ", ".join(notes)}
    return said
