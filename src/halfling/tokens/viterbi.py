"""The Unigram model's best cut of many words at once.

`tokenizers` cuts a word in about ten microseconds, most of them spent around the model, not in it. Here the same
model runs as a compiled loop (Numba) that lets go of Python's lock. The arithmetic is that of `tokenizers`'
`encode_optimized` (double precision, the first of equals wins), so the ids are the same, ties included.
SentencePiece sums in single precision over the whole sentence, where a tie falls as rounding has it.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pickle import UnpicklingError
from typing import Any, NamedTuple, no_type_check

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32, Int64
from numba import njit

from halfling.tokens.words import SPACE_MARK

_UNKNOWN_PENALTY = 10.0
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_CHILD_BITS = 24
_CHILD = (1 << _CHILD_BITS) - 1
_LARGEST_KEY = (1 << 63 - _CHILD_BITS) - 1


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loop as machine code that lets go of Python's lock, kept on disk where that is possible."""
    try:
        ready = [njit(nogil=True, cache=True)(loop)]
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        ready = [njit(nogil=True)(loop)]

    @wraps(loop)
    def run(*arguments: Any) -> Any:
        try:
            return ready[0](*arguments)
        except (OSError, EOFError, UnpicklingError):  # the disk is full, or what was kept is damaged
            ready[0] = njit(nogil=True)(loop)
            return ready[0](*arguments)

    return run


class Tables(NamedTuple):
    """What a Unigram model's trie is made of.

    Attributes:
        edges: The hash table: `key << 24 | child`, -1 where there is none. The key of an edge is the node's number
            times `width`, plus the character's; where it stands first is `_SPREAD` times the key, its upper bits.
        scores: Of each piece.
        pieces: The piece that ends at each node, or -1.
        characters: The number of each character, 0 where it is in no piece.
        unknown_score: Of a character that begins no piece.
    """

    edges: Int64[np.ndarray, " slots"]
    scores: Float64[np.ndarray, " pieces"]
    pieces: Int32[np.ndarray, " nodes"]
    characters: Int32[np.ndarray, " codes"]
    width: int
    unknown_score: float


class Unigram:
    """A Unigram model (https://arxiv.org/abs/1808.06226) as a trie of its pieces, edges in one hash table."""

    def __init__(self, pieces: Sequence[Sequence[Any]], unknown: int) -> None:
        """Take the model's pieces and scores by id, and the id of the unknown token.

        Raises:
            ValueError: There is no piece to find, or more nodes (16 million) than the table can tell.
        """
        self._unknown = unknown
        self._unknown_score = min(score for _, score in pieces) - _UNKNOWN_PENALTY
        self._scores = np.array([score for _, score in pieces], np.float64)
        # A word has the mark in front alone; a piece with another one would match across words.
        usable = [number for number, (piece, _) in enumerate(pieces) if piece and SPACE_MARK not in piece[1:]]
        codes = codepoints("".join(pieces[number][0] for number in usable))
        lengths = np.array([len(pieces[number][0]) for number in usable])
        alphabet = np.unique(codes)
        self._character = np.zeros(0x110000, np.int32)  # 0: in no piece
        self._character[alphabet] = np.arange(1, len(alphabet) + 1)
        self._width = len(alphabet) + 1
        self._grow(self._character[codes], lengths, np.array(usable))

    def _grow(self, characters: Int32[np.ndarray, " _"], lengths: Int64[np.ndarray, " _"], ids: Any) -> None:
        begins = np.cumsum(lengths) - lengths
        node = np.zeros(len(lengths), np.int64)  # 0 is the root
        keys: list[Int64[np.ndarray, " _"]] = []
        num_nodes = 1
        piece_at: list[tuple[Any, Any]] = []
        for depth in range(int(lengths.max())):
            there = np.flatnonzero(lengths > depth)
            edges, child = np.unique(node[there] * self._width + characters[begins[there] + depth], return_inverse=True)
            node[there] = num_nodes + child
            ends = there[lengths[there] == depth + 1]
            piece_at.append((node[ends], ids[ends]))
            keys.append(edges)
            num_nodes += len(edges)
        self._piece = np.full(num_nodes, -1, np.int32)
        for nodes, found in piece_at:
            self._piece[nodes] = found
        self._hash(np.concatenate(keys))

    def _hash(self, keys: Int64[np.ndarray, " edges"]) -> None:
        """Put edge n, which leads to node n + 1, into an open table that is at most half full.

        An entry is the key and the child in one number: a step of a walk reads memory in one place.
        """
        bits = int(2 * len(keys) - 1).bit_length()
        if len(keys) > _CHILD or int(keys.max()) > _LARGEST_KEY:
            raise ValueError(f"expected at most {_CHILD} edges of keys up to {_LARGEST_KEY}, came {len(keys)}")
        self._shift = np.uint64(64 - bits)
        self._edges = np.full(1 << bits, -1, np.int64)
        _fill(self._edges, keys, self._shift)

    @property
    def tables(self) -> Tables:
        """Return what the trie is made of, for another program that walks it."""
        characters = self._character[: int(np.flatnonzero(self._character).max()) + 1]
        return Tables(self._edges, self._scores, self._piece, characters, self._width, self._unknown_score)

    def cut(self, words: pa.StringArray) -> pa.ListArray:
        """Return the ids of each word, which must hold neither white space nor the mark.

        An unknown stretch of a word is one unknown token; the empty word has no ids.
        """
        # Joined by the mark, each word is preceded by its own.
        characters = self._character[codepoints(SPACE_MARK + joined(words, SPACE_MARK))]
        lengths = pc.utf8_length(words).to_numpy().astype(np.int64) + 1
        offsets, ids = _best_cuts(
            characters,
            lengths,
            self._width,
            self._edges,
            self._shift,
            self._piece,
            self._scores,
            self._unknown,
            self._unknown_score,
        )
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


