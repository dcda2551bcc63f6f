"""Examples as a model reads them: token ids, and the places whose answers are wanted."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.tags import fitted

IGNORED = -100
"""The label that cross-entropy passes over."""

# The tokenizer keeps far more than ids for each input: XNLI's 400,000 at once would take gigabytes.
_AT_ONCE = 1000


def encode(examples: Sequence[Example], tokenizer: Any, max_tokens: int) -> list[Encoded]:
    """Return examples as XLM-R reads them: `<s> text </s>`, or `<s> text </s></s> second </s>`, the longer cut first.

    Words are matched to sub-words by the tokenizer's own word numbers, not by counting: a word that the tokenizer turns
    into nothing (a zero-width character) must not shift the labels after it.
    `max_tokens` counts special tokens too.
    """
    return [
        one
        for start in range(0, len(examples), _AT_ONCE)
        for one in _encode(examples[start : start + _AT_ONCE], tokenizer, max_tokens)
    ]


def _encode(examples: Sequence[Example], tokenizer: Any, max_tokens: int) -> Iterator[Encoded]:
    if isinstance(examples[0], TaggedExample):
        given: list[Any] = [[list(one.words) for one in examples if isinstance(one, TaggedExample)]]
        options: dict[str, Any] = {"is_split_into_words": True, "truncation": True}
    else:
        texts = [one for one in examples if not isinstance(one, TaggedExample)]
        given = [[one.text for one in texts]]
        if texts[0].text_pair is not None:
            given.append([one.text_pair for one in texts])
        options = {"truncation": "longest_first"}
    for example, found in zip(examples, tokenizer(*given, max_length=max_tokens, **options).encodings, strict=True):
        ids, cut = np.array(found.ids), bool(found.overflowing)
        if isinstance(example, TaggedExample):
            numbers = [-1 if word is None else word for word in found.word_ids]
            words, picked = np.unique(numbers, return_index=True)
            there = words >= 0
            yield Encoded(ids, picked[there], words[there], cut)
        else:
            yield Encoded(ids, np.zeros(1, np.int64), None, cut)


def training_row(example: Example, encoded: Encoded, labels: Sequence[str]) -> dict[str, Any]:
    """Return what training reads: `input_ids`, and `labels`, a number or one for each token (-100 where none).

    `labels` are the model's, in the order of their numbers.
    """
    if not isinstance(example, TaggedExample):
        return {"input_ids": encoded.ids.tolist(), "labels": labels.index(example.label)}
    tags = [IGNORED if tag is None else labels.index(tag) for tag in fitted(example.tags, labels)]
    numbers = np.full(len(encoded.ids), IGNORED)
    if encoded.words is not None:
        numbers[encoded.picked] = np.array(tags)[encoded.words]
    return {"input_ids": encoded.ids.tolist(), "labels": numbers.tolist()}
