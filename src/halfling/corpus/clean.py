"""Mending and dropping documents; every drop has a reason and a count."""

import hashlib
import re
import unicodedata
from collections import Counter

_SPACES = re.compile("[\t\v\f\x1c-\x1f\x85\u2028\u2029]")
# Controls carry no text. Joiners (U+200C, U+200D) are not among them: Persian and Hindi are misspelt without.
_CONTROLS = re.compile("[\x00-\x08\r\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")


def mend(text: str) -> str:
    r"""Return `text` in normal form C, without control characters, paragraphs stripped, empty ones removed.

    Separators other than "\n" (tabs, U+2028 ...) become spaces, so that words stay apart.
    """
    text = _CONTROLS.sub("", _SPACES.sub(" ", unicodedata.normalize("NFC", text)))
    return "\n".join(paragraph for line in text.split("\n") if (paragraph := line.strip()))


def digest64(text: str) -> int:
    """Return the 64-bit BLAKE2b digest by which documents are compared, ordered and named."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Cleaner:
    """Cleans the documents of one language, one after the other.

    Attributes:
        dropped: reason -> number of documents. Reasons: "no_text" (nothing left once mended), "too_short",
            "too_long", "duplicate" (the same text, once mended, came before).
    """

    def __init__(self, min_characters: int, max_characters: int) -> None:
        """Keep documents of `min_characters` to `max_characters`, both included."""
        self.dropped: Counter[str] = Counter()
        self._min = min_characters
        self._max = max_characters
        self._seen: set[int] = set()

    def clean(self, text: str) -> tuple[str, int] | None:
        """Return the mended text and its `digest64`, or None when the document is dropped."""
        text = mend(text)
        digest = digest64(text)
        reason = self._reason(text, digest)
        if reason:
            self.dropped[reason] += 1
            return None
        self._seen.add(digest)
        return text, digest

    def _reason(self, text: str, digest: int) -> str | None:
        if not text:
            return "no_text"
        if len(text) < self._min:
            return "too_short"
        if len(text) > self._max:
            return "too_long"
        return "duplicate" if digest in self._seen else None
