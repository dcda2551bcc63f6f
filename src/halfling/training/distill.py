"""The distillation stage: a teacher and a packed corpus in, a student after chosen epochs out."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from torch.utils.data import default_collate
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM, set_seed

from halfling.bounds import Repeats, Weight
from halfling.errors import HalflingError
from halfling.models.load import load_masked_lm, load_tokenizer, origin_of
from halfling.models.shapes import Dimensions, Shape, config_for, require_room, resolve_shape
from halfling.records import Counts, Progress, silent
from halfling.training.distiller import DistillationTrainer, DistilledMaskedLM, SaveAfterEpochs
from halfling.training.initialise import embeddings_from, layers_from
from halfling.training.layer_maps import LayerMapName, LayerPair, layer_map
from halfling.training.masked import MaskedTraining, masked_training
from halfling.training.trainer import remove_checkpoints, train_resumably


class DistillSettings(MaskedTraining):
    """What the student looks like and how it learns."""

    student: Shape = Field(Dimensions(num_layers=4, width=128, num_heads=4), description="the student's shape")
    layer_map: LayerMapName = Field("uniform", description="which teacher layer each student layer learns from")
    layer_pairs: tuple[LayerPair, ...] = Field((), description="(student, teacher) pairs of a `custom` map")
    start: Literal["random", "embeddings", "layers"] = Field(
        "embeddings",
        description="the student begins at random, with its teacher's words turned to its width, "
        "or (of equal width) with the mapped layers",
    )
    save_epochs: tuple[Repeats, ...] = Field(
        (1, 3, 5), description="the student is written after these; the last always"
    )
    hidden_weight: Weight = Field(1.0, description="of the hidden-state loss")
    kl_weight: Weight = Field(
        1.0, description="of the Kullback-Leibler divergence at masked positions; 0 of a teacher without a head"
    )
    mask_share: float = Field(
        0.15, ge=0, lt=1, description="of the tokens of a block; 0 where hidden states alone are learned from"
    )
    temperature: Weight = Field(1.0, gt=0, description="of both sides of the divergence")
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _logits_are_those_of_masked_positions(self) -> "DistillSettings":
        if self.kl_weight and not self.mask_share:
            raise ValueError("mask_share 0 leaves no masked position for kl_weight: set one of them otherwise")
        return self


def distill(
    *, settings: DistillSettings, teacher: Path, packed: Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `epoch-{e}/` for each saved epoch, each a plain `XLMRobertaForMaskedLM` with its tokenizer.

    A teacher without a language-model head has students without one: plain `XLMRobertaModel`s.

    Returns:
        The layer pairs, steps, tokens read, and the curve of the loss and its two parts.

    Raises:
        HalflingError: Teacher, student, layer map or corpus do not fit each other.
    """
    model, has_head = load_masked_lm(XLMRobertaForMaskedLM, teacher)
    if settings.kl_weight and not has_head:
        raise HalflingError(
            f"{teacher}: has no language-model head, so its logits mean nothing: set kl_weight=0 to distil from hidden "
            "states"
        )
    words = load_tokenizer(teacher, model)
    shape = resolve_shape(settings.student, model.config.vocab_size)
    set_seed(settings.seed)
    config = config_for(shape, dropout=settings.dropout)
    config.update(_said_of(model.config, layers=settings.start == "layers"))
    try:
        pairs = layer_map(settings.layer_map, shape.num_layers, model.config.num_hidden_layers, settings.layer_pairs)
        student = DistilledMaskedLM(config, pairs, model.config.hidden_size)
        if settings.start == "layers":
            layers_from(student, model, pairs)
        elif settings.start == "embeddings":
            embeddings_from(student, model)
    except ValueError as error:
        raise HalflingError(f"distill: {error}") from error
    if not has_head:  # nothing tells it what to learn; the decoder's weights are the word embeddings, which do learn
        for part in (student.lm_head.dense, student.lm_head.layer_norm):
            part.requires_grad_(False)
        student.lm_head.bias.requires_grad_(False)
    arguments, blocks = masked_training(settings, packed, out, student, words)
    for name, reader in (("teacher", model), ("student", student)):
        require_room(reader.config, blocks.block_tokens, f"distill: the {name}", "block_tokens")
    trainer = DistillationTrainer(
        teacher=model,
        hidden_weight=settings.hidden_weight,
        kl_weight=settings.kl_weight,
        temperature=settings.temperature,
        model=student,
        args=arguments,
        train_dataset=blocks,
        data_collator=default_collate,
        processing_class=words,
    )
    wanted = {*settings.save_epochs, settings.epochs}
    ends = {step: epoch for epoch, step in enumerate(blocks.steps_at_epoch_end, start=1) if epoch in wanted}
    trainer.add_callback(SaveAfterEpochs(trainer, out, ends, has_head=has_head))
    curve = train_resumably(trainer, progress)
    remove_checkpoints(out)
    return {
        "layer_pairs": pairs,
        "parameters": student.num_parameters() - sum(weight.numel() for weight in student.projections.parameters()),
        "steps": trainer.state.global_step,
        "tokens": len(blocks) * blocks.block_tokens,
        "curve": [{key: round(entry[key], 4) for key in ("step", "loss", "hidden", "kl")} for entry in curve],
        **origin_of(student),
    }


def _said_of(teacher: XLMRobertaConfig, *, layers: bool) -> dict[str, Any]:
    """Return what a student's configuration takes over: where the teacher comes from, and copied layers' epsilon."""
    said: dict[str, Any] = {"layer_norm_eps": teacher.layer_norm_eps} if layers else {}
    if origin := getattr(teacher, "origin", None):
        said["origin"] = origin | {"note": f"distilled from {origin['note'].removeprefix('distilled from ')}"}
    return said
