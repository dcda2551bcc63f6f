"""Mending and dropping documents; every drop has a reason and a count."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt32
from pydantic import Field, model_validator

from halfling.bounds import Amount, Count
from halfling.corpus.digests import digest64, line_digest
from halfling.corpus.filters.repetition import is_repetition, without_repeated_lines
from halfling.corpus.filters.scripts import (
    COMPOSES,
    CONTROL,
    EXPECTED,
    FIRST,
    LATER,
    LETTER,
    SPACE,
    SYMBOL,
    ZAWGYI,
    flags_of,
    zawgyi_signs,
)
from halfling.corpus.filters.unicode import mend
from halfling.records import Settings


class CleanSettings(Settings):
    """What a document must be like to stay. Shares are 0..1."""

    min_characters: Count = Field(16, ge=1, description="shorter documents are dropped")
    max_characters: Count = Field(1_000_000, ge=1, description="longer documents are dropped")
    min_script_share: float = Field(
        0.5, ge=0, le=1, description="of a document's letters, in its language's scripts; 0 asks nothing"
    )
    max_symbol_share: float = Field(
        0.5, ge=0, le=1, description="of its characters but spaces may be digits, signs and punctuation"
    )
    min_compressed_share: float = Field(
        0.1, ge=0, le=1, description="bytes after LZ4 / before; less is repetition; 0 asks nothing"
    )
    once_bytes: Amount = Field(
        48, ge=1, description="a line this long stays only once in its language; shorter ones may repeat"
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "CleanSettings":
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} exceeds max_characters {self.max_characters}")
        return self


class Kept(NamedTuple):
    """A document that stays, mended."""

    text: bytes  # UTF-8
    digest: int  # `digest64`
    lines: list[int]  # digests of its long lines, all different
    line_sizes: list[int]  # their bytes
    repeated: int  # long lines that stood in it before, and were taken out
    changes: tuple[str, ...] = ()  # what mending did, as `unicode.Mended` names it


_MAX_ZAWGYI_SHARE = 0.01
"""Of a Burmese text's characters: hardly any in Unicode, one in ten in Zawgyi."""


class _Measured(NamedTuple):
    """What a batch's characters say of each document."""

    broken: Bool[np.ndarray, " documents"]  # needs mending, leaving its normal form aside
    composes: Bool[np.ndarray, " documents"]  # may not be in normal form
    script_share: Float64[np.ndarray, " documents"]
    symbol_share: Float64[np.ndarray, " documents"]
    zawgyi_share: Float64[np.ndarray, " documents"]


class Cleaner:
    """Cleans documents of one language. It remembers nothing from one call to the next."""

    def __init__(self, settings: CleanSettings, scripts: tuple[str, ...]) -> None:
        """Keep what fits `settings` and is written in one of `scripts` (ISO 15924, or `scripts.ZAWGYI`)."""
        self._settings = settings
        self._flags = flags_of(scripts)
        self._zawgyi = ZAWGYI in scripts
        self._burmese = self._zawgyi or "Mymr" in scripts

    def clean(self, texts: Sequence[str]) -> list[Kept | str]:
        """Return each document that stays, and for each other one the reason why it goes.

        Reasons: "no_text" (nothing left once mended), "too_short", "too_long", "script" (too few letters of the
        expected scripts, or Burmese in the wrong encoding), "symbols", "repetition".
        """
        if not texts:
            return []
        mended = list(texts)
        measured = self._measure(texts)
        reasons = self._reasons(texts, measured)
        broken = measured.broken
        for place in np.flatnonzero(measured.composes & ~broken).tolist():
            broken[place] = not unicodedata.is_normalized("NFC", texts[place])
        changes: dict[int, tuple[str, ...]] = {}
        if broken.any():
            places = np.flatnonzero(broken).tolist()
            again = []
            for place in places:
                mended[place], changes[place] = mend(texts[place])
                again.append(mended[place])
            for place, reason in zip(places, self._reasons(again, self._measure(again)), strict=True):
                reasons[place] = reason
        return [
            reason or self._keep(text, changes.get(place, ()))
            for place, (text, reason) in enumerate(zip(mended, reasons, strict=True))
        ]

    def _keep(self, mended: str, changes: tuple[str, ...]) -> Kept | str:
        content = mended.encode()
        if is_repetition(content, self._settings.min_compressed_share):
            return "repetition"
        content, lines, repeated = without_repeated_lines(content, self._settings.once_bytes)
        return Kept(content, digest64(content), list(map(line_digest, lines)), list(map(len, lines)), repeated, changes)

    def _measure(self, texts: Sequence[str]) -> _Measured:
        """Look every character up once, for all documents together."""
        joined = "\n".join(["", *texts, ""])
        codes: UInt32[np.ndarray, " characters"] = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        flags: UInt8[np.ndarray, " characters"] = np.take(self._flags, codes, mode="clip")
        ends: Int64[np.ndarray, " documents"] = np.cumsum([len(text) + 1 for text in texts]) + 1
        starts = np.concatenate([[1], ends[:-1]])

        def count(where: Bool[np.ndarray, " characters"]) -> Int64[np.ndarray, " documents"]:
            return np.add.reduceat(where.view(np.uint8), starts, dtype=np.uint32).astype(np.int64)

        breaks, spaces = codes == ord("\n"), (flags & SPACE) != 0
        damaged = (flags & CONTROL) != 0
        damaged[1:] |= (breaks[:-1] & spaces[1:]) | (spaces[:-1] & breaks[1:])
        damaged[1:] |= ((flags[:-1] & FIRST) != 0) & ((flags[1:] & LATER) != 0)
        broken = np.zeros(len(texts), dtype=bool)
        broken[np.clip(np.searchsorted(starts, np.flatnonzero(damaged), side="right") - 1, 0, None)] = True
        letters, symbols = count((flags & LETTER) != 0), count((flags & SYMBOL) != 0)
        solid = np.maximum(letters + symbols, 1)
        zawgyi = count(zawgyi_signs(codes)) if self._burmese else np.zeros_like(letters)
        return _Measured(
            broken,
            np.logical_or.reduceat(flags >= COMPOSES, starts),
            count((flags & EXPECTED) != 0) / np.maximum(letters, 1),
            symbols / solid,
            zawgyi / solid,
        )

    def _reasons(self, texts: Sequence[str], measured: _Measured) -> list[str | None]:
        """Return why each document goes, None where it stays so far; the first reason that holds counts."""
        settings = self._settings
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        wrong_script = measured.script_share < settings.min_script_share
        if self._burmese:
            wrong_script |= (measured.zawgyi_share > _MAX_ZAWGYI_SHARE) != self._zawgyi
        reasons: list[str | None] = [None] * len(texts)
        for reason, where in (
            ("script", wrong_script),
            ("symbols", measured.symbol_share > settings.max_symbol_share),
            ("too_long", lengths > settings.max_characters),
            ("too_short", lengths < settings.min_characters),
            ("no_text", lengths == 0),
        ):
            for place in np.flatnonzero(where).tolist():
                reasons[place] = reason
        return reasons
