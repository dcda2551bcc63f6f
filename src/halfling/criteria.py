"""When an input is sure enough to leave: arrays in, decisions out.

The words: uncertainty lies in 0..1, and an input leaves at the first exit where it is below the threshold.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float


def normalised_entropy(logits: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """Return the entropy of the predicted classes divided by its largest value, ln(classes), as float32.

    0 is certain, 1 is uniform, so that a threshold means the same for 3 classes as for 7. Follows the
    criterion of DeeBERT (https://arxiv.org/abs/2004.12993), whose entropy is not normalised.

    Raises:
        ValueError: There are fewer than two classes.
    """
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f"expected at least two classes, got {num_classes}")
    shifted = logits.astype(np.float32)
    shifted -= shifted.max(axis=-1, keepdims=True)
    # Through log-softmax: the log of an underflown p is -inf, 0 * -inf is NaN, and the surest never leaves.
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    entropy = -(np.exp(log_p) * log_p).sum(axis=-1)
    # Rounding may step over either end by one part in ten million.
    return np.asarray(np.clip(entropy / np.log(np.float32(num_classes)), np.float32(0), np.float32(1)))


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
