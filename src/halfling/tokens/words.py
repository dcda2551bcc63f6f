"""A dictionary from word to token ids: words repeat, so that each is cut once."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LONGEST_KEPT = 256  # bytes; longer ones hardly come again


class WordIds:
    """What words are cut into, for the words that came so far.

    At most `max_words` words are kept from batch to batch, those that came most often. What is kept decides how
    fast a word is answered, never what the answer is.
    """

    def __init__(self, cut: Callable[[pa.StringArray], pa.ListArray], max_words: int = 2**18) -> None:
        """Take the function that cuts words which the dictionary does not know."""
        self._cut = cut
        self._max_words = max_words
        self._words = pa.array([], pa.string())
        self._ids = pa.array([], pa.list_(pa.int32()))
        self._times = np.zeros(0, np.int64)

    def look_up(self, words: pa.StringArray) -> pa.ListArray:
        """Return the ids of each word."""
        known = len(self._words)
        # Known words first: what is known gets the numbers that it has, what is new the numbers after.
        numbered = pa.concat_arrays([self._words, words]).dictionary_encode()
        indices = numbered.indices[known:]
        ids = pa.concat_arrays([self._ids, self._cut(numbered.dictionary[known:])])
        found = pc.take(ids, indices)
        self._keep(numbered.dictionary, ids, np.bincount(indices.to_numpy(), minlength=len(ids)))
        return found

    def _keep(self, words: pa.StringArray, ids: pa.ListArray, times: np.ndarray) -> None:
        times[: len(self._times)] += self._times
        kept = np.flatnonzero(pc.binary_length(words).to_numpy() <= _LONGEST_KEPT)
        if len(kept) > self._max_words:
            kept = np.sort(kept[np.argsort(-times[kept], kind="stable")[: self._max_words // 2]])
        if len(kept) < len(words):
            words, ids, times = pc.take(words, pa.array(kept)), pc.take(ids, pa.array(kept)), times[kept]
        self._words, self._ids, self._times = words, ids, times
