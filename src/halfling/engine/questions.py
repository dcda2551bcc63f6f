"""Texts made ready for the network, and its answers read as predictions: what lies before and after computing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, islice
from math import isfinite
from typing import Any

import numpy as np

from halfling.engine.answer import Answer
from halfling.engine.prediction import Prediction, spans_of
from halfling.engine.text import Pieces, join, require_characters, split_words, windows
from halfling.errors import HalflingError
from halfling.tasks.encoded import Encoded
from halfling.tasks.tags import OUTSIDE, Scheme, is_prefixed

_FIRST = np.zeros(1, np.int32)
"""The place whose answer a classifier wants."""


@dataclass(frozen=True, slots=True)
class Question:
    """A text made ready.

    Attributes:
        text: The text, pair or list of words.
        sequences: What the network is asked: nothing where there is nothing to compute, of a tagger's long text
            several.
        truncated: Whether a classifier's text was longer than the model reads, and cut.
        places: Of a tagger, where each word begins and ends in the text, or in the list of words.
        seen: Of a tagger, the numbers of the words that the tokenizer made something of, in the order of the answers.
    """

    text: Any
    sequences: tuple[Encoded, ...]
    truncated: bool = False
    places: tuple[tuple[int, int], ...] = ()
    seen: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """How many tokens are computed for it, special ones included."""
        return sum(len(one.ids) for one in self.sequences)


def classifier_questions(texts: Sequence[Any], pieces: Pieces, max_tokens: int) -> list[Question]:
    """Return texts and pairs as a classifier reads them, cut to `max_tokens`.

    Raises:
        HalflingError: Something is neither.
    """
    pairs = [_parts(text, number) for number, text in enumerate(texts)]
    # Nothing is said of a text without characters.
    there = [all(part.strip() for part in pair) for pair in pairs]
    ids = iter(_cut(texts, pieces, [part for pair in compress(pairs, there) for part in pair]))
    return [
        _joined(text, next(ids), next(ids) if len(pair) == 2 else None, max_tokens) if is_there else Question(text, ())
        for text, pair, is_there in zip(texts, pairs, there, strict=True)
    ]


def read_labels(questions: Sequence[Question], answers: Sequence[Answer], labels: Sequence[str]) -> list[Prediction]:
    """Return what a classifier's answers say of each text."""
    powers, sums = _powers(answers)
    shares = powers / sums
    said = zip(answers, shares.tolist(), shares.argmax(axis=-1).tolist(), strict=True)
    found = []
    for question in questions:
        if not question.sequences:
            found.append(Prediction(None, None, None, None, 0, 0.0, False))
            continue
        answer, row, best = next(said)
        layer, scores = answer.exit_layer, dict(zip(labels, row, strict=True))
        computed = ((question.num_tokens, layer),)
        found.append(
            Prediction(labels[best], scores, None, None, layer, answer.uncertainty, question.truncated, computed)
        )
    return found


def tagger_questions(texts: Sequence[Any], pieces: Pieces, max_tokens: int) -> list[Question]:
    """Return texts and lists of words as a tagger reads them, long ones in windows.

    Raises:
        HalflingError: Something is neither.
    """
    sentences = [_words(text, number) for number, text in enumerate(texts)]
    ids = iter(_cut(texts, pieces, [word for words, _ in sentences for word in words]))
    found = []
    for text, (words, places) in zip(texts, sentences, strict=True):
        cut = [next(ids) for _ in words]
        seen = tuple(number for number, word in enumerate(cut) if word)
        found.append(Question(text, tuple(windows(cut, max_tokens)), places=tuple(places), seen=seen))
    return found


def read_words(
    questions: Sequence[Question], answers: Sequence[Answer], labels: Sequence[str]
) -> list[tuple[list[str | None], list[float]]]:
    """Return for each text the tag of each word, and that tag's probability.

    A word that the tokenizer turned into nothing stays outside; without O among the labels it has no tag.
    """
    outside = OUTSIDE if OUTSIDE in labels else None  # as parts of speech have none
    powers, sums = _powers(answers)
    # The likeliest has the largest power: 1.
    said = zip(powers.argmax(axis=-1).tolist(), (1 / sums[:, 0]).tolist(), strict=True)
    found = []
    for question in questions:
        tags, sure = [outside] * len(question.places), [1.0] * len(question.places)
        for number, (best, share) in zip(question.seen, islice(said, len(question.seen)), strict=True):
            tags[number], sure[number] = labels[best], share
        found.append((tags, sure))
    return found


def read_tags(questions: Sequence[Question], answers: Sequence[Answer], labels: Sequence[str]) -> list[Prediction]:
    """Return what a tagger's answers say: a tag for each word, and the entities."""
    scheme: Scheme = "IOB2" if is_prefixed(labels) else "types" if OUTSIDE in labels else "tags"
    left, found = iter(answers), []
    for question, (tags, sure) in zip(questions, read_words(questions, answers, labels), strict=True):
        own = list(islice(left, len(question.sequences)))
        computed = tuple(
            (len(part.ids), answer.token_layers or answer.exit_layer)
            for part, answer in zip(question.sequences, own, strict=True)
        )
        known = [tag or OUTSIDE for tag in tags]
        found.append(
            Prediction(
                None,
                None,
                spans_of(question.text, question.places, known, sure, scheme),
                tuple(tags),
                max((answer.exit_layer for answer in own), default=0),
                max((answer.uncertainty for answer in own), default=0.0),
                False,
                computed,
            )
        )
    return found


def _cut(texts: Sequence[Any], pieces: Pieces, parts: Sequence[str]) -> list[list[int]]:
    """Return the ids of parts of texts."""
    try:
        return pieces(parts)
    except UnicodeEncodeError:
        for number, text in enumerate(texts):
            for part in (text,) if isinstance(text, str) else text:
                require_characters(part, number)
        raise


def _joined(text: Any, first: list[int], second: list[int] | None, max_tokens: int) -> Question:
    ids, cut = join(first, second, max_tokens)
    return Question(text, (Encoded(np.array(ids, np.int32), _FIRST),), cut)


def _parts(text: Any, number: int) -> list[str]:
    """Return a classifier's text, or its two."""
    match text:
        case str():
            parts = [text]
        case (str(), str()):
            parts = [*text]
        case _:
            raise HalflingError(f"text {number}: expected a text or a pair of texts, got {type(text).__name__}")
    return parts


def _words(text: Any, number: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return a tagger's words and where each stands."""
    if isinstance(text, str):
        places = split_words(text)
        return [text[start:end] for start, end in places], places
    if not isinstance(text, Sequence) or isinstance(text, bytes) or not all(isinstance(word, str) for word in text):
        raise HalflingError(f"text {number}: expected a text or a list of words")
    return list(text), [(place, place + 1) for place in range(len(text))]


def _powers(answers: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """Return powers of e [picked, classes] of all answers, of which the largest is 1, and their sums [picked, 1]."""
    logits = np.concatenate([one.logits for one in answers]) if answers else np.zeros((0, 1), np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    sums: np.ndarray = powers.sum(axis=-1, keepdims=True)
    if not isfinite(sums.sum()):
        raise HalflingError("predict: the model answers with what is no number: train it again, or export another")
    return powers, sums
