"""Which characters belong to a language's script, and which are symbols, spaces or signs of damage."""

import functools
import unicodedata

import numpy as np
import regex
from jaxtyping import Bool, UInt8, UInt32

from halfling.corpus.filters.mojibake import MOJIBAKE_FIRST, MOJIBAKE_LATER

LETTER, EXPECTED, SYMBOL, SPACE, CONTROL, FIRST, LATER, COMPOSES = (1 << bit for bit in range(8))
"""Flags of a character: a letter or vowel sign of some script; one of an expected script; a digit, sign or
punctuation mark; a space; a control or separator to be mended; mojibake's first and later character; one that
can keep a text out of normal form C."""

ZAWGYI = "Qaag"
"""CLDR's code for Burmese in the encoding of the Zawgyi font."""

_LAST = 0x40000  # nothing but tags and private use follows


@functools.cache
def _characters() -> str:
    # Surrogates are no characters; a NUL keeps their places.
    return "".join(map(chr, range(0xD800))) + "\0" * 0x800 + "".join(map(chr, range(0xE000, _LAST)))


def _mark(flags: UInt8[np.ndarray, " codepoints"], characters: str, flag: int) -> None:
    for match in regex.finditer(f"{characters}+", _characters(), regex.V1):
        flags[match.start() : match.end()] |= flag


def _composing() -> set[str]:
    """Return what normal form C rewrites alone, and what it may join to the character before.

    With the marks, which it also reorders, that covers whatever has an NFC_Quick_Check other than Yes
    (https://www.unicode.org/reports/tr15/).
    """
    characters = _characters().replace("\n", " ")
    apart = "\n".join(characters)
    alone = {a for a, b in zip(characters, unicodedata.normalize("NFC", apart).split("\n"), strict=True) if a != b}
    later = (each[1:] for each in unicodedata.normalize("NFD", apart).split("\n") if len(each) > 1)
    return alone.union(*later)


@functools.cache
def _flags_of_all() -> UInt8[np.ndarray, " codepoints"]:
    flags = np.zeros(_LAST + 1, np.uint8)
    _mark(flags, r"[[\p{L}\p{M}]--[\p{sc=Zyyy}\p{sc=Zinh}]]", LETTER)
    _mark(flags, r"[\p{S}\p{P}\p{N}]", SYMBOL)
    _mark(flags, r"\s", SPACE)
    _mark(flags, r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", CONTROL)
    flags[0xD800:0xE000] = CONTROL
    flags[[ord(character) for character in _composing()]] |= COMPOSES
    _mark(flags, r"\p{M}", COMPOSES)
    flags[[ord(character) for character in MOJIBAKE_FIRST]] |= FIRST
    flags[[ord(character) for character in MOJIBAKE_LATER]] |= LATER
    return flags


@functools.cache
def flags_of(scripts: tuple[str, ...]) -> UInt8[np.ndarray, " codepoints"]:
    """Return the flags of every character, by code point; the last stands for all that follow.

    A letter is of a script if Unicode's Script_Extensions say so (https://www.unicode.org/reports/tr24/).
    What all scripts share (modifier letters, combining accents) is neutral.

    Args:
        scripts: ISO 15924 codes of the expected scripts, or `ZAWGYI`.
    """
    flags = _flags_of_all().copy()
    for script in scripts:
        name = "Mymr" if script == ZAWGYI else script
        _mark(flags, rf"[[\p{{L}}\p{{M}}]&&\p{{scx={name}}}]", LETTER | EXPECTED)
    return flags


def zawgyi_signs(codes: UInt32[np.ndarray, " characters"]) -> Bool[np.ndarray, " characters"]:
    """Return where a Burmese text shows that it is in Zawgyi's encoding.

    In Unicode the vowel sign U+1031 stands after a consonant or medial (Zawgyi: before it), and U+1039 before a
    consonant, which it stacks (Zawgyi: anywhere, as the sign that kills the vowel). Zawgyi writes stacked consonants
    at places that Unicode gave to Mon, Karen and Shan. After https://www.unicode.org/notes/tn11/.
    """
    signs = (codes == 0x105A) | ((codes >= 0x1060) & (codes <= 0x1097))
    consonant = (codes >= 0x1000) & (codes <= 0x1021)
    carrier = consonant | ((codes >= 0x103B) & (codes <= 0x103F))
    signs[1:] |= (codes[1:] == 0x1031) & ~carrier[:-1]
    signs[:-1] |= (codes[:-1] == 0x1039) & ~consonant[1:]
    return signs
