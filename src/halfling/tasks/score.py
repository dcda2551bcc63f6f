"""Scores of a task, each a ratio of sums over examples, so that any resample is a sum away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.tags import fitted, is_prefixed, spans
from halfling.tasks.task import Task

Answer = str | Sequence[str | None]
"""A label, or a tag for each word of a sentence; None for a word that has no answer."""


@dataclass(frozen=True)
class Tally:
    """What each example adds to both sides of a score: score = sum(above) / sum(below).

    Accuracy: right answers over answers. Span F1: twice the right spans over found and wanted ones, as seqeval 1.2.2
    counts in its default mode, which is the score that XTREME reports (https://github.com/chakki-works/seqeval).
    """

    above: Float[np.ndarray, " examples"]
    below: Float[np.ndarray, " examples"]

    @property
    def score(self) -> float:
        """The score, 0..1; 0 where there is nothing to divide by."""
        return float(self.above.sum() / self.below.sum()) if self.below.any() else 0.0


@dataclass(frozen=True)
class Score:
    """What a model scores, each 0..1.

    Attributes:
        value: By the task's own metric.
        accuracy: Of texts, or of words.
        f1: Macro F1 over the classes, or F1 of spans; of tags that are no spans, macro F1 over them.
    """

    value: float
    accuracy: float
    f1: float


def tally(task: Task, examples: Sequence[Example], answers: Sequence[Answer]) -> Tally:
    """Return what each example adds to the score that calibration holds: span F1 for spans, accuracy for the rest.

    Raises:
        ValueError: There is not an answer for each example, or for each word of one.
    """
    if task.metric == "span F1":
        prefixed = is_prefixed(task.labels or ())
        counts = np.zeros((len(examples), 3))
        for row, (gold, given) in enumerate(_pairs(task, examples, answers)):
            wanted, found = (
                {*spans(gold, prefixed=prefixed)},
                {*spans([tag or "O" for tag in given], prefixed=prefixed)},
            )
            counts[row] = len(wanted & found), len(found), len(wanted)
        return Tally(2 * counts[:, 0], counts[:, 1] + counts[:, 2])
    pairs = [*_pairs(task, examples, answers)]
    return Tally(
        np.array([sum(a == b for a, b in zip(*pair, strict=True)) for pair in pairs], dtype=np.float64),
        np.array([len(gold) for gold, _ in pairs], dtype=np.float64),
    )


def score(task: Task, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
    """Return the scores of answers; labels are compared by name.

    A class counts in macro F1 when it is among the right labels or the answers, as in scikit-learn's default.

    Raises:
        ValueError: There is not an answer for each example, or for each word of one, or nothing to score.
    """
    pairs = [(a, b) for gold, given in _pairs(task, examples, answers) for a, b in zip(gold, given, strict=True)]
    if not pairs:
        raise ValueError("expected at least one example with an answer, came none")
    hits = Counter(a for a, b in pairs if a == b)
    marked = Counter(a for a, _ in pairs) + Counter(b for _, b in pairs if b is not None)
    accuracy = hits.total() / len(pairs)
    if task.metric == "span F1":
        f1 = tally(task, examples, answers).score
    else:
        f1 = sum(2 * hits[label] / count for label, count in marked.items()) / len(marked)
    return Score(value=accuracy if task.metric == "accuracy" else f1, accuracy=accuracy, f1=f1)


def _pairs(task: Task, examples: Sequence[Example], answers: Sequence[Answer]) -> Any:
    """Yield the right labels, in the scheme of the task's, and the answers of each example."""
    if len(examples) != len(answers):
        raise ValueError(f"expected an answer for each of {len(examples)} examples, came {len(answers)}")
    for number, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        if isinstance(example, TaggedExample):
            own = fitted(example.tags, task.labels or ())
            gold: Sequence[str] = [tag if name is None else name for tag, name in zip(example.tags, own, strict=True)]
        else:
            gold = (example.label,)
        given = (answer,) if isinstance(answer, str) else answer
        if len(gold) != len(given):
            raise ValueError(f"example {number}: expected {len(gold)} answers, came {len(given)}")
        yield gold, given
