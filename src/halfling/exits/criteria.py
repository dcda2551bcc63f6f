"""When an input is sure enough to leave: arrays in, decisions out.

The words: uncertainty lies in 0..1, and an input leaves at the first exit where it is below the threshold.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from halfling.exits.policy import ExitPolicy


def normalised_entropy(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return the entropy of the predicted classes divided by its largest value, ln(classes), as float32.

    0 is certain, 1 is uniform, so that a threshold means the same for 3 classes as for 7. Follows the
    criterion of DeeBERT (https://arxiv.org/abs/2004.12993), whose entropy is not normalised.
    """
    # ln sum e^x - sum x e^x / sum e^x: an underflown e^x is 0 here, where p ln p would be NaN and never leave.
    shifted, exp = _exponentials(logits)
    total = exp.sum(axis=0)
    entropy = np.log(total) - (exp * shifted).sum(axis=0) / total
    # Neither term is below 0, as no x is above; rounding may step over 1 by one part in ten million.
    return np.asarray(np.minimum(entropy / np.log(np.float32(logits.shape[-1])), np.float32(1)))


def improbability(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return how far the likeliest class is from certain, divided by how far it can be, as float32.

    `(1 - p_max) / (1 - 1 / classes)`: 0 is certain, 1 is uniform. The maximum probability as a criterion follows
    the "softmax response" of Schwartz et al. (https://arxiv.org/abs/2004.07453), who do not normalise it.
    """
    _, exp = _exponentials(logits)
    p_max = 1 / exp.sum(axis=0)
    return _within_0_and_1((1 - p_max) / np.float32(1 - 1 / logits.shape[-1]))


def narrowness(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return one minus the margin between the two likeliest classes, as float32.

    `1 - (p_first - p_second)`: 0 is certain, 1 a tie. The margin is that of active learning (Scheffer et al. 2001).
    """
    _, exp = _exponentials(logits)
    second, first = np.partition(exp / exp.sum(axis=0), -2, axis=0)[-2:]
    return _within_0_and_1(1 - (first - second))


def impatience(confirmed: Int[np.ndarray, "*batch"], patience: int) -> Float[np.ndarray, "*batch"]:
    """Return the share of the exits that have yet to confirm an answer, as float32.

    `1 - confirmed / patience`, not below 0: any threshold up to `1 / patience` lets leave whose answer stayed the
    same over `patience` exits after the one that gave it first. This is the rule of PABEE
    (https://arxiv.org/abs/2006.04152), said as an uncertainty so that thresholds mean one thing everywhere.
    """
    return (1 - np.minimum(confirmed, patience) / patience).astype(np.float32)


PER_ANSWER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": normalised_entropy,
    "max_probability": improbability,
    "margin": narrowness,
}
"""The criteria that look at one exit alone: logits in, uncertainty (0..1) out."""


class Doubt:
    """The uncertainty of those who have not left, exit after exit; it remembers what patience must compare."""

    def __init__(self, policy: ExitPolicy) -> None:
        self.policy = policy
        self._labels: np.ndarray | None = None
        self._confirmed: np.ndarray | None = None
        self._owner: np.ndarray | None = None

    def __call__(
        self, logits: Float[np.ndarray, "answers classes"], counts: Int[np.ndarray, " batch"] | None = None
    ) -> Float[np.ndarray, " leaving"]:
        """Return the uncertainty at the next exit of every sentence, or with `counts` None of every answer.

        Args:
            logits: Of everybody who is still there.
            counts: How many answers each sentence has, which lie one sentence after the other.
        """
        if self.policy.criterion == "patience":
            return self._impatience(logits.argmax(axis=-1), counts)
        each = PER_ANSWER[self.policy.criterion](logits)
        return each if counts is None else pool_tokens(each, counts, self.policy.token_pooling)

    def stay(self, rows: Int[np.ndarray, " staying"]) -> None:
        """Forget all but these sentences, ascending, or where each answer leaves alone, all but these answers."""
        if self._labels is not None and self._confirmed is not None:
            self._confirmed = self._confirmed[rows]
            self._labels = self._labels[rows if self._owner is None else np.isin(self._owner, rows)]

    def _impatience(self, labels: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
        before, self._labels = self._labels, labels
        self._owner = None if counts is None else _owner(counts)
        if before is None or self._confirmed is None:
            self._confirmed = np.zeros(len(labels) if counts is None else len(counts), dtype=np.int64)
        else:
            same = labels == before
            if counts is not None:
                same = (np.bincount(_owner(counts), ~same, len(counts)) == 0) & (counts > 0)
            self._confirmed = np.where(same, self._confirmed + 1, 0)
        return impatience(self._confirmed, self.policy.patience or 1)


def leaves(uncertainty: Float[np.ndarray, "*batch"], threshold: float) -> Bool[np.ndarray, "*batch"]:
    """Return who leaves: those strictly below the threshold, so that threshold 0 lets nobody leave."""
    return np.asarray(uncertainty < threshold)


def pool_tokens(
    uncertainty: Float[np.ndarray, " tokens"], counts: Int[np.ndarray, " batch"], how: Literal["mean", "max"]
) -> Float[np.ndarray, " batch"]:
    """Return one uncertainty for each sentence from those of its tokens, as float32.

    The tokens that are tagged (first sub-words) lie one sentence after the other, `counts` says how many are whose.
    A sentence with no such token is 1.0: nothing is known of it, so it never leaves early.
    """
    owner = _owner(counts)
    if how == "max":
        pooled = np.zeros(len(counts), np.float32)
        np.maximum.at(pooled, owner, uncertainty)
    else:
        # It adds in float64, a sentence's tokens in their order: neighbours change nothing.
        pooled = np.bincount(owner, uncertainty, len(counts)) / np.maximum(counts, 1)
    return np.where(counts > 0, pooled, 1).astype(np.float32)


def _owner(counts: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " answers"]:
    """Return whose each answer is."""
    return np.repeat(np.arange(len(counts)), counts)


def _exponentials(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits less their largest, and what e is to the power of these, classes first, as float32.

    Classes first: NumPy adds up a few long rows several times as fast as many rows of few classes.
    """
    shifted = logits.transpose(-1, *range(logits.ndim - 1)).astype(np.float32, order="C")
    shifted -= shifted.max(axis=0)
    return shifted, np.exp(shifted)


def _within_0_and_1(values: np.ndarray | np.float32) -> np.ndarray:
    # Rounding may step over either end by one part in ten million.
    return np.asarray(np.clip(values, np.float32(0), np.float32(1)), dtype=np.float32)
