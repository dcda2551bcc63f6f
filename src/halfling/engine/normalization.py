"""SentencePiece's table of normalisation, applied as `tokenizers` applies it, and so transformers.

SentencePiece replaces the longest match at each place. `tokenizers` looks at one grapheme at a time: one below six
bytes is replaced as a whole by what its shortest match says, a longer one character by character. So a letter and two
marks of Vietnamese, or a Korean syllable in parts, stay apart there, and a model learned them so.
"""

import re
from collections.abc import Set
from functools import lru_cache
from pathlib import Path

from halfling.errors import HalflingError
from halfling.tokens.graphemes import JOINS_AFTER, kinds

_WHOLE_BELOW = 6
"""Bytes of a grapheme that is looked up as a whole."""

_SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
"""Unicode's White_Space, at which `tokenizers` parts words; Python's own counts four controls more."""


class Normalizer:
    """Text as the pieces are looked for in it: normalised, words a single space apart."""

    def __init__(self, path: Path) -> None:
        """Take a SentencePiece model that holds a table and nothing else.

        Raises:
            HalflingError: The file is damaged.
        """
        import sentencepiece

        try:
            self._table = sentencepiece.SentencePieceNormalizer(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise HalflingError(f"{path}: no table of normalisation ({error}): export the model again") from error
        self._single = _Characters(self._table)
        self._cluster = lru_cache(maxsize=2**16)(self._replaced)
        ascii_ = "".join(map(chr, range(0x20, 0x7F)))
        self._ascii_stays = ascii_.translate(self._single) == ascii_

    def __call__(self, text: str) -> str:
        """Return the normalised text."""
        if self._ascii_stays and text.isascii() and text.isprintable():
            return text
        parts: list[str] = []
        end = 0
        for cluster in _clusters().finditer(text):
            parts += text[end : cluster.start()].translate(self._single), self._cluster(cluster[0])
            end = cluster.end()
        return _SPACE.sub(" ", "".join(parts) + text[end:].translate(self._single))

    def _replaced(self, cluster: str) -> str:
        """Return what a grapheme of several characters becomes."""
        if len(cluster.encode()) < _WHOLE_BELOW:
            for end in range(1, len(cluster) + 1):
                whole = self._table.normalize(cluster[:end])
                rest = self._table.normalize(cluster[1:end])
                # Of no shorter beginning is there an entry, so a change of more than the rest is one of this.
                if whole != (cluster[0] + rest if end > 1 else cluster[0]):
                    return whole
        return cluster.translate(self._single)


class _Characters(dict[int, str]):
    """What single characters become, asked for when one is met."""

    def __init__(self, table: object) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, code: int) -> str:
        self[code] = found = self._table.normalize(chr(code))  # type: ignore[attr-defined]
        return found


@lru_cache(maxsize=1)
def _clusters() -> re.Pattern[str]:
    """Return a pattern of what may be a grapheme of several characters and yet below six bytes.

    Syllables in parts and pairs of flags are longer, so they need no pattern: their characters are looked up alone.
    """
    after, controls = kinds()
    joins, base = _any_of(after), _any_of(after | controls | JOINS_AFTER)
    return re.compile(f"[{_any_of(JOINS_AFTER)}]*(?:[^{base}][{joins}]+|[{joins}]{{2,}})")


def _any_of(codes: Set[int]) -> str:
    """Return a character class's inside, runs as ranges."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in runs)
