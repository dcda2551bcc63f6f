"""What the engine answers, and how tags become spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """A named entity: characters `start` to `end` of the text (words, when a list of words was given)."""

    label: str
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """An answer.

    Attributes:
        label: Of a classifier, the likeliest class.
        scores: Of a classifier, each class's probability.
        spans: Of a tagger, the entities; a span's score is the mean probability of its words' tags.
        tags: Of a tagger, an IOB2 tag for each word.
        exit_layer: The layer (1-based) after which the answer was taken; of a long text, the deepest of its windows;
            0 where there was nothing to compute (a tagger's text without words).
        uncertainty: 0..1 at that exit; of a long text, the largest.
        truncated: Whether a classifier's text was longer than the model reads, and cut.
    """

    label: str | None
    scores: dict[str, float] | None
    spans: tuple[Span, ...] | None
    tags: tuple[str, ...] | None
    exit_layer: int
    uncertainty: float
    truncated: bool


def spans_of(
    text: str | Sequence[str], places: Sequence[tuple[int, int]], tags: Sequence[str], sure: Sequence[float]
) -> tuple[Span, ...]:
    """Return the entities of a sentence, by seqeval's default rules: an I- that follows nothing of its kind begins one.

    Args:
        text: The sentence, or its words.
        places: Where each word begins and ends in it.
        tags: A tag for each word; those that are not IOB2's, as of parts of speech, begin nothing.
        sure: The probability of each tag.
    """
    spans: list[Span] = []
    start: int | None = None
    for number, tag in enumerate((*tags, "O")):
        goes_on = start is not None and tag == f"I-{tags[start][2:]}"
        if start is not None and not goes_on:
            where = places[start][0], places[number - 1][1]
            score = float(np.mean(sure[start:number]))
            part = text[slice(*where)]
            spans.append(Span(tags[start][2:], *where, part if isinstance(part, str) else " ".join(part), score))
            start = None
        if tag.startswith(("B-", "I-")) and not goes_on:
            start = number
    return tuple(spans)
