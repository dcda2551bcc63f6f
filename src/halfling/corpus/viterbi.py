"""The Unigram model's best cut of many words at once.

`tokenizers` cuts a word in about ten microseconds, most of them spent around the model, not in it. Here the same
model runs over thousands of words in step, as arrays. The arithmetic is that of `tokenizers`' `encode_optimized`
(double precision, candidates in the same order, the first of equals wins), so the ids are the same, ties included.
SentencePiece sums in single precision over the whole sentence, where a tie falls as rounding has it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int, Int16, Int32, Int64

SPACE_MARK = "▁"
LONGEST = 256
"""Characters of the longest word that is cut here, the space mark included."""

_UNKNOWN_PENALTY = 10.0
_GROUP_CELLS = 2**16  # words by characters: their scores stay in a core's own cache
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class _Found(NamedTuple):
    """The pieces that stand in some words, in the order of the places where they begin."""

    begins: Int64[np.ndarray, " pieces"]  # cells
    ends: Int64[np.ndarray, " pieces"]  # cells
    widths: Int16[np.ndarray, " pieces"]  # characters
    ids: Int32[np.ndarray, " pieces"]
    scores: Float64[np.ndarray, " pieces"]


class Unigram:
    """A Unigram model (https://arxiv.org/abs/1808.06226) as a trie of its pieces, edges in one hash table."""

    def __init__(self, pieces: Sequence[Sequence[Any]], unknown: int) -> None:
        """Take the model's pieces and scores by id, and the id of the unknown token."""
        self._unknown = unknown
        self._unknown_score = min(score for _, score in pieces) - _UNKNOWN_PENALTY
        self._scores = np.array([score for _, score in pieces])
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
        self._first = self._step(np.zeros(self._width, np.int32), np.arange(self._width, dtype=np.int32))

    def _hash(self, keys: Int64[np.ndarray, " edges"]) -> None:
        """Put edge n, which leads to node n + 1, into an open table that is at most half full."""
        bits = int(2 * len(keys) - 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self._mask = (1 << bits) - 1
        self._keys = np.full(1 << bits, -1, np.int64)
        self._children = np.zeros(1 << bits, np.int32)
        waiting = np.arange(len(keys))
        slots = self._slots(keys)
        while len(waiting):
            free = np.flatnonzero(self._keys[slots] < 0)
            taken, first = np.unique(slots[free], return_index=True)
            self._keys[taken] = keys[waiting[free[first]]]
            self._children[taken] = waiting[free[first]] + 1
            left = self._keys[slots] != keys[waiting]
            waiting, slots = waiting[left], (slots[left] + 1) & self._mask

    def _slots(self, keys: Int64[np.ndarray, " _"]) -> Int64[np.ndarray, " _"]:
        return ((keys.view(np.uint64) * _SPREAD) >> self._shift).view(np.int64)

    def _step(self, nodes: Int32[np.ndarray, " _"], characters: Int32[np.ndarray, " _"]) -> Int32[np.ndarray, " _"]:
        """Return each node's child by a character, 0 where there is none."""
        keys = nodes.astype(np.int64) * self._width + characters
        slots = self._slots(keys)
        found = self._keys[slots]
        children = np.where(found == keys, self._children[slots], 0)
        further = np.flatnonzero((found != keys) & (found >= 0))
        while len(further):
            slots[further] = (slots[further] + 1) & self._mask
            found = self._keys[slots[further]]
            hit = found == keys[further]
            children[further[hit]] = self._children[slots[further[hit]]]
            further = further[~hit & (found >= 0)]
        return children

    def cut(self, words: pa.StringArray) -> pa.ListArray:
        """Return the ids of each word, which must hold neither white space nor the mark, nor exceed `LONGEST`.

        An unknown stretch of a word is one unknown token; the empty word has no ids.
        """
        lengths = pc.utf8_length(words).to_numpy().astype(np.int64) + 1
        lengths[lengths == 1] = 0
        # Joined by the mark, each word is preceded by its own.
        characters = self._character[codepoints(SPACE_MARK + joined(words, SPACE_MARK))]
        begins = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])[:-1]
        longest_first = order = np.argsort(-lengths, kind="stable")
        cut: list[pa.ListArray] = []
        while len(order):
            size = max(1, _GROUP_CELLS // max(1, int(lengths[order[0]])))
            cut.append(self._cut(characters, begins[order[:size]], lengths[order[:size]]))
            order = order[size:]
        if not cut:
            return pa.array([], pa.list_(pa.int32()))
        back = np.empty_like(longest_first)
        back[longest_first] = np.arange(len(back))
        return pc.take(pa.concat_arrays(cut), pa.array(back))

    def _cut(
        self, text: Int32[np.ndarray, " _"], begins: Int[np.ndarray, " words"], lengths: Int64[np.ndarray, " words"]
    ) -> pa.ListArray:
        """Cut words of descending lengths, beginning at `begins` of `text`."""
        longest, num = int(lengths[0]), len(lengths)
        # A cell is a place in a word: the first places of all words, then the second ...
        places = np.arange(longest + 1)[:, None]
        characters = text[np.minimum(begins + places, len(text) - 1)]
        characters[places >= lengths] = 0  # in no piece: what follows a word ends every walk
        found = self._pieces_at(characters.reshape(-1), np.flatnonzero(places < lengths), num)
        best = np.full((longest + 1) * num, -np.inf)
        best[:num] = 0.0
        width = np.zeros((longest + 1, num), np.int16)
        piece = np.full((longest + 1, num), self._unknown, np.int32)
        for first, last in pairwise(np.searchsorted(found.begins, np.arange(longest + 1) * num).tolist()):
            ends = found.ends[first:last]
            score = found.scores[first:last] + best[found.begins[first:last]]
            better = np.flatnonzero(score > best[ends])
            ends = ends[better]
            best[ends] = score[better]
            width.reshape(-1)[ends] = found.widths[first:last][better]
            piece.reshape(-1)[ends] = found.ids[first:last][better]
        return self._read_back(width, piece, lengths)

    def _pieces_at(
        self, characters: Int32[np.ndarray, " cells"], cells: Int64[np.ndarray, " starts"], num: int
    ) -> _Found:
        """Return every piece in the words; an unknown character is one of its own. A cell's next is `num` further."""
        nodes = self._first[characters[cells]]
        ids = self._piece[nodes]
        unknown = ids < 0
        ids[unknown] = self._unknown
        found = [(cells, np.full(len(cells), num), ids, np.where(unknown, self._unknown_score, self._scores[ids]))]
        distance = 0
        while True:
            alive = np.flatnonzero(nodes)
            if not len(alive):
                break
            distance += num
            cells = cells[alive]
            nodes = self._step(nodes[alive], characters[cells + distance])
            ids = self._piece[nodes]
            matched = np.flatnonzero(ids >= 0)
            ids = ids[matched]
            found.append((cells[matched], np.full(len(ids), distance + num), ids, self._scores[ids]))
        begins, distances, all_ids, scores = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort((begins // num).astype(np.int16), kind="stable")
        begins, distances = begins[order], distances[order]
        return _Found(begins, begins + distances, (distances // num).astype(np.int16), all_ids[order], scores[order])

    def _read_back(
        self,
        width: Int16[np.ndarray, "_ words"],
        piece: Int32[np.ndarray, "_ words"],
        lengths: Int64[np.ndarray, " words"],
    ) -> pa.ListArray:
        """Follow each word's best path from its end to its beginning."""
        words = np.arange(len(lengths))
        place = lengths.copy()
        steps = []
        while len(words):
            words = words[place[words] > 0]  # descending lengths do not make descending numbers of pieces
            ids = np.full(len(lengths), -1, np.int32)
            ids[words] = piece[place[words], words]
            place[words] -= width[place[words], words]
            steps.append(ids)
        ids = np.stack(steps[::-1], axis=1)
        follows = (ids[:, 1:] == self._unknown) & (ids[:, :-1] == self._unknown)
        ids[:, 1:][follows] = -1
        kept = ids >= 0
        ends = np.cumsum(kept.sum(axis=1))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids[kept]))


def joined(words: pa.StringArray, by: str) -> str:
    """Return the words in one text, `by` between any two."""
    return pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(words)], pa.int32()), words), by)[0].as_py()


def codepoints(text: str) -> Int32[np.ndarray, " _"]:
    """Return the characters of `text` as numbers."""
    return np.frombuffer(text.encode("utf-32-le"), np.int32)
