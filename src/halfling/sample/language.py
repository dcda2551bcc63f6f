"""The form in which each language's module holds its names, words and templates.

A template is a plain sentence with slots in braces. `{place}` takes a name from the list `place`; `{place2}`
takes another one; `{place_in}` takes the form of `{place}` that the list calls "in", so that a language that
inflects can say what it needs ("Казань", "в Казани"). The slots of one binding agree: a hypothesis that says
`{place}` speaks of its premise's place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Entry = Mapping[str, str]
"""One name or word: form -> text; the dictionary form stands under the empty string."""


@dataclass(frozen=True)
class Names:
    """First names and surnames that go together: the slots `{man}` and `{man_first}`, or of `{woman}`."""

    first: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True)
class Nli:
    """A premise and one hypothesis a label."""

    premise: str
    entailment: str
    neutral: str
    contradiction: str


@dataclass(frozen=True, kw_only=True)
class Language:
    """All that the sample says in one language."""

    code: str
    men: Names
    women: Names
    places: tuple[Entry, ...]
    lands: tuple[Entry, ...]
    organisations: tuple[Entry, ...]
    firms: tuple[Entry, ...]
    words: Mapping[str, tuple[Entry, ...]]
    ner: tuple[str, ...]
    plain: tuple[str, ...]
    nli: tuple[Nli, ...]


def listed(text: str) -> tuple[str, ...]:
    """Return the comma-separated items of `text`; it may run over several lines."""
    return tuple(" ".join(item.split()) for item in text.split(",") if item.strip())


def entries(text: str, *forms: str) -> tuple[Entry, ...]:
    """Return the entries of a list like "Рим/Риме, Прага/Праге", whose further forms are named `forms`.

    Raises:
        ValueError: An entry has more or fewer forms than the list's head.
    """
    found = []
    for item in listed(text):
        parts = [part.strip() for part in item.split("/")]
        if len(parts) != len(forms) + 1:
            raise ValueError(f"{item!r}: expected {len(forms) + 1} forms, found {len(parts)}")
        found.append(dict(zip(("", *forms), parts, strict=True)))
    return tuple(found)


def sentences(text: str) -> tuple[str, ...]:
    """Return the templates of `text`, one a line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def schemas(text: str) -> tuple[Nli, ...]:
    """Return the schemas of `text`: the four fields of `Nli` a line each, then a blank line.

    Raises:
        ValueError: A schema has not four lines.
    """
    found = []
    for block in text.strip().split("\n\n"):
        rows = sentences(block)
        if len(rows) != 4:
            raise ValueError(f"{rows[0]!r}: expected 4 lines, found {len(rows)}")
        found.append(Nli(*rows))
    return tuple(found)