@compiled
@no_type_check  # it is compiled: the test run's checks of annotations would be compiled too
def _fill(edges, keys, shift):
    """Put every key into the table, with the number after its own as its child."""
    for number, key in enumerate(keys):
        slot = np.int64((np.uint64(key) * _SPREAD) >> shift)
        while edges[slot] >= 0:
            slot = (slot + 1) & (len(edges) - 1)
        edges[slot] = key << _CHILD_BITS | (number + 1)


@compiled
@no_type_check
def _best_cuts(characters, lengths, width, edges, shift, pieces, scores, unknown, unknown_score):
    """Return offsets and ids of the best cut of each word; the words lie one after the other in `characters`.

    `edges` is the trie's table; `pieces` holds each node's piece, or -1.
    """
    longest = lengths.max() if len(lengths) else 0
    best = np.empty(longest + 1)
    came_from = np.empty(longest + 1, np.int64)
    came_by = np.empty(longest + 1, np.int32)
    offsets = np.zeros(len(lengths) + 1, np.int32)
    ids = np.empty(len(characters), np.int32)
    begin = 0
    for word, length in enumerate(lengths):
        came_from[: length + 1] = -1
        best[0] = 0.0
        for start in range(length):
            node = 0
            for place in range(start, length):
                key = node * width + characters[begin + place]
                slot = np.int64((np.uint64(key) * _SPREAD) >> shift)
                edge = edges[slot]
                while edge >= 0 and edge >> _CHILD_BITS != key:
                    slot = (slot + 1) & (len(edges) - 1)
                    edge = edges[slot]
                node = edge & _CHILD if edge >= 0 else 0
                piece = pieces[node]
                score = unknown_score
                if piece >= 0:
                    score = scores[piece]
                elif place == start:
                    piece = unknown
                if piece >= 0 and (came_from[place + 1] < 0 or best[start] + score > best[place + 1]):
                    best[place + 1] = best[start] + score
                    came_from[place + 1] = start
                    came_by[place + 1] = piece
                if not node:
                    break
        # From the end to the beginning, once to count and once to write.
        for writes in (False, True):
            place, after, number = length if length > 1 else 0, -1, 0  # the mark alone: an empty word
            while place > 0:
                if came_by[place] != unknown or after != unknown:
                    number += 1
                    if writes:
                        ids[offsets[word + 1] - number] = came_by[place]
                after = came_by[place]
                place = came_from[place]
            if not writes:
                offsets[word + 1] = offsets[word] + number
        begin += length
    return offsets, ids[: offsets[-1]]


def joined(words: pa.StringArray, by: str) -> str:
    """Return the words in one text, `by` between any two."""
    return pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(words)], pa.int32()), words), by)[0].as_py()


def codepoints(text: str) -> Int32[np.ndarray, " _"]:
    """Return the characters of `text` as numbers."""
    return np.frombuffer(text.encode("utf-32-le"), np.int32)
