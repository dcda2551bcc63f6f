"""Unicode repair: what a text meant to say, in one normal form."""

import re
import unicodedata
from typing import NamedTuple

from halfling.corpus.filters.mojibake import is_suspect, unmangled

_SPACES = re.compile("[\t\v\f\x1c-\x1f\x85\u2028\u2029]")
# Controls carry no text. Joiners (U+200C, U+200D) are not among them: Persian and Hindi are misspelt without.
# A lone surrogate is half a character, and no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\r\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")


class Mended(NamedTuple):
    """A text, repaired, and what was changed in it.

    Attributes:
        text: In normal form C, without control characters, paragraphs stripped, empty ones removed.
        changes: "mojibake", "normal_form", "controls" (taken out), "spaces" (tabs, separators and spaces at the ends
            of paragraphs, empty paragraphs), in this order.
    """

    text: str
    changes: tuple[str, ...]


def mend(text: str) -> Mended:
    r"""Return `text` repaired, and what that changed.

    Separators other than "\n" (tabs, U+2028 ...) become spaces, so that words stay apart. Mojibake ("Ã©" for "é")
    is mended line by line, where it is sure to be some (`mojibake.unmangled`). ftfy's other habits (straight quotes,
    ligatures, widths) are left out: they are the author's.
    """
    read = text
    if is_suspect(text):
        read = "\n".join(map(unmangled, text.split("\n")))
    spaced = _SPACES.sub(" ", read)
    # Controls before the normal form: two characters that one stood between may now become one.
    plain = _CONTROLS.sub("", spaced)
    composed = plain if plain.isascii() else unicodedata.normalize("NFC", plain)
    whole = "\n".join(paragraph for line in composed.split("\n") if (paragraph := line.strip()))
    changed = {
        "mojibake": read != text,
        "normal_form": composed != plain,
        "controls": plain != spaced,
        "spaces": spaced != read or whole != composed,
    }
    return Mended(whole, tuple(name for name, done in changed.items() if done))
