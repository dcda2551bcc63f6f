"""Fill templates: draw what the slots say, then write the sentence as text or as tagged tokens."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import TypeVar

from halfling.sample.language import Entry, Language, Names

TAG_OF_LIST = {
    "man": "PER",
    "woman": "PER",
    "place": "LOC",
    "land": "LOC",
    "organisation": "ORG",
    "firm": "ORG",
}
"""Which lists hold names, and the WikiANN class of each."""

Lists = Mapping[str, Sequence[Entry]]
Binding = Mapping[str, Entry]
"""Slot without its form ("place", "place2") -> what stands there."""

_SLOT = re.compile(r"\{([a-z]+)(?:_([a-z]+))?(\d?)\}")
_PUNCTUATION = re.escape('.,;:!?()"«»“”—।،۔؟')
_TOKEN = re.compile(rf"{_SLOT.pattern}|[{_PUNCTUATION}]|[^\s{_PUNCTUATION}]+")
_HELD_OUT_EVERY = 3
_Item = TypeVar("_Item")


def lists_of(language: Language, *, held_out: bool) -> Lists:
    """Return the language's lists by slot name.

    With `held_out`, every third name is left out: training draws from such lists, so that dev sentences
    hold names that no training sentence held. Ordinary words are never left out.
    """

    def kept(items: Sequence[_Item]) -> tuple[_Item, ...]:
        return tuple(item for i, item in enumerate(items, 1) if not held_out or i % _HELD_OUT_EVERY)

    def people(names: Names) -> tuple[Entry, ...]:
        pairs = product(kept(names.first), kept(names.last))
        return tuple({"": f"{first} {last}", "first": first} for first, last in pairs)

    return {
        **language.words,
        "man": people(language.men),
        "woman": people(language.women),
        "place": kept(language.places),
        "land": kept(language.lands),
        "organisation": kept(language.organisations),
        "firm": kept(language.firms),
    }


def bind(
    templates: Sequence[str], lists: Lists, draw: Random, given: Mapping[str, Entry] | None = None
) -> dict[str, Entry]:
    """Return something for each slot of `templates`; slots of one list never share a form.

    `given` says what stands in some slots already.
    """
    bound = dict(given or {})
    for name, _, number in (slot for text in templates for slot in _SLOT.findall(text)):
        while name + number not in bound:
            entry = draw.choice(lists[name])
            rivals = (bound[slot] for slot in bound if slot.rstrip("0123456789") == name)
            if not any(set(entry.values()) & set(rival.values()) for rival in rivals):
                bound[name + number] = entry
    return bound


def fill(template: str, bound: Binding) -> str:
    """Return the sentence as its language writes it."""
    return _SLOT.sub(lambda slot: bound[slot[1] + slot[3]][slot[2] or ""], template)


def tag(template: str, bound: Binding) -> list[tuple[str, str]]:
    """Return the sentence's tokens with their IOB2 tags, punctuation apart as in WikiANN."""
    tagged = []
    for piece in _TOKEN.finditer(template):
        kind = TAG_OF_LIST.get(piece[1] or "")
        words = [word[0] for word in _TOKEN.finditer(fill(piece[0], bound))]
        if kind is None:
            tagged += [(word, "O") for word in words]
        else:
            tagged += [(word, f"{'I' if i else 'B'}-{kind}") for i, word in enumerate(words)]
    return tagged
