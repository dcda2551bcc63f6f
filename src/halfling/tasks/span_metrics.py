"""Scores of tagged names: a name counts when its type, its start and its end are right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from halfling.tasks.label_metrics import Score
from halfling.tasks.wikiann import LABELS


@dataclass(frozen=True)
class SpanScore:
    """Micro-averaged over all names of all sentences, each 0..1; 0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float


def spans(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (type, first token, last token) of each name in a sentence tagged in IOB2.

    Lenient, as CoNLL's script and seqeval's default mode are: an I- that follows O, or a name of another
    type, starts a name as B- would.
    """
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, tag_kind = tag.partition("-")
        if kind and (prefix != "I" or tag_kind != kind):
            yield kind, start, position - 1
            kind = ""
        if prefix != "O" and not kind:
            start, kind = position, tag_kind


def span_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> SpanScore:
    """Return precision, recall and F1 of names, as seqeval 1.2.2 gives them in its default mode.

    That is the score that XTREME reports (https://github.com/chakki-works/seqeval).

    Args:
        gold: The right tags ("O", "B-PER", ...) of each sentence.
        predicted: A model's tags, for the same tokens.

    Raises:
        ValueError: The two differ in length, in all or in a sentence.
    """
    _check_lengths(gold, predicted)
    right = found = wanted = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        tally = _tally(gold_tags, predicted_tags)
        right, found, wanted = right + tally[0], found + tally[1], wanted + tally[2]
    return SpanScore(
        precision=right / found if found else 0.0,
        recall=right / wanted if wanted else 0.0,
        f1=2 * right / (found + wanted) if found + wanted else 0.0,
    )


def tally_spans(gold: Sequence[int], predicted: Sequence[int]) -> tuple[int, int, int]:
    """Return how many names of one sentence's numbered tags are right, found and wanted."""
    return _tally(_names(gold), _names(predicted))


def score_tags(gold: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]]) -> Score:
    """Return accuracy over all tokens, and span F1, of numbered WikiANN tags.

    Raises:
        ValueError: The two differ in length, in all or in a sentence, or hold no token.
    """
    _check_lengths(gold, predicted)
    num_tokens = sum(map(len, gold))
    if not num_tokens:
        raise ValueError("expected at least one token, came none")
    right = sum(g == p for x, y in zip(gold, predicted, strict=True) for g, p in zip(x, y, strict=True))
    f1 = span_f1([_names(tags) for tags in gold], [_names(tags) for tags in predicted]).f1
    return Score(accuracy=right / num_tokens, f1=f1)


def _tally(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    gold_spans, predicted_spans = set(spans(gold)), set(spans(predicted))
    return len(gold_spans & predicted_spans), len(predicted_spans), len(gold_spans)


def _names(tags: Sequence[int]) -> list[str]:
    return [LABELS[tag] for tag in tags]


def _check_lengths(gold: Sequence[Sequence[object]], predicted: Sequence[Sequence[object]]) -> None:
    lengths, came = [len(tags) for tags in gold], [len(tags) for tags in predicted]
    if lengths != came:
        first = next((n for n, (x, y) in enumerate(zip(lengths, came, strict=False)) if x != y), "end")
        raise ValueError(
            f"expected a tag for each token of {len(gold)} sentences, came {len(predicted)} sentences "
            f"that differ from sentence {first} on"
        )
