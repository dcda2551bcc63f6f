"""How a student begins: at random, from its teacher's words, its layers, a part of them, or a model of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import XLMRobertaForMaskedLM

from halfling.models.shapes import shape_of
from halfling.training.fit import Parts, whole
from halfling.training.layer_maps import LayerPair, layer_map
from halfling.training.subclone import subclone

_BESIDES = ("hidden_act", "type_vocab_size")
"""What a shape does not hold and copied weights want to be alike."""

Start = Literal["random", "embeddings", "layers", "subclone", "checkpoint"]

TAKING_OVER: tuple[Start, ...] = ("layers", "subclone", "checkpoint")
"""Beginnings that take layers over, and with them the epsilon that they were trained with."""

FITTED: tuple[Start, ...] = ("layers", "subclone")
"""Beginnings whose layers can be fitted to those that they were."""


def begin(
    start: Start,
    student: XLMRobertaForMaskedLM,
    teacher: XLMRobertaForMaskedLM,
    pairs: Sequence[LayerPair],
    batch: Mapping[str, Int[Tensor, "batch tokens"]],
    checkpoint: XLMRobertaForMaskedLM | None = None,
) -> Parts | None:
    """Give a student its beginning, in place; at random it stays as it is.

    Returns the parts of its teacher that its layers are, if they are any.

    Args:
        start: By name.
        student: Who begins.
        teacher: Whose words or layers are taken.
        pairs: Of the layer map; see `layers_to_take`.
        batch: Packed rows, for `subclone`.
        checkpoint: A model of the student's shape, for `checkpoint`.

    Raises:
        ValueError: The student does not fit the teacher or the checkpoint.
    """
    taken = layers_to_take(pairs, student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    if start == "embeddings":
        embeddings_from(student, teacher)
    elif start == "layers":
        layers_from(student, teacher, taken)
        return whole(student.config, taken)
    elif start == "subclone":
        return subclone(student, teacher, taken, batch)
    elif checkpoint is not None:
        checkpoint_from(student, checkpoint)
    return None


def layers_to_take(pairs: Sequence[LayerPair], student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """Return which teacher layer each student layer begins as: the map's own where it names one for each.

    Where it does not (one layer alone, every layer from all), those of the uniform map.
    """
    if [own for own, _ in pairs] == [*range(1, student_layers + 1)]:
        return [*pairs]
    return layer_map("uniform", student_layers, teacher_layers)


def checkpoint_from(student: XLMRobertaForMaskedLM, checkpoint: XLMRobertaForMaskedLM) -> None:
    """Give the student the weights of a model of its shape, in place.

    Raises:
        ValueError: The shapes differ.
    """
    own, theirs = (shape_of(model.config).model_dump() | _said_besides(model) for model in (student, checkpoint))
    for name, value in own.items():
        if theirs[name] != value:
            raise ValueError(f"start=checkpoint: expected a {name} of {value}, the student's, came {theirs[name]}")
    # A student while it learns has projections besides.
    student.load_state_dict(checkpoint.state_dict(), strict=False)


def _said_besides(model: XLMRobertaForMaskedLM) -> dict[str, Any]:
    return {name: getattr(model.config, name) for name in _BESIDES}


def embeddings_from(student: XLMRobertaForMaskedLM, teacher: XLMRobertaForMaskedLM) -> None:
    """Give the student its teacher's word embeddings and output bias, in place, the words turned into its own width.

    The teacher's embedding table is projected on its leading principal directions (the best approximation of that
    rank: Eckart and Young, 1936) and scaled to the spread that it had: logits keep their scale.

    Raises:
        ValueError: The student is wider than its teacher, or has another vocabulary.
    """
    words = teacher.get_input_embeddings().weight.detach().float()
    own = student.get_input_embeddings().weight
    if own.shape[0] != words.shape[0] or own.shape[1] > words.shape[1]:
        raise ValueError(
            f"expected a student with its teacher's vocabulary and at most its width {tuple(words.shape)} to take "
            f"its words, came {tuple(own.shape)}"
        )
    centred = words - words.mean(dim=0)
    # Of the small covariance, not of the 250,002-row table: the same directions at a thousandth of the work.
    _, directions = torch.linalg.eigh(centred.T @ centred)
    turned = centred @ directions.flip(1)[:, : own.shape[1]]
    with torch.no_grad():
        own.copy_(turned * (words.std() / turned.std()))
        own[student.config.pad_token_id] = 0
        student.lm_head.bias.copy_(teacher.lm_head.bias)


def layers_from(student: XLMRobertaForMaskedLM, teacher: XLMRobertaForMaskedLM, pairs: Sequence[LayerPair]) -> None:
    """Copy embeddings, output head and the mapped layers of a teacher of the same width, in place.

    Follows DistilBERT (https://arxiv.org/abs/1910.01108), which takes every second layer.

    Raises:
        ValueError: The layers differ in shape.
    """
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings", "vocab_size")
    for name in (*names, *_BESIDES):
        own, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if own != theirs:
            raise ValueError(f"expected a student with its teacher's {name} ({theirs}) to copy layers, came {own}")
    student.roberta.embeddings.load_state_dict(teacher.roberta.embeddings.state_dict())
    student.lm_head.load_state_dict(teacher.lm_head.state_dict())
    for to, taken in pairs:
        student.roberta.encoder.layer[to - 1].load_state_dict(teacher.roberta.encoder.layer[taken - 1].state_dict())
