"""How a student begins: from nothing, from its teacher's words, or from its teacher's layers."""

import torch
from transformers import XLMRobertaForMaskedLM


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


def layers_from(student: XLMRobertaForMaskedLM, teacher: XLMRobertaForMaskedLM, pairs: list[tuple[int, int]]) -> None:
    """Copy embeddings, output head and the mapped layers of a teacher of the same width, in place.

    Follows DistilBERT (https://arxiv.org/abs/1910.01108), which takes every second layer.

    Raises:
        ValueError: The layers differ in shape.
    """
    for name in ("hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings", "vocab_size"):
        own, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if own != theirs:
            raise ValueError(f"expected a student with its teacher's {name} ({theirs}) to copy layers, came {own}")
    student.roberta.embeddings.load_state_dict(teacher.roberta.embeddings.state_dict())
    student.lm_head.load_state_dict(teacher.lm_head.state_dict())
    for to, taken in pairs:
        if to and taken:
            student.roberta.encoder.layer[to - 1].load_state_dict(teacher.roberta.encoder.layer[taken - 1].state_dict())
