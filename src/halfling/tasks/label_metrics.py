"""Scores of whole labels, for XNLI."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What a model scores on a task, both 0..1.

    Attributes:
        accuracy: Of labels (XNLI) or of tokens (WikiANN).
        f1: Macro F1 (XNLI) or span F1 (WikiANN).
    """

    accuracy: float
    f1: float


def score_labels(gold: Sequence[int], predicted: Sequence[int]) -> Score:
    """Return accuracy and macro F1.

    A class counts in the mean when it is in `gold` or in `predicted`, as in scikit-learn's default.

    Raises:
        ValueError: The two differ in length, or are empty.
    """
    if len(gold) != len(predicted) or not gold:
        raise ValueError(
            f"expected as many predictions as labels and at least one, came {len(predicted)} for {len(gold)}"
        )
    hits = Counter(g for g, p in zip(gold, predicted, strict=True) if g == p)
    marked = Counter(gold) + Counter(predicted)
    per_class = [2 * hits[label] / count for label, count in marked.items()]
    return Score(accuracy=hits.total() / len(gold), f1=sum(per_class) / len(per_class))
