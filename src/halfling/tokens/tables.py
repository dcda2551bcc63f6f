"""What the native tokenizer reads: a Unigram model as a trie of its pieces, and a table of normalisation."""

import base64
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from halfling.tokens.blocks import UNKNOWN
from halfling.tokens.graphemes import JOINS_AFTER, kinds

SPACE_MARK = "▁"
"""What a piece begins with where a word does."""

NO_TABLE = bytes(5)
"""A table of normalisation that changes nothing."""

_JOINS, _PREPENDS, _CONTROL, _SPACE = 1, 2, 4, 8
_PLANE_2, _PLANE_14 = 0x20000, 0xE0000
_SPACES = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
"""Unicode's White_Space, at which `tokenizers` parts words."""
_UNKNOWN_PENALTY = 10.0
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_CHILD_BITS = 24
_CHILD = (1 << _CHILD_BITS) - 1
_LARGEST_KEY = (1 << 63 - _CHILD_BITS) - 1
_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": "always", "split": True},
    ],
}
_ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


def tables(
    pieces: Sequence[Sequence[Any]], normalisation: bytes = NO_TABLE, unknown: int = UNKNOWN
) -> UInt8[np.ndarray, " bytes"]:
    """Return what the native tokenizer reads, for a Unigram tokenizer (https://arxiv.org/abs/1808.06226).

    Args:
        pieces: With their scores, in the order of their ids; those that no text becomes are empty.
        normalisation: SentencePiece's compiled table (`precompiled_charsmap`): the bytes of a trie, the trie, and what
            its leaves point at.
        unknown: The id of the unknown token.

    Raises:
        ValueError: There is no piece to find, or more nodes (16 million) than the table can tell.
    """
    trie = _trie(pieces)
    (size,) = struct.unpack_from("<I", normalisation)
    arrays = (
        _hashed(trie.keys),
        np.array([score for _, score in pieces], np.float64),
        trie.pieces,
        trie.characters,
        np.frombuffer(normalisation, np.uint32, size // 4, 4),
        np.frombuffer(normalisation[4 + size :].rstrip(b"\0") + b"\0", np.uint8),
        _kinds(),
    )
    parts = [array.tobytes() + bytes(-array.nbytes % 8) for array in arrays]
    unknown_score = min(score for _, score in pieces) - _UNKNOWN_PENALTY
    numbers = (*map(len, arrays), trie.width)
    header = struct.pack("<8sIIQ8Qd", b"HALFTOKN", 2, unknown, 96 + sum(map(len, parts)), *numbers, unknown_score)
    whole = np.empty(96 + sum(map(len, parts)), np.uint8)
    whole[:] = np.frombuffer(b"".join((header, *parts)), np.uint8)
    return whole


def table_of(parts: dict[str, Any]) -> bytes | None:
    """Return the table that a tokenizer normalises by, or None where a part of it is not XLM-R's.

    Args:
        parts: What its `tokenizer.json` holds.
    """
    model = parts["model"]
    if model["type"] != "Unigram" or model.get("byte_fallback") or model["unk_id"] != UNKNOWN:
        return None
    # What is added is looked for in the text as it stands; one that is normalised first may be spelt otherwise.
    if any(not token["content"] or token["normalized"] for token in parts["added_tokens"]):
        return None
    normalizer = parts["normalizer"] or {"type": "Sequence", "normalizers": []}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    tables = [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step["type"] == "Precompiled"]
    if len(tables) > 1 or any(step["type"] != "Precompiled" and step != _ONE_SPACE for step in steps):
        return None
    if parts["pre_tokenizer"] != _PRE_TOKENIZER or any(map(_rewrites_spaces, tables)):
        return None
    return tables[0] if tables else NO_TABLE


def _rewrites_spaces(table: bytes) -> bool:
    """Whether a key begins with a space, so that words depend on their neighbours; a broken table counts as one.

    The trie is a double array in the layout of Darts-clone (https://github.com/s-yata/darts-clone).
    """
    size = struct.unpack_from("<I", table)[0] if len(table) >= 4 else 0
    if size % 4 or not 0 < size <= len(table) - 4:
        return True
    trie = np.frombuffer(table, "<u4", size // 4, 4)
    root = int(trie[0])
    child = (root >> 10) << ((root & 1 << 9) >> 6) ^ ord(" ")
    return child < len(trie) and int(trie[child]) & (1 << 31 | 0xFF) == ord(" ")


class _Trie(NamedTuple):
    """Nodes and edges; edge n leads to node n + 1.

    Attributes:
        keys: Of each edge, the number of the node it comes from times `width`, plus the character's.
        pieces: The piece that ends at each node, or -1.
        characters: The number of each character, 0 where it is in no piece.
        width: More than any character's number.
    """

    keys: Int64[np.ndarray, " edges"]
    pieces: Int32[np.ndarray, " nodes"]
    characters: Int32[np.ndarray, " codes"]
    width: int


def _trie(pieces: Sequence[Sequence[Any]]) -> _Trie:
    # A word has the mark in front alone; a piece with another one would match across words.
    usable = [number for number, (piece, _) in enumerate(pieces) if piece and SPACE_MARK not in piece[1:]]
    codes = np.frombuffer("".join(pieces[number][0] for number in usable).encode("utf-32-le"), np.int32)
    lengths = np.array([len(pieces[number][0]) for number in usable])
    alphabet, characters = np.unique(codes, return_inverse=True)
    width = len(alphabet) + 1
    begins, node = np.cumsum(lengths) - lengths, np.zeros(len(lengths), np.int64)  # 0 is the root
    keys: list[np.ndarray] = []
    nodes = 1
    for depth in range(int(lengths.max())):
        there = np.flatnonzero(lengths > depth)
        edges, child = np.unique(node[there] * width + characters[begins[there] + depth] + 1, return_inverse=True)
        node[there] = nodes + child
        keys.append(edges)
        nodes += len(edges)
    ends = np.full(nodes, -1, np.int32)
    ends[node] = usable
    numbers = np.zeros(int(alphabet[-1]) + 1, np.int32)
    numbers[alphabet] = np.arange(1, width)
    return _Trie(np.concatenate(keys), ends, numbers, width)


def _hashed(keys: Int64[np.ndarray, " edges"]) -> Int64[np.ndarray, " slots"]:
    """Return an open table that is at most half full: `key << 24 | child`, -1 where there is nothing.

    Where a key stands first is `_SPREAD` times itself, its upper bits. A step of a walk reads memory in one place.
    """
    bits = int(2 * len(keys) - 1).bit_length()
    if len(keys) > _CHILD or int(keys.max()) > _LARGEST_KEY:
        raise ValueError(f"expected at most {_CHILD} edges of keys up to {_LARGEST_KEY}, came {len(keys)}")
    table, entries = np.full(1 << bits, -1, np.int64), keys << _CHILD_BITS | np.arange(1, len(keys) + 1)
    slots = (keys.astype(np.uint64) * _SPREAD >> np.uint64(64 - bits)).astype(np.int64)
    waiting = np.arange(len(keys))
    while len(waiting):
        places, wanted = slots[waiting], entries[waiting]
        free = table[places] < 0
        table[places[free]] = wanted[free]  # of several one remains
        waiting = waiting[table[places] != wanted]
        slots[waiting] = (slots[waiting] + 1) & (len(table) - 1)
    return table


def _kinds() -> UInt8[np.ndarray, " codes"]:
    """Return what each character of planes 0, 1 and 14 is to graphemes and words, up to the last that is anything."""
    joins, controls = kinds()
    found = np.zeros(0x110000, np.uint8)
    for codes, kind in ((joins, _JOINS), (JOINS_AFTER, _PREPENDS), (controls, _CONTROL), (_SPACES, _SPACE)):
        found[np.fromiter(codes, np.int64)] |= kind
    # Planes 2 to 13 would be 800 kB of zeros in every exported folder.
    assert not found[_PLANE_2:_PLANE_14].any()
    kept = np.concatenate((found[:_PLANE_2], found[_PLANE_14:]))
    return kept[: int(np.flatnonzero(kept).max()) + 1]
