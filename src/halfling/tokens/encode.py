"""Text to token ids, with the teacher's tokenizer.

A tokenizer of XLM-R's layout cuts text at white space and then each word alone, and words repeat. Where its parts
are known, each word is therefore cut once (`words`), all new words of a batch by the native tokenizer. The ids are
the tokenizer's own; what could differ by rule goes to the tokenizer itself.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64
from tokenizers import Tokenizer

from halfling.errors import HalflingError
from halfling.tokens.blocks import UNKNOWN
from halfling.tokens.graphemes import JOINS_AFTER, kinds
from halfling.tokens.native import NativePieces
from halfling.tokens.tables import table_of, tables
from halfling.tokens.words import WordIds

_SLICE_BYTES = 2**19
"""What is cut at a time: on the way the tokenizer takes forty times as much memory."""
_NEVER = r"[^\x{0}-\x{10ffff}]"
"""A pattern that no text matches."""


class Encoded(NamedTuple):
    """Texts as ids, one after the other, without special tokens."""

    ids: Int32[np.ndarray, " tokens"]
    lengths: Int64[np.ndarray, " texts"]

    def cut(self, ends: Sequence[int]) -> Iterator["Encoded"]:
        """Yield the texts in parts; each ends before the text whose number is in `ends`."""
        token_ends = np.concatenate([[0], np.cumsum(self.lengths)])
        for begin, end in pairwise([0, *ends]):
            yield Encoded(self.ids[token_ends[begin] : token_ends[end]], self.lengths[begin:end])


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a Hugging Face folder, without truncation or padding.

    Raises:
        HalflingError: There is no readable `tokenizer.json`, or its special tokens are not XLM-R's.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing and for a damaged file
        raise HalflingError(f"{path}: cannot be read ({error}): build the tokenizer first") from error
    found = [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    if found != [0, 1, 2, 3, tokenizer.get_vocab_size() - 1]:
        raise HalflingError(f"{path}: <s>, <pad>, </s>, <unk>, <mask> are {found}, not XLM-R's 0, 1, 2, 3 and last")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class TextEncoder:
    """Encodes batches of texts.

    Attributes:
        by_word: Whether the tokenizer's parts are known, so that words are cut once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take what `load_tokenizer` returned."""
        self._tokenizer = tokenizer
        self._mask = tokenizer.get_vocab_size() - 1
        self._huge = ThreadPoolExecutor(1)
        parts = json.loads(tokenizer.to_str())
        table = table_of(parts)
        self.by_word = table is not None
        if table is None:
            return
        try:
            self._native = NativePieces(tables(parts["model"]["vocab"], table))
        except ValueError:  # more pieces than a trie here holds
            self.by_word = False
            return
        self._words = WordIds(self._cut)
        self._added = "|".join(re.escape(token["content"]) for token in parts["added_tokens"]) or _NEVER

    def with_own_words(self) -> "TextEncoder":
        """Return an encoder for a language and thread; it shares all but the words seen."""
        other = copy.copy(self)
        if self.by_word:
            other._words = WordIds(self._cut)
        return other

    def encode(self, texts: pa.StringArray) -> Encoded:
        """Return the ids of all texts.

        A "<s>" or "<mask>" that somebody wrote is text, not structure: it becomes the unknown token.
        (Asking the tokenizer to encode special tokens as text is not enough: XLM-R's vocabulary holds "<s>" as a
        piece too, and the Unigram model finds it there.)
        """
        if (pc.max(pc.binary_length(texts)).as_py() or 0) > 2 * _SLICE_BYTES:
            # Of a text of megabytes the tokenizer holds forty times as much for a while: one such text at a time, in
            # one thread, since the allocator keeps for each thread what that has used. Its neighbours come along.
            return self._huge.submit(self._encode, texts).result()
        return self._encode(texts)

    def _encode(self, texts: pa.StringArray) -> Encoded:
        if not self.by_word:
            return self._as_text(self._plain(texts))
        way = np.where(_found(_hostile(), texts), 1, 2)
        way[_found(self._added, texts)] = 0  # what is added to the vocabulary is cut out before all else
        if (way == 2).all():
            return self._as_text(self._word_by_word(texts))
        cuts = enumerate((self._plain, self._cut, self._word_by_word))
        parts = [cut(texts.filter(pa.array(way == number))) for number, cut in cuts]
        back = np.argsort(np.argsort(way, kind="stable"), kind="stable")
        return self._as_text(pc.take(pa.concat_arrays(parts), pa.array(back)))

    def _as_text(self, encoded: pa.ListArray) -> Encoded:
        ids = encoded.flatten().to_numpy()
        literal = (ids < UNKNOWN) | (ids == self._mask)
        if literal.any():
            ids = np.where(literal, np.int32(UNKNOWN), ids)
        return Encoded(ids, pc.list_value_length(encoded).to_numpy().astype(np.int64))

    def _plain(self, texts: pa.StringArray) -> pa.ListArray:
        parts = [pa.array([], pa.list_(pa.int32()))]
        for some in _slices(texts):
            encoded = self._tokenizer.encode_batch_fast(some.to_pylist(), add_special_tokens=False)
            parts.append(pa.array([np.array(each.ids, np.int32) for each in encoded], pa.list_(pa.int32())))
            del encoded
        return pa.concat_arrays(parts)

    def _word_by_word(self, texts: pa.StringArray) -> pa.ListArray:
        words = pc.ascii_split_whitespace(texts)
        ids = self._words.look_up(words.flatten())
        # An ids' offset for each word, a word's for each text: together an ids' offset for each text.
        offsets = pc.take(_offsets(ids), _offsets(words))
        return pa.ListArray.from_arrays(offsets, ids.flatten())

    def _cut(self, texts: pa.StringArray) -> pa.ListArray:
        _, offsets, text = texts.buffers()
        if not len(texts) or text is None:
            return pa.array([[]] * len(texts), pa.list_(pa.int32()))
        places = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
        ids, ends = self._native.cut(text.address + int(places[0]), places[1:] - places[0])
        return pa.ListArray.from_arrays(pa.array(np.append(0, ends).astype(np.int32)), pa.array(ids))


@cache
def _hostile() -> str:
    """Return a pattern of texts whose words are not alone: graphemes are normalised, across spaces too.

    U+000B is deleted, not a border.
    """
    before, after = ("".join(f"\\x{{{code:x}}}" for code in sorted(codes)) for codes in (kinds().joins, JOINS_AFTER))
    return f"\v| [{before}]|[{after}] "


def _found(pattern: str, texts: pa.StringArray) -> Bool[np.ndarray, " texts"]:
    return pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)


def _slices(texts: pa.StringArray) -> Iterator[pa.StringArray]:
    """Yield the texts in slices of about `_SLICE_BYTES`, at least one text each."""
    sizes = pc.binary_length(texts).to_numpy()
    ends = np.cumsum(sizes, dtype=np.int64) // _SLICE_BYTES
    # A large text has a slice of its own: of two, the tokenizer would take each to another thread.
    ends_here = (np.diff(ends) > 0) | (sizes[:-1] >= _SLICE_BYTES)
    borders = [0, *(np.flatnonzero(ends_here) + 1).tolist(), len(texts)] if len(texts) else []
    for begin, end in pairwise(borders):
        yield texts[begin:end]


def _offsets(lists: pa.ListArray) -> pa.Int32Array:
    """Return the offsets of lists, the first 0 even of a slice."""
    return pc.subtract(lists.offsets, lists.offsets[0])
