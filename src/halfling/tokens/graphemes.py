"""What belongs to one grapheme, as far as normalising asks: Unicode's Grapheme_Cluster_Break (UAX 29)."""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

JOINS_BEFORE = {0x0E33, 0x0EB3, 0x200C, 0x200D, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)}
"""What joins the character before it without being a mark (Extend, SpacingMark)."""

JOINS_AFTER = {*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x0D4E, 0x110BD, 0x110CD}
JOINS_AFTER |= {0x111C2, 0x111C3, 0x113D1, 0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02}
"""What joins the character after it (Prepend)."""

STANDS_ALONE = {0x102B, 0x102C, 0x1038, *range(0x1062, 0x1065), *range(0x1067, 0x106E), 0x1083, *range(0x1087, 0x108D)}
STANDS_ALONE |= {0x108F, *range(0x109A, 0x109D), 0x1A61, 0x1A63, 0x1A64, 0xAA7B, 0xAA7D, 0x11720, 0x11721}
"""Marks that take a place of their own and join nothing."""


class Kinds(NamedTuple):
    """Characters by what they are to graphemes.

    Attributes:
        joins: What joins the character before it.
        controls: What stands alone, and nothing joins it.
    """

    joins: frozenset[int]
    controls: frozenset[int]


@lru_cache(maxsize=1)
def kinds() -> Kinds:
    """Return them; what joins the character after it is `JOINS_AFTER`, and every other character is joined by marks."""
    of = {code: unicodedata.category(chr(code)) for code in (*range(0x20000), *range(0xE0000, 0xE0200))}
    joins = {code for code, kind in of.items() if kind[0] == "M"} - STANDS_ALONE | JOINS_BEFORE
    controls = {code for code, kind in of.items() if kind in ("Cc", "Cf", "Zl", "Zp")} - joins - JOINS_AFTER
    return Kinds(frozenset(joins), frozenset(controls))
