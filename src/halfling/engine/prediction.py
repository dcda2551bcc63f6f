"""What the engine answers, and how tags become spans."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from halfling.tasks.tags import Scheme, spans


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
        label: Of a classifier, the likeliest class; None where there is no text.
        scores: Of a classifier, each class's probability.
        spans: Of a tagger, the entities; a span's score is the mean probability of its words' tags.
        tags: Of a tagger, a tag for each word, in the scheme that the model learned; None where a model without O sees
            nothing of a word.
        exit_layer: The layer (1-based) after which the answer was taken; of a long text, the deepest of its windows;
            0 where there was nothing to compute.
        uncertainty: 0..1 at that exit; of a long text, the largest.
        truncated: Whether a classifier's text was longer than the model reads, and cut.
        policy: The language whose exits and thresholds held; None: the default's.
        computed: Of each sequence that was computed for it, its tokens and the layer after which it exited, or each
            of its tokens did; a tagger reads a long text as several.
    """

    label: str | None
    scores: dict[str, float] | None
    spans: tuple[Span, ...] | None
    tags: tuple[str | None, ...] | None
    exit_layer: int
    uncertainty: float
    truncated: bool
    computed: tuple[tuple[int, int | tuple[int, ...]], ...] = ()
    policy: str | None = None


def spans_of(
    text: str | Sequence[str],
    places: Sequence[tuple[int, int]],
    tags: Sequence[str],
    sure: Sequence[float],
    scheme: Scheme,
) -> tuple[Span, ...]:
    """Return the entities of a sentence, by seqeval's default rules: an I- that follows nothing of its kind begins one.

    Each word has a place in the text (or list of words), a tag and that tag's probability. `scheme` is that of the
    model's labels; parts of speech are no entities.
    """
    found: list[Span] = []
    for span in () if scheme == "tags" else spans(tags, prefixed=scheme != "types"):
        where = places[span.first][0], places[span.last][1]
        part = text[slice(*where)]
        score = fmean(sure[span.first : span.last + 1])
        found.append(Span(span.type, *where, part if isinstance(part, str) else " ".join(part), score))
    return tuple(found)
