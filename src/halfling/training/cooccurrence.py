"""Word embeddings from co-occurrence: what a corpus tells of its words before the first training step.

A teacher that is trained on little begins with these instead of random ones: counting reads millions of tokens a
second, training a few thousand.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int64
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from halfling.models.shapes import PAD
from halfling.tokens.blocks import PackedBlocks, PackedSummary

_CONTEXT_SMOOTHING = 0.75
_NOWHERE = 1e-6
_FIRST_PIECE = 4  # below lie <s>, <pad>, </s> and <unk>, which have no meaning to find


class WordStatistics(NamedTuple):
    """What counting finds.

    Attributes:
        frequency: How often each piece occurs.
        pairs: [piece, neighbour], how often they stand near each other, a pair at distance d counted 1/d.
    """

    frequency: Int64[np.ndarray, " vocab"]
    pairs: sparse.csr_array


def count_words(packed: Path, chunks: int, window: int = 4) -> WordStatistics:
    """Count pieces, and pairs of them at most `window` apart in one sequence, in the first chunks of a packed corpus.

    Args:
        chunks: How many of its chunks to read, from the first; a chunk that is held out stays unread.
        window: The largest distance of a pair.

    Raises:
        HalflingError: The packed corpus is missing or damaged.
    """
    summary = PackedSummary.read(packed / "corpus.json")
    vocab = summary.vocab_size
    frequency = np.zeros(vocab, np.int64)
    pairs = sparse.csr_array((vocab, vocab))
    for name in list(summary.blocks)[:chunks]:
        for run in PackedBlocks(packed / name).runs:
            first = np.zeros(run.input_ids.shape, bool)
            first[run.begins()] = True
            ids = run.input_ids.reshape(-1).astype(np.int64)
            frequency += np.bincount(ids[ids != PAD], minlength=vocab)
            pairs += _pairs(ids, first.reshape(-1).cumsum(), vocab, window)
    return WordStatistics(frequency, (pairs + pairs.T).tocsr())


def _pairs(
    ids: Int64[np.ndarray, " tokens"], sequence: Int[np.ndarray, " tokens"], vocab: int, window: int
) -> sparse.csr_array:
    is_word = ids >= _FIRST_PIECE
    pairs = sparse.csr_array((vocab, vocab))
    for distance in range(1, window + 1):
        left, right = slice(None, -distance), slice(distance, None)
        together = (sequence[left] == sequence[right]) & is_word[left] & is_word[right]
        # Counted before the matrix is made: a pair that occurs a thousand times is one entry, not a thousand.
        found, number = np.unique(ids[left][together] * vocab + ids[right][together], return_counts=True)
        pairs += sparse.csr_array((number / distance, (found // vocab, found % vocab)), shape=(vocab, vocab))
    return pairs


def embeddings_from_counts(
    words: WordStatistics, width: int, spread: float, seed: int
) -> Float[np.ndarray, "vocab width"]:
    """Return an embedding for each piece from the company that it keeps, each of length `spread * sqrt(width)`.

    The singular vectors of the positive pointwise mutual information between pieces and their neighbours, weighted
    by the square roots of the singular values; contexts are smoothed with the exponent 0.75. All of it follows Levy,
    Goldberg and Dagan, 2015 (https://aclanthology.org/Q15-1016/). Pieces that occur nowhere get random directions.

    Raises:
        ValueError: There are fewer pieces than `width`.
    """
    vocab = len(words.frequency)
    if vocab < width:
        raise ValueError(f"expected at most {vocab} channels, one for each piece, came {width}")
    pairs = words.pairs.tocoo()
    occurs = pairs.sum(axis=1)
    context = occurs**_CONTEXT_SMOOTHING
    information = np.log(pairs.data * context.sum() / (occurs[pairs.row] * context[pairs.col]))
    kept = information > 0
    positive = sparse.csr_array((information[kept], (pairs.row[kept], pairs.col[kept])), shape=(vocab, vocab))
    directions, strength, _ = randomized_svd(positive.astype(np.float32), width, n_iter=4, random_state=seed)
    embeddings = directions * np.sqrt(strength)
    nowhere = np.linalg.norm(embeddings, axis=1) < _NOWHERE
    embeddings[nowhere] = np.random.default_rng(seed).standard_normal((int(nowhere.sum()), width))
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (embeddings * (spread * width**0.5 / length)).astype(np.float32)


def log_frequency(words: WordStatistics) -> Float[np.ndarray, " vocab"]:
    """Return the log of each piece's frequency, every piece counted once more than it occurs, with mean 0.

    As an output bias it begins training at word frequencies, which random weights need a thousand steps to learn.
    """
    logs = np.log(words.frequency + 1.0)
    return (logs - logs.mean()).astype(np.float32)
