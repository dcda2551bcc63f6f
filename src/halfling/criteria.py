"""When an input is sure enough to leave: arrays in, decisions out.

The words: uncertainty lies in 0..1, and an input leaves at the first exit where it is below the threshold.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from halfling.records import ExitPolicy


def normalised_entropy(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return the entropy of the predicted classes divided by its largest value, ln(classes), as float32.

    0 is certain, 1 is uniform, so that a threshold means the same for 3 classes as for 7. Follows the
    criterion of DeeBERT (https://arxiv.org/abs/2004.12993), whose entropy is not normalised.

    Raises:
        ValueError: There are fewer than two classes.
    """
    # Through log-softmax: the log of an underflown p is -inf, 0 * -inf is NaN, and the surest never leaves.
    log_p = _log_softmax(logits)
    entropy = -(np.exp(log_p) * log_p).sum(axis=-1)
    return _within_0_and_1(entropy / np.log(np.float32(logits.shape[-1])))


def improbability(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return how far the likeliest class is from certain, divided by how far it can be, as float32.

    `(1 - p_max) / (1 - 1 / classes)`: 0 is certain, 1 is uniform. The maximum probability as a criterion follows
    the "softmax response" of Schwartz et al. (https://arxiv.org/abs/2004.07453), who do not normalise it.

    Raises:
        ValueError: There are fewer than two classes.
    """
    p = np.exp(_log_softmax(logits))
    return _within_0_and_1((1 - p.max(axis=-1)) / np.float32(1 - 1 / logits.shape[-1]))


def narrowness(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return one minus the margin between the two likeliest classes, as float32.

    `1 - (p_first - p_second)`: 0 is certain, 1 a tie. The margin is that of active learning (Scheffer et al. 2001).

    Raises:
        ValueError: There are fewer than two classes.
    """
    p = np.exp(_log_softmax(logits))
    second, first = np.moveaxis(np.partition(p, -2, axis=-1)[..., -2:], -1, 0)
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

    def __call__(
        self, logits: Float[np.ndarray, "batch *tokens classes"], counted: Bool[np.ndarray, "batch tokens"] | None
    ) -> Float[np.ndarray, "..."]:
        """Return the uncertainty at the next exit: [batch], or [batch, tokens] where each token leaves alone.

        Args:
            logits: Of everybody who is still there.
            counted: For taggers, True on the tokens that vote on a sentence; None for classifiers.
        """
        together = counted is not None and self.policy.granularity == "sentence"
        if self.policy.criterion == "patience":
            return self._impatience(logits.argmax(axis=-1), counted if together else None)
        each = PER_ANSWER[self.policy.criterion](logits)
        return pool_tokens(each, counted, self.policy.token_pooling) if together and counted is not None else each

    def stay(self, rows: Int[np.ndarray, " staying"], tokens: int | None = None) -> None:
        """Forget all but these rows, and of a tagger's rows all but the first so many tokens."""
        cut = (rows,) if tokens is None else (rows, slice(tokens))
        if self._labels is not None and self._confirmed is not None:
            self._labels = self._labels[rows] if tokens is None else self._labels[rows, :tokens]
            self._confirmed = self._confirmed[cut[: self._confirmed.ndim]]

    def _impatience(self, labels: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
        if self._labels is None or self._confirmed is None:
            confirmed = np.zeros(len(labels) if counted is not None else labels.shape, dtype=np.int64)
        else:
            same = labels == self._labels
            if counted is not None:
                same = (same | ~counted).all(axis=-1) & counted.any(axis=-1)
            confirmed = np.where(same, self._confirmed + 1, 0)
        self._labels, self._confirmed = labels, confirmed
        return impatience(confirmed, self.policy.patience or 1)


def leaves(uncertainty: Float[np.ndarray, "*batch"], threshold: float) -> Bool[np.ndarray, "*batch"]:
    """Return who leaves: those strictly below the threshold, so that threshold 0 lets nobody leave."""
    return np.asarray(uncertainty < threshold)


def pool_tokens(
    uncertainty: Float[np.ndarray, "batch tokens"],
    keep: Bool[np.ndarray, "batch tokens"],
    how: Literal["mean", "max"],
) -> Float[np.ndarray, " batch"]:
    """Return one uncertainty for each sentence from those of its tokens, as float32.

    `keep` is True on the tokens that are tagged (first sub-words); what stands elsewhere is not read.
    A sentence with no such token is 1.0: nothing is known of it, so it never leaves early.
    """
    if how == "max":
        pooled = np.where(keep, uncertainty, 0).max(axis=-1, initial=0)
    else:
        # In float64: in float32 the rounding, and with it the decision, would depend on the padding.
        total = np.where(keep, uncertainty, 0).sum(axis=-1, dtype=np.float64)
        pooled = total / np.maximum(keep.sum(axis=-1), 1)
    return np.where(keep.any(axis=-1), pooled, 1).astype(np.float32)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f"expected at least two classes, got {num_classes}")
    shifted = logits.astype(np.float32)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _within_0_and_1(values: np.ndarray | np.float32) -> np.ndarray:
    # Rounding may step over either end by one part in ten million.
    return np.asarray(np.clip(values, np.float32(0), np.float32(1)), dtype=np.float32)
