"""The tokenizer's file of the native engine: a trie of pieces, and a table of normalisation, to be mapped."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfling.files import whole_file
from halfling.tokens.blocks import UNKNOWN
from halfling.tokens.graphemes import JOINS_AFTER, kinds
from halfling.tokens.viterbi import Unigram

_JOINS, _PREPENDS, _CONTROL, _SPACE = 1, 2, 4, 8
_PLANE_2, _PLANE_14 = 0x20000, 0xE0000
_SPACES = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
"""Unicode's White_Space, at which `tokenizers` parts words."""


def write_native_tokenizer(path: Path, pieces: Sequence[tuple[str, float]], charsmap: bytes) -> None:
    """Write the file of a Unigram tokenizer in XLM-R's layout.

    Args:
        path: The file.
        pieces: With their scores, in the order of their ids; the special ones, which no text becomes, are empty.
        charsmap: SentencePiece's compiled table: the bytes of a trie, the trie, and what its leaves point at.
    """
    tables = Unigram(pieces, UNKNOWN).tables
    (size,) = struct.unpack_from("<I", charsmap)
    arrays = (
        tables.edges,
        tables.scores,
        tables.pieces,
        tables.characters,
        np.frombuffer(charsmap, np.uint32, size // 4, 4),
        np.frombuffer(charsmap[4 + size :].rstrip(b"\0") + b"\0", np.uint8),
        _kinds(),
    )
    parts = [array.tobytes() + bytes(-array.nbytes % 8) for array in arrays]
    bytes_ = 96 + sum(map(len, parts))
    numbers = (*map(len, arrays), tables.width)
    header = struct.pack("<8sIIQ8Qd", b"HALFTOKN", 2, UNKNOWN, bytes_, *numbers, tables.unknown_score)
    with whole_file(path) as partial:
        partial.write_bytes(b"".join((header, *parts)))


def _kinds() -> np.ndarray:
    """Return what each character of planes 0, 1 and 14 is to graphemes and words, up to the last that is anything."""
    joins, controls = kinds()
    found = np.zeros(0x110000, np.uint8)
    for codes, kind in ((joins, _JOINS), (JOINS_AFTER, _PREPENDS), (controls, _CONTROL), (_SPACES, _SPACE)):
        found[np.fromiter(codes, np.int64)] |= kind
    # Planes 2 to 13 would be 800 kB of zeros in every exported folder.
    assert not found[_PLANE_2:_PLANE_14].any()
    kept = np.concatenate((found[:_PLANE_2], found[_PLANE_14:]))
    return kept[: int(np.flatnonzero(kept).max()) + 1]
