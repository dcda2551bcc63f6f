"""Fill templates: draw what the slots say, then write the sentence as text or as tagged tokens."""

import re
from collections.abc import Mapping, Sequence
from random import Random

from halfling.sample.language import TAG_OF_LIST, Entry, Lists

Binding = Mapping[str, Entry]
"""Slot without its form ("place", "place2") -> what stands there."""

# {place_in2}: entry "place_in", list "place", number "2".
_SLOT = re.compile(r"\{(([a-z]+)(?:_[a-z]+)?)(\d?)\}")
_PUNCTUATION = re.escape('.,;:!?()"«»“”—।،۔؟')
_TOKEN = re.compile(rf"{_SLOT.pattern}|[{_PUNCTUATION}]|[^\s{_PUNCTUATION}]+")


def bind(templates: Sequence[str], lists: Lists, draw: Random, given: Binding | None = None) -> dict[str, Entry]:
    """Return something for each slot of `templates`; slots of one list never share a form.

    `given` says what stands in some slots already.
    """
    bound = dict(given or {})
    for _, name, number in (slot for text in templates for slot in _SLOT.findall(text)):
        while name + number not in bound:
            entry = draw.choice(lists[name])
            rivals = (bound[slot] for slot in bound if slot.rstrip("0123456789") == name)
            if not any(set(entry.values()) & set(rival.values()) for rival in rivals):
                bound[name + number] = entry
    return bound


def fill(template: str, bound: Binding) -> str:
    """Return the sentence as its language writes it."""
    return _SLOT.sub(lambda slot: bound[slot[2] + slot[3]][slot[1]], template)


def tag(template: str, bound: Binding) -> list[tuple[str, str]]:
    """Return the sentence's tokens with their IOB2 tags, punctuation apart."""
    tagged = []
    for piece in _TOKEN.finditer(template):
        kind = TAG_OF_LIST.get(piece[2] or "")
        words = [word[0] for word in _TOKEN.finditer(fill(piece[0], bound))]
        if kind is None:
            tagged += [(word, "O") for word in words]
        else:
            tagged += [(word, f"{'I' if i else 'B'}-{kind}") for i, word in enumerate(words)]
    return tagged
