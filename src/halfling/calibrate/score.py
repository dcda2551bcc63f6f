"""A score as a ratio of sums over examples, so that any choice of exits, and any resample, is a sum away."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from halfling.records import TaskName
from halfling.tasks.span_metrics import tally_spans


@dataclass(frozen=True)
class Tally:
    """What each example adds to both sides of a score: score = sum(above) / sum(below).

    Accuracy (XNLI): right answers over examples. Span F1 (WikiANN): twice the right spans over found and wanted ones.
    """

    above: Float[np.ndarray, " examples"]
    below: Float[np.ndarray, " examples"]

    @property
    def score(self) -> float:
        """The score, 0..1; 0 where there is nothing to divide by."""
        return float(self.above.sum() / self.below.sum()) if self.below.any() else 0.0


def tally(task: TaskName, gold: list, predicted: list) -> Tally:  # type: ignore[type-arg]
    """Return what each example adds to the task's own score."""
    if task == "xnli":
        right = np.asarray(gold) == np.asarray(predicted)
        return Tally(right.astype(np.float64), np.ones(len(gold)))
    counts = np.array([tally_spans(*pair) for pair in zip(gold, predicted, strict=True)], dtype=np.float64)
    return Tally(2 * counts[:, 0], counts[:, 1] + counts[:, 2])


def resamples(examples: int, times: int, seed: int) -> UInt8[np.ndarray, "times examples"]:
    """Return how often each example counts in each resample.

    Drawn from Poisson(1) one by one: the bootstrap for sums over many examples (Chamandy et al. 2012).
    """
    return np.random.default_rng(seed).poisson(1.0, (times, examples)).astype(np.uint8)


def drop_bound(plain: Tally, early: Tally, draws: UInt8[np.ndarray, "times examples"], confidence: float) -> float:
    """Return the drop of the score, in points, that is not exceeded with `confidence`.

    A paired bootstrap: both models are scored on the same resamples of the examples.
    """
    sums = np.stack([plain.above, plain.below, early.above, early.below], axis=1)
    per_draw = np.concatenate([part.astype(np.float64) @ sums for part in np.array_split(draws, 20)])
    scores = np.divide(per_draw[:, ::2], per_draw[:, 1::2], out=np.zeros((len(draws), 2)), where=per_draw[:, 1::2] > 0)
    return float(100 * np.quantile(scores[:, 0] - scores[:, 1], confidence))
