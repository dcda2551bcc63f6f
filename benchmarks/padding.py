"""How a runtime that pads is fed: text to ids, ids to a rectangle, logits to labels and spans.

Imports neither torch nor transformers: benchmarks/resident.py measures processes without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from halfling.tasks.encoded import Encoded
from halfling.tasks.tags import is_prefixed, spans

PAD = 1  # XLM-R's
Padded = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Ids and attention mask, both [batch, tokens], to logits, [batch, classes] or [batch, tokens, classes]."""
Text = Any
"""What `AdaptiveEngine.predict` takes: a list of words, a text, or a pair of texts."""


@dataclass(frozen=True)
class Setting:
    """How batches are padded: at most `group` sequences of like length, to a multiple of `multiple`."""

    group: int = 32
    multiple: int = 1
    way: str = ""

    def __str__(self) -> str:
        """Return it in a few words."""
        parts = (self.way, f"groups of {self.group}", f"multiples of {self.multiple}" if self.multiple > 1 else "")
        return ", ".join(filter(None, parts if self.group > 1 else parts[::2]))


class Rival:
    """A runtime in one setting: sequences in, the logits of their picked tokens out."""

    def __init__(self, padded: Padded, setting: Setting = Setting()) -> None:
        self.padded, self.setting = padded, setting

    def __call__(self, sequences: Sequence[Encoded]) -> list[np.ndarray]:
        """Return the logits of each sequence's picked tokens, [picked, classes]."""
        order = sorted(range(len(sequences)), key=lambda n: len(sequences[n].ids))
        answers: dict[int, np.ndarray] = {}
        for start in range(0, len(order), self.setting.group):
            group = order[start : start + self.setting.group]
            longest = max(len(sequences[n].ids) for n in group)
            tokens = -(-longest // self.setting.multiple) * self.setting.multiple
            ids = np.full((len(group), tokens), PAD, np.int64)
            for row, number in enumerate(group):
                ids[row, : len(sequences[number].ids)] = sequences[number].ids
            logits = self.padded(ids, (ids != PAD).astype(np.int64))
            for row, number in enumerate(group):
                picked = sequences[number].picked
                # A copy either way: a runtime's next call may compute into the same array.
                answers[number] = logits[row, picked] if logits.ndim == 3 else logits[[row]]
        return [answers[number] for number in range(len(sequences))]


def fastest(rivals: Sequence[Rival], batches: Sequence[Sequence[Encoded]]) -> Rival:
    """Return the rival that is fastest on these batches, the third of three goes."""

    def seconds(rival: Rival) -> float:
        for _ in range(3):
            start = time.perf_counter()
            for batch in batches:
                rival(batch)
            took = time.perf_counter() - start
        return took

    return min(rivals, key=seconds)


class Reader:
    """Text to ids and logits to answers, by the library `tokenizers`."""

    def __init__(self, folder: Path, labels: Sequence[str], max_tokens: int) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self.tokenizer.no_padding()
        self.labels, self.prefixed = tuple(labels), is_prefixed(labels)

    def encode(self, texts: Sequence[Text]) -> list[Encoded]:
        """Return texts as ids, with the first piece of each word picked."""
        words = isinstance(texts[0], list)
        found = self.tokenizer.encode_batch(list(texts), is_pretokenized=words)
        if not words:
            return [Encoded(np.array(one.ids), np.zeros(1, np.int64)) for one in found]
        return [_picked(one) for one in found]

    def answers(self, texts: Sequence[Text], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]) -> list[Any]:
        """Return a label for each text, or tags for each list of words; their spans are made and dropped."""
        best = [[self.labels[number] for number in one.argmax(axis=-1)] for one in logits]
        if not isinstance(texts[0], list):
            return [one for (one,) in best]
        found = []
        for words, one, tags in zip(texts, encoded, best, strict=True):
            in_full = ["O"] * len(words)
            for word, tag in zip(one.words.tolist(), tags, strict=True):  # type: ignore[union-attr]
                in_full[word] = tag
            list(spans(in_full, prefixed=self.prefixed))
            found.append(in_full)
        return found

    def through(self, rival: Rival) -> Callable[[Sequence[Text]], list[Any]]:
        """Return a function from texts to answers."""

        def answer(texts: Sequence[Text]) -> list[Any]:
            encoded = self.encode(texts)
            return self.answers(texts, encoded, rival(encoded))

        return answer


def _picked(found: Any) -> Encoded:
    numbers = [-1 if word is None else word for word in found.word_ids]
    words, places = np.unique(numbers, return_index=True)
    there = words >= 0
    return Encoded(np.array(found.ids), places[there], words[there])
