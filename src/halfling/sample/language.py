"""Read a language's names, words and templates from its file in `data/`; `data/en.toml` explains the form."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from halfling.errors import HalflingError

LANGUAGES = ("en", "ru", "hi", "tr", "sw", "ur")
"""The first one has training sentences, each has dev sentences."""

TAG_OF_LIST = {
    "man": "PER",
    "woman": "PER",
    "place": "LOC",
    "land": "LOC",
    "organisation": "ORG",
    "firm": "ORG",
}
"""Which lists hold names, and the class of each."""

_DATA = Path(__file__).parent / "data"
_HELD_OUT_EVERY = 3

Entry = Mapping[str, str]
"""One name or word: slot without its number ("place", "place_in") -> text."""

Lists = Mapping[str, tuple[Entry, ...]]
"""Slot without form and number ("place") -> what may stand there."""


@dataclass(frozen=True)
class Language:
    """All that the sample says in one language.

    Attributes:
        code: Its code in CC100.
        entries: The lists of the file; first names and surnames are apart.
        ner: Templates of tagged sentences.
        plain: Templates of text.
        nli: Templates (premise, entailment, neutral, contradiction).
    """

    code: str
    entries: Lists
    ner: tuple[str, ...]
    plain: tuple[str, ...]
    nli: tuple[tuple[str, str, str, str], ...]

    def lists(self, *, held_out: bool) -> Lists:
        """Return what each slot may take.

        With `held_out`, every third name is missing: training draws from such lists, so that dev sentences
        hold names that no training sentence held. Ordinary words are never missing.
        """

        def kept(name: str) -> tuple[Entry, ...]:
            return tuple(e for i, e in enumerate(self.entries[name], 1) if not held_out or i % _HELD_OUT_EVERY)

        def people(name: str) -> tuple[Entry, ...]:
            return tuple(
                {name: f"{first[name]} {last.get(f'surname_{name}', last['surname'])}", f"{name}_first": first[name]}
                for first, last in product(kept(name), kept("surname"))
            )

        names = {name: kept(name) for name in TAG_OF_LIST}
        return {**self.entries, **names, "man": people("man"), "woman": people("woman")}


def read_language(code: str, folder: Path = _DATA) -> Language:
    """Return the language of `folder`/`code`.toml.

    Raises:
        HalflingError: An item has more or fewer forms than its list, or a schema has not four lines.
    """
    path = folder / f"{code}.toml"
    file = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = {}
    for key, text in {**file["names"], **file["words"]}.items():
        forms = key.split("/")
        items = [item.strip().split("/") for item in text.replace("\n", " ").split(",")]
        for item in items:
            if len(item) != len(forms):
                raise HalflingError(
                    f"{path}: {'/'.join(item)!r} has {len(item)} forms: give {len(forms)}, as in {key!r}"
                )
        entries[forms[0]] = tuple(dict(zip(forms, item, strict=True)) for item in items)
    ner, plain = (tuple(file["sentences"][kind].splitlines()) for kind in ("ner", "plain"))
    nli = []
    for schema in file["sentences"]["nli"].strip().split("\n\n"):
        lines = schema.split("\n")
        if len(lines) != 4:
            raise HalflingError(f"{path}: the schema of {lines[0]!r} has {len(lines)} lines: give 4")
        nli.append((lines[0], lines[1], lines[2], lines[3]))
    return Language(code, entries, ner, plain, tuple(nli))
