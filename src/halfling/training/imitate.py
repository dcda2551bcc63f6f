"""Learning from labels and from a fine-tuned teacher's answers: on the train split, and on text without labels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halfling.corpus.store import chunk_folder
from halfling.errors import HalflingError
from halfling.tasks.encode import IGNORED
from halfling.tokens.blocks import PackedBlocks, PackedSummary
from halfling.tokens.words import SPACE_MARK
from halfling.training.trainer import BatchMeanTrainer

UNLABELLED = -101
"""The label of a word that nobody has labelled: what the teacher says of it is imitated all the same."""


def imitation_loss(
    student: Float[Tensor, "*inputs classes"],
    teacher: Float[Tensor, "*inputs classes"],
    labels: Int[Tensor, "*inputs"],
    soft_share: float,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy with the labels, and with the teacher's distribution, in nats.

    `soft_share` (0..1) weighs the latter, the rest the former. Where the label is -100 nothing counts, where it is
    `UNLABELLED` the teacher alone.

    Follows Hinton et al. (https://arxiv.org/abs/1503.02531) at temperature 1; text without labels as in XtremeDistil
    (https://arxiv.org/abs/2004.05686), which also imitates hidden states and learns in stages.
    """
    labelled, counted = labels >= 0, labels != IGNORED
    # Sums over at least one: a batch of nothing but text has no labels, and no 0 / 0.
    hard = F.cross_entropy(student[labelled].float(), labels[labelled], reduction="sum") / labelled.sum().clamp(min=1)
    answers = teacher[counted].float().softmax(dim=-1)
    soft = F.cross_entropy(student[counted].float(), answers, reduction="sum") / counted.sum().clamp(min=1)
    return (1 - soft_share) * hard + soft_share * soft


def unlabelled_rows(
    packed: Path, number: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Return `number` sequences of a packed corpus's first chunk, blocks drawn from all languages, to imitate on.

    Each word is `UNLABELLED` at its first sub-word, as a tagger answers it.

    Raises:
        HalflingError: The corpus was packed with another tokenizer, or holds fewer sequences.
    """
    summary = PackedSummary.read(packed / "corpus.json")
    if summary.vocab_size != len(tokenizer):
        raise HalflingError(
            f"{packed}: packed with {summary.vocab_size} pieces, not {len(tokenizer)}: pack with its tokenizer"
        )
    blocks = PackedBlocks(chunk_folder(packed, 1))
    marks = np.array([piece.startswith(SPACE_MARK) for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    rows: list[dict[str, Any]] = []
    for block in np.random.default_rng(seed).permutation(len(blocks)).tolist():
        ids, starts = blocks[block]
        for sequence in np.split(ids, starts[1:]):
            labels = np.where(marks[sequence], UNLABELLED, IGNORED)[:max_tokens]
            if (labels != IGNORED).any():
                rows.append({"input_ids": sequence[:max_tokens].tolist(), "labels": labels.tolist()})
            if len(rows) == number:
                return rows
    raise HalflingError(f"{packed}: chunk-1 holds {len(rows)} sequences, not text_sequences={number}: ask for fewer")


class ImitationTrainer(BatchMeanTrainer):
    """A Trainer whose model also imitates a teacher, which reads the same batches."""

    def __init__(self, *, teacher: PreTrainedModel, classes: list[int], soft_share: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.teacher, self.soft_share = teacher.eval().requires_grad_(False).to(self.args.device), soft_share
        self.classes = classes  # the student's, as the teacher numbers them

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch."""
        labels = inputs["labels"]
        read = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        with torch.no_grad():
            answers = self.teacher(**read).logits[..., self.classes]
        return imitation_loss(model(**read).logits, answers, labels, self.soft_share)
