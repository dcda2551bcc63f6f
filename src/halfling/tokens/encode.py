"""Text to token ids, with the teacher's tokenizer.

A tokenizer of XLM-R's layout cuts text at white space and then each word alone, and words repeat. Where its parts
are known, each word is therefore cut once (`words`), and cut for all new words of a batch (`viterbi`). The ids are
the tokenizer's own; what could differ by rule goes to the tokenizer itself.
"""

import base64
import copy
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64
from tokenizers import Tokenizer

from halfling.errors import HalflingError
from halfling.tokens.blocks import UNKNOWN
from halfling.tokens.normalization import Keys, hostile_borders, no_keys, read_keys
from halfling.tokens.viterbi import Unigram, joined
from halfling.tokens.words import SPACE_MARK, WordIds

_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": "always", "split": True},
    ],
}
_SLICE_BYTES = 2**19
"""What is cut at a time: on the way the tokenizer takes forty times as much memory."""
_ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
_SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]


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
        keys = keys_by_parts(parts)
        self.by_word = False
        if keys is None:
            return
        try:
            self._unigram = Unigram(parts["model"]["vocab"], UNKNOWN)
        except ValueError:  # more pieces than a trie here holds
            return
        self.by_word = True
        self._words = WordIds(self._cut)
        self._hostile = hostile_borders(keys)
        own = {token["content"][0] for token in parts["added_tokens"]}
        self._keys = keys
        self._keys.alone[[ord(each) for each in own | {SPACE_MARK, *_SPACES}]] = True

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
        hostile = pc.match_substring_regex(texts, self._hostile).to_numpy(zero_copy_only=False)
        if not hostile.any():
            return self._as_text(self._word_by_word(texts))
        parts = [self._word_by_word(texts.filter(pa.array(~hostile))), self._plain(texts.filter(pa.array(hostile)))]
        back = np.argsort(np.argsort(hostile, kind="stable"), kind="stable")
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

    def _cut(self, words: pa.StringArray) -> pa.ListArray:
        return pa.concat_arrays([pa.array([], pa.list_(pa.int32())), *map(self._cut_some, _slices(words))])

    def _cut_some(self, words: pa.StringArray) -> pa.ListArray:
        odd = pa.array(self._odd(words))
        plain = self._plain(words.filter(odd))
        back = np.argsort(np.argsort(odd.to_numpy(zero_copy_only=False), kind="stable"), kind="stable")
        return pc.take(pa.concat_arrays([self._unigram.cut(words.filter(pc.invert(odd))), plain]), pa.array(back))

    def _odd(self, words: pa.StringArray) -> Bool[np.ndarray, " words"]:
        """Return which words the tokenizer must cut: those that normalising may change."""
        if not len(words):
            return np.zeros(0, bool)
        lengths = pc.utf8_length(words).to_numpy().astype(np.int64)
        begins = np.cumsum(lengths + 1) - (lengths + 1)
        touched = self._keys.touch("\n" + joined(words, "\n"))
        touched[begins] = False  # what joins the words
        return np.logical_or.reduceat(touched, begins)


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


def keys_by_parts(parts: dict[str, Any]) -> Keys | None:
    """Return what a tokenizer's normaliser rewrites, or None where a part of it is not XLM-R's.

    Args:
        parts: What its `tokenizer.json` holds.
    """
    model = parts["model"]
    if model["type"] != "Unigram" or model.get("byte_fallback") or model["unk_id"] != UNKNOWN:
        return None
    if parts["pre_tokenizer"] != _PRE_TOKENIZER:
        return None
    if any(set(token["content"]) & {SPACE_MARK, *_SPACES} or not token["content"] for token in parts["added_tokens"]):
        return None
    normalizer = parts["normalizer"] or {"type": "Sequence", "normalizers": []}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    tables = [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step["type"] == "Precompiled"]
    if len(tables) > 1 or any(step["type"] != "Precompiled" and step != _ONE_SPACE for step in steps):
        return None
    keys = read_keys(tables[0]) if tables else no_keys()
    return None if keys.alone[ord(" ")] or keys.first[ord(" ")] else keys
