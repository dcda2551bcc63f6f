"""A PyTorch model's answers to encoded examples, whatever their batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded
from halfling.tasks.score import Answer
from halfling.tasks.tags import OUTSIDE


@dataclass(frozen=True)
class Predictions:
    """Answers in the examples' order.

    Attributes:
        logits: Of the exit that each took, float32: [picked, classes].
        exit_layers: The layer (1-based) after which each exited, or with token exits for each of its tokens, special
            ones included; the last layer for a plain model.
        exit_logits: When asked for, of each exit in order what `logits` is of one. A plain model has one, its last.
    """

    logits: list[np.ndarray]
    exit_layers: list[int] | list[list[int]]
    exit_logits: tuple[list[np.ndarray], ...] | None

    @property
    def exits_taken(self) -> list[int]:
        """The layer after which each example exited, or with token exits each token, one after another."""
        return [one for left in self.exit_layers for one in (left if isinstance(left, list) else [left])]


def predict(
    model: PreTrainedModel,
    encoded: Sequence[Encoded],
    batch_size: int,
    *,
    policy: ExitPolicy | None = None,
    all_exits: bool = False,
) -> Predictions:
    """Return a model's answers, computed in batches of examples of like length.

    Args:
        model: A plain Hugging Face classifier, or an early-exit one. It runs where it is, in evaluation mode.
        batch_size: Examples at a time; it changes speed, not answers.
        policy: Where an early-exit model's inputs exit; the model's own when absent.
        all_exits: Compute and return every exit's logits, for calibration; nobody exits early.

    Raises:
        HalflingError: An answer is no number: the weights are too large to compute with.
    """
    longest_first = sorted(range(len(encoded)), key=lambda n: -len(encoded[n].ids))
    logits: dict[int, list[np.ndarray]] = {}
    layers: dict[int, Any] = {}
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(longest_first), batch_size):
            numbers = longest_first[start : start + batch_size]
            per_exit, exit_layers = _answer(model, [encoded[number] for number in numbers], policy, all_exits)
            if not all(bool(torch.isfinite(one).all()) for one in per_exit):
                raise HalflingError(
                    f"{model.config.name_or_path}: answers with what is no number, as its weights are too large: "
                    "train it again with a lower learning_rate, or name another folder"
                )
            for row, number in enumerate(numbers):
                picked = encoded[number].picked
                logits[number] = [(one[row][picked] if one.dim() == 3 else one[row][None]).numpy() for one in per_exit]
                left = exit_layers[row]
                layers[number] = left[: len(encoded[number].ids)] if isinstance(left, list) else left
    finally:
        model.train(was_training)
    in_order = [logits[number] for number in range(len(encoded))]
    return Predictions(
        logits=[of_exits[-1] for of_exits in in_order],
        exit_layers=[layers[number] for number in range(len(encoded))],
        exit_logits=tuple(list(one) for one in zip(*in_order, strict=True)) if all_exits else None,
    )


def answers(
    logits: Sequence[np.ndarray], encoded: Sequence[Encoded], labels: Sequence[str], words: Sequence[int] | None
) -> list[Answer]:
    """Return the likeliest label of each text, or a tag for each word of each sentence.

    Args:
        logits: [picked, classes] of each.
        labels: The model's, in the order of their numbers.
        words: How many words each sentence has; None for texts. A word without a place is outside.
    """
    best = [[labels[number] for number in one.argmax(axis=-1)] for one in logits]
    if words is None:
        return [one[0] for one in best]
    found: list[Answer] = []
    for one, seen, number in zip(best, encoded, words, strict=True):
        tags: list[str | None] = [OUTSIDE if OUTSIDE in labels else None] * number
        for word, tag in zip([] if seen.words is None else seen.words.tolist(), one, strict=True):
            tags[word] = tag
        found.append(tags)
    return found


def pad(ids: Sequence[np.ndarray | list[int]], pad_id: int) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask` (1 on real tokens), [batch, tokens], padded on the right."""
    rows = [torch.as_tensor(one) for one in ids]
    return {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
    }


@torch.inference_mode()
def _answer(
    model: PreTrainedModel, encoded: Sequence[Encoded], policy: ExitPolicy | None, all_exits: bool
) -> tuple[list[Float[Tensor, "batch *tokens classes"]], list[Any]]:
    """Return the logits of the exit taken (or of every exit), and the layers after which examples or tokens exited."""
    batch = pad([one.ids for one in encoded], model.config.pad_token_id)
    extra: dict[str, Any] = {}
    if getattr(model.config, "exit_layers", None):
        extra["all_exits"] = all_exits
        if policy is not None:
            extra["policy"] = policy.model_dump(mode="json")
        if any(one.words is not None for one in encoded):
            batch["word_starts"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
            for row, one in enumerate(encoded):
                batch["word_starts"][row, one.picked] = True
    output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, **extra)
    per_exit = output.exit_logits if extra.get("all_exits") else (output.logits,)
    left = getattr(output, "token_exit_layers", None)
    left = getattr(output, "exit_layers", None) if left is None else left
    exit_layers = [model.config.num_hidden_layers] * len(encoded) if left is None else left.tolist()
    return [logits.float().cpu() for logits in per_exit], exit_layers
