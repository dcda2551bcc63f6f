"""A model's answers to encoded examples, whatever their batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from halfling.exits.policy import ExitPolicy
from halfling.tasks.encode import ABSENT, Encoded, pad_rows
from halfling.tasks.wikiann import OUTSIDE


@dataclass(frozen=True)
class Predictions:
    """Answers in the examples' order.

    Attributes:
        labels: A label for each example, or (WikiANN) one for each word of each example.
        exit_layers: The layer (1-based) after which each example left, or with token exits for each of its real
            tokens, special ones included; the last layer for a plain model.
        num_tokens: Real tokens of each example, special ones included.
        exit_logits: When asked for, of each exit in order a list of each example's, float32 on the CPU:
            [classes], or (WikiANN) [words that the model saw, classes]. A plain model has one, its last.
    """

    labels: list[Any]
    exit_layers: list[int] | list[list[int]]
    num_tokens: list[int]
    exit_logits: tuple[list[Tensor], ...] | None

    @property
    def exits_taken(self) -> list[int]:
        """The layer after which each example left, or with token exits each token, one after another."""
        return [one for left in self.exit_layers for one in (left if isinstance(left, list) else [left])]


def predict(
    model: PreTrainedModel,
    encoded: Encoded,
    batch_size: int,
    *,
    all_exits: bool = False,
    policy: ExitPolicy | None = None,
) -> Predictions:
    """Return a model's answers, computed in batches of examples of like length.

    Args:
        model: A plain Hugging Face classifier, or an early-exit one (its configuration has `exit_layers`). It runs
            where it is, in evaluation mode.
        encoded: What to answer.
        batch_size: Examples at a time; it changes speed, not answers.
        all_exits: Compute and return every exit's logits, for calibration; nobody leaves early.
        policy: Where an early-exit model's inputs exit; what its configuration says when absent.
    """
    num_tokens = [len(row["input_ids"]) for row in encoded.rows]
    longest_first = sorted(range(len(num_tokens)), key=lambda n: -num_tokens[n])
    logits: dict[int, list[Tensor]] = {}
    layers: dict[int, Any] = {}
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(longest_first), batch_size):
            numbers = longest_first[start : start + batch_size]
            per_exit, exit_layers = _answer(model, encoded, numbers, all_exits, policy)
            for row, number in enumerate(numbers):
                kept: Any = row
                if encoded.word_positions is not None:
                    kept = row, [p for p in encoded.word_positions[number] if p != ABSENT]
                logits[number] = [one[kept] for one in per_exit]
                left = exit_layers[row]
                layers[number] = left[: num_tokens[number]] if isinstance(left, list) else left
    finally:
        model.train(was_training)
    in_order = [logits[number] for number in range(len(num_tokens))]
    labels: list[Any] = [of_exits[-1].argmax(dim=-1).tolist() for of_exits in in_order]
    if encoded.word_positions is not None:
        labels = [word_labels(*pair) for pair in zip(labels, encoded.word_positions, strict=True)]
    return Predictions(
        labels=labels,
        exit_layers=[layers[number] for number in range(len(num_tokens))],
        num_tokens=num_tokens,
        exit_logits=tuple(list(one) for one in zip(*in_order, strict=True)) if all_exits else None,
    )


def word_labels(seen: Sequence[int], positions: Sequence[int]) -> list[int]:
    """Return a label for each word: those of the words that the model saw, in order, and O for the others.

    Args:
        seen: Labels of the words with a position.
        positions: Of all words, -1 where the model saw none of it (`Encoded.word_positions`).
    """
    labels = iter(seen)
    return [OUTSIDE if position == ABSENT else next(labels) for position in positions]


@torch.inference_mode()
def _answer(
    model: PreTrainedModel, encoded: Encoded, numbers: list[int], all_exits: bool, policy: ExitPolicy | None
) -> tuple[list[Float[Tensor, "batch *tokens classes"]], list[Any]]:
    """Return the logits of the exit taken (or of every exit), and the layers after which examples or tokens left."""
    batch = pad_rows([encoded.rows[number] for number in numbers], encoded.pad_id)
    # Labels would ask for a loss, and with it for every exit.
    del batch["labels"]
    extra: dict[str, Any] = {}
    if getattr(model.config, "exit_layers", None):
        extra = {"all_exits": all_exits, "policy": policy and policy.model_dump(mode="json")}
        if encoded.word_positions is not None:
            batch["word_starts"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
            for row, number in enumerate(numbers):
                batch["word_starts"][row, [p for p in encoded.word_positions[number] if p != ABSENT]] = True
    output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, **extra)
    per_exit = output.exit_logits if extra.get("all_exits") else (output.logits,)
    left = getattr(output, "token_exit_layers", None)
    left = getattr(output, "exit_layers", None) if left is None else left
    exit_layers = [model.config.num_hidden_layers] * len(numbers) if left is None else left.tolist()
    return [logits.float().cpu() for logits in per_exit], exit_layers
