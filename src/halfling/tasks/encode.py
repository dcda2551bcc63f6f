"""Examples as a model reads them: token ids, labels, and where each word begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from halfling.tasks.wikiann import NerExample
from halfling.tasks.xnli import NliExample

IGNORED = -100
"""The label that cross-entropy passes over."""

ABSENT = -1
"""The position of a word that the model does not see."""

# The tokenizer keeps far more than ids for each input: XNLI's 400,000 at once would take gigabytes.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Encoded:
    """Encoded examples, in the order they came.

    Attributes:
        rows: What training reads: `input_ids`, and `labels` (a number, or for each token, -100 where none).
        gold: What metrics read: a label for each example, or one for each of its words, cut off or not.
        word_positions: For WikiANN, the position of each word's first sub-word in `input_ids`, or -1 for a
            word that was cut off or that the tokenizer turned into nothing. None for XNLI.
        pad_id: The token id to pad with.
        num_truncated: Examples that were longer than allowed.
    """

    rows: list[dict[str, Any]]
    gold: list[Any]
    word_positions: list[list[int]] | None
    pad_id: int
    num_truncated: int


def encode_xnli(examples: Sequence[NliExample], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Encoded:
    """Return pairs as XLM-R reads them, `<s> premise </s></s> hypothesis </s>`, the longer cut first.

    `max_tokens` counts the special tokens.
    """
    rows = []
    num_truncated = 0
    for start in range(0, len(examples), _AT_ONCE):
        some = examples[start : start + _AT_ONCE]
        encodings = tokenizer(
            [example.premise for example in some],
            [example.hypothesis for example in some],
            truncation="longest_first",
            max_length=max_tokens,
        ).encodings
        rows += [{"input_ids": e.ids, "labels": x.label} for x, e in zip(some, encodings, strict=True)]
        num_truncated += sum(bool(encoding.overflowing) for encoding in encodings)
    gold = [example.label for example in examples]
    return Encoded(rows, gold, None, tokenizer.pad_token_id, num_truncated)


def encode_wikiann(examples: Sequence[NerExample], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Encoded:
    """Return sentences whose words' first sub-words carry the words' labels.

    Words are matched to sub-words by the tokenizer's own word numbers, not by counting: a word that the
    tokenizer turns into nothing (a zero-width character) must not shift the labels after it.
    `max_tokens` counts the special tokens.
    """
    rows = []
    word_positions = []
    num_truncated = 0
    for start in range(0, len(examples), _AT_ONCE):
        some = examples[start : start + _AT_ONCE]
        encodings = tokenizer(
            [list(example.tokens) for example in some],
            is_split_into_words=True,
            truncation=True,
            max_length=max_tokens,
        ).encodings
        for example, encoding in zip(some, encodings, strict=True):
            positions = [ABSENT] * len(example.tokens)
            for position, word in enumerate(encoding.word_ids):
                if word is not None and positions[word] == ABSENT:
                    positions[word] = position
            labels = [IGNORED] * len(encoding.ids)
            for position, tag in zip(positions, example.tags, strict=True):
                if position != ABSENT:
                    labels[position] = tag
            rows.append({"input_ids": encoding.ids, "labels": labels})
            word_positions.append(positions)
            num_truncated += bool(encoding.overflowing)
    gold = [list(example.tags) for example in examples]
    return Encoded(rows, gold, word_positions, tokenizer.pad_token_id, num_truncated)


def pad_rows(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Return a batch, padded on the right to its longest row.

    Args:
        rows: As in `Encoded.rows`.
        pad_id: The token id to pad with.

    Returns:
        `input_ids` and `attention_mask` (1 on real tokens), [batch, tokens], and `labels`, [batch] or
        [batch, tokens].
    """
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    per_token = labels[0].dim() == 1
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED) if per_token else torch.stack(labels),
    }
