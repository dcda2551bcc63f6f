"""Tags of words: the schemes they are written in, and the spans they mean."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

OUTSIDE = "O"

Scheme = Literal["IOB1", "IOB2", "IOBES", "BILOU", "types", "tags"]
"""`types`: O and bare types (PER PER O). `tags`: no O, every word has a tag of its own, as parts of speech."""

_PREFIXES = frozenset("BIESLUM")
_BEGINS, _ENDS = frozenset("BSU"), frozenset("ESLU")


class Span(NamedTuple):
    """A typed stretch of words, the last one included."""

    type: str
    first: int
    last: int


def scheme_of(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme that sentences of tags are written in.

    Raises:
        ValueError: Some tags have a prefix and others none.
    """
    tags: set[str] = set()
    strict = loose = 0  # spans that B- begins, and that I- does
    for sentence in sentences:
        tags.update(sentence)
        before = OUTSIDE
        for tag in sentence:
            strict += tag[:2] == "B-"
            loose += tag[:2] == "I-" and before[2:] != tag[2:]
            before = tag
    named = tags - {OUTSIDE}
    bare = sorted(tag for tag in named if not _has_prefix(tag))
    if len(bare) == len(named):
        return "types" if OUTSIDE in tags else "tags"
    if bare:
        raise ValueError(f"tag {bare[0]!r} has no prefix, {min(named - {*bare})!r} has one: write all in one scheme")
    prefixes = {tag[0] for tag in named}
    if prefixes & {"L", "U"}:
        return "BILOU"
    if prefixes & {"E", "S", "M"}:
        return "IOBES"
    # By majority: data of IOB2 hold a stray I- here and there.
    return "IOB1" if loose > strict else "IOB2"


def spans(tags: Sequence[str], *, prefixed: bool = True) -> Iterator[Span]:
    """Yield the spans of a sentence in any scheme of prefixes, or with `prefixed` False of bare types.

    Lenient, as CoNLL's script and seqeval's default mode are: an I- that follows O, or a span of another type,
    begins a span as B- would.
    """
    open_type, first = "", 0
    for place, tag in enumerate((*tags, OUTSIDE)):
        prefix, kind = _parts(tag, prefixed)
        if open_type and (kind != open_type or prefix in _BEGINS):
            yield Span(open_type, first, place - 1)
            open_type = ""
        if kind and not open_type:
            open_type, first = kind, place
        if open_type and prefix in _ENDS:
            yield Span(open_type, first, place)
            open_type = ""


def as_iob2(tags: Sequence[str], *, prefixed: bool = True) -> list[str]:
    """Return a sentence's tags in IOB2."""
    found = [OUTSIDE] * len(tags)
    for span in spans(tags, prefixed=prefixed):
        found[span.first : span.last + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.last - span.first)
    return found


def fitted(tags: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Return a sentence's IOB2 tags as a model with these labels writes them; None where it has no word for one.

    A model of bare types knows no prefix, one of IOB1 may know no B- of some types: there B- only parts neighbours.
    """
    known = {*labels}
    if not is_prefixed(labels):
        bare = [tag if tag in known else tag[2:] for tag in tags]
        return [tag if tag in known else None for tag in bare]
    iob1 = any(f"B-{kind}" not in known for kind in types_of(labels) if f"I-{kind}" in known)
    if not iob1 and {*tags} <= known and not any(_has_prefix(label) and label[0] in "ESLUM" for label in labels):
        return [*tags]
    found: list[str | None] = [tag if tag in known else None for tag in tags]
    before: Span | None = None
    for span in spans(tags):
        joined = before is not None and (before.type, before.last + 1) == (span.type, span.first)
        for place in range(span.first, span.last + 1):
            begins, ends = place == span.first, place == span.last
            if begins:
                wished = "IB" if iob1 and not joined else "SUBI" if ends else "BI"
            else:
                wished = "ELIB" if ends else "IMB"
            names = (f"{prefix}-{span.type}" for prefix in wished)
            found[place] = next((name for name in names if name in known), None)
        before = span
    return found


def is_prefixed(labels: Sequence[str]) -> bool:
    """Return whether labels have prefixes, as B-PER has. Some models know one more, as X, which is none of a span."""
    return any(map(_has_prefix, labels))


def types_of(labels: Sequence[str]) -> set[str]:
    """Return the types that labels speak of, without prefixes and O."""
    prefixed = is_prefixed(labels)
    return {_parts(label, prefixed)[1] for label in labels} - {""}


def _has_prefix(tag: str) -> bool:
    return tag[1:2] == "-" and tag[0] in _PREFIXES


@lru_cache(maxsize=1024)
def _parts(tag: str, prefixed: bool) -> tuple[str, str]:
    """Return a tag's prefix and type, both empty for O, and for what has no prefix where others do."""
    if tag == OUTSIDE or (prefixed and not _has_prefix(tag)):
        return "", ""
    return (tag[:1], tag[2:]) if prefixed else ("I", tag)
