"""SentencePiece's table of normalisation, read for one question: which text does it leave as it is?"""

import struct
import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from halfling.tokens.graphemes import JOINS_AFTER, JOINS_BEFORE
from halfling.tokens.viterbi import codepoints

_NUM_CODEPOINTS = 0x110000


class Keys(NamedTuple):
    """What the table rewrites: characters, and beginnings of longer sequences."""

    alone: Bool[np.ndarray, " codepoints"]  # characters that are rewritten wherever they stand
    first: Bool[np.ndarray, " codepoints"]  # those that begin a rewritten sequence
    second: Bool[np.ndarray, " codepoints"]  # those that come second in one

    def touch(self, text: str) -> Bool[np.ndarray, " characters"]:
        """Return where `text` may be rewritten; where it is False throughout, normalising changes nothing.

        A sequence is noticed by its first two characters, so more may be noticed than is rewritten.
        """
        codes = codepoints(text)
        touched = self.alone[codes]
        touched[1:] |= self.first[codes[:-1]] & self.second[codes[1:]]
        return touched


def no_keys() -> Keys:
    """Return the keys of no table at all."""
    return Keys(*(np.zeros(_NUM_CODEPOINTS, bool) for _ in Keys._fields))


def read_keys(charsmap: bytes) -> Keys:
    """Return the keys of a precompiled table (SentencePiece's `precompiled_charsmap`).

    It is the size of a trie in bytes, the trie (a double array in the layout of Darts-clone,
    https://github.com/s-yata/darts-clone, over UTF-8), then the replacements.

    Raises:
        ValueError: This is no such table.
    """
    size = struct.unpack_from("<I", charsmap)[0] if len(charsmap) >= 4 else 0
    if size % 4 or not 0 < size <= len(charsmap) - 4:
        raise ValueError(f"normalisation table: expected a trie of {size} bytes, found {len(charsmap) - 4}")
    trie = np.frombuffer(charsmap, "<u4", size // 4, 4)
    keys = no_keys()
    root = np.array([_offset(trie[:1])[0]], np.uint32)
    one = _characters(trie, root)
    two = _characters(trie, one.nodes)
    keys.alone[one.characters[one.ends]] = True
    keys.first[one.characters[two.sources]] = True
    keys.second[two.characters] = True
    return keys


def _offset(units: UInt32[np.ndarray, " _"]) -> UInt32[np.ndarray, " _"]:
    return (units >> 10) << ((units & (1 << 9)) >> 6)


class _Steps(NamedTuple):
    """The ways from some nodes of the trie by one character."""

    nodes: UInt32[np.ndarray, " steps"]  # where they lead
    sources: Int64[np.ndarray, " steps"]  # which of the nodes they start from
    characters: Int64[np.ndarray, " steps"]
    ends: Bool[np.ndarray, " steps"]  # whether a key ends there


def _characters(trie: UInt32[np.ndarray, " units"], nodes: UInt32[np.ndarray, " _"]) -> _Steps:
    """Return every way from any of `nodes` by one character, of up to four bytes."""
    found = []
    sources = np.arange(len(nodes))
    values = np.zeros(len(nodes), np.int64)
    missing = np.full(len(nodes), -1, np.int64)  # bytes of the character still to come; -1 before the first
    while len(nodes):
        reached = nodes[:, None] ^ np.arange(1, 256, dtype=np.uint32)
        units = trie[np.minimum(reached, len(trie) - 1)]
        labels = units & np.uint32(1 << 31 | 0xFF)
        way, byte = np.nonzero((reached < len(trie)) & (labels == np.arange(1, 256)))
        units, nodes = units[way, byte], reached[way, byte]
        byte = byte + 1
        begins = missing[way] < 0
        length = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
        lead = np.where(length == 1, byte, byte & (0x7F >> length))
        values = np.where(begins, lead, values[way] << 6 | byte & 0x3F)
        missing = np.where(begins, length, missing[way]) - 1
        nodes, sources = nodes ^ _offset(units), sources[way]
        whole = missing == 0
        found.append((nodes[whole], sources[whole], values[whole], ((units >> 8) & 1)[whole].astype(bool)))
        nodes, sources, values, missing = nodes[~whole], sources[~whole], values[~whole], missing[~whole]
    return _Steps(*(np.concatenate(each) for each in zip(*found, strict=True)))


def hostile_borders(keys: Keys) -> str:
    """Return a pattern of texts whose words are not alone: the tokenizer normalises graphemes, across spaces too.

    A grapheme that holds a space and a rewritten mark is rewritten otherwise than the mark alone. A space itself is
    not rewritten, so where the mark is not either, both stay as they are. U+000B is deleted, not a border.
    """
    rewritten = np.flatnonzero(keys.alone | keys.first).tolist()
    before = [code for code in rewritten if unicodedata.category(chr(code))[0] == "M" or code in JOINS_BEFORE]
    after = [code for code in rewritten if code in JOINS_AFTER]
    return "|".join(["\v", *(f" {_any_of(before)}" for _ in before[:1]), *(f"{_any_of(after)} " for _ in after[:1])])


def _any_of(codes: list[int]) -> str:
    return "[" + "".join(f"\\x{{{code:x}}}" for code in codes) + "]"
