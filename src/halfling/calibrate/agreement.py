"""How far exits agree with full depth, which needs no labels, and how sure one may be of it."""

from collections.abc import Sequence
from math import log

import numpy as np
from jaxtyping import Float

from halfling.tasks.encode import Encoded
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.predict import answers
from halfling.tasks.score import Tally
from halfling.tasks.tags import OUTSIDE, as_iob2, is_prefixed
from halfling.tasks.task import Task

CONFIDENCE = 0.95
"""With which a bound of the disagreement holds."""


def as_answered(
    task: Task, examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]
) -> list[Example]:
    """Return examples labelled with what these logits say, [picked, classes] of each: full depth's own answers."""
    labels = task.labels or ()
    words = [len(one.words) for one in examples if isinstance(one, TaggedExample)]
    found: list[Example] = []
    for example, said in zip(examples, answers(logits, encoded, labels, words or None), strict=True):
        if isinstance(example, TaggedExample):
            tags = [tag or OUTSIDE for tag in said]
            whole = as_iob2(tags, prefixed=is_prefixed(labels)) if task.metric == "span F1" else tags
            found.append(example._replace(tags=tuple(whole)))
        else:
            found.append(example._replace(label=str(said)))
    return found


def disagreements(agreement: Tally) -> Float[np.ndarray, " counted"]:
    """Return what each text disagrees by, 0..1, given its tally against full depth's answers.

    Of a label 0 or 1; of spans one minus the F1 of both sets. A text in which neither finds a span is left out: it says
    nothing of an F1, and text of which most speaks of no names would make any disagreement small.
    """
    counted = agreement.below > 0
    return np.asarray(1 - agreement.above[counted] / agreement.below[counted])


def p_value(losses: Float[np.ndarray, " texts"], limit: float) -> float:
    """Return the probability of a mean as low as that of `losses`, if the true one were above `limit`; at most.

    Losses are 0..1 and drawn independently. Those that are 0 or 1 alone: the binomial tail. Else the bound of Hoeffding
    and Bentkus, as Angelopoulos et al. give it ("Learn then Test", https://arxiv.org/abs/2110.01052, proposition 2).
    """
    number = len(losses)
    if not number or limit <= 0:
        return 1.0
    if limit >= 1:
        return 0.0
    mean = float(losses.mean())
    if ((losses == 0) | (losses == 1)).all():
        return _binomial_tail(round(float(losses.sum())), number, limit)
    if mean >= limit:
        return 1.0
    hoeffding = float(np.exp(-number * _divergence(mean, limit)))
    bentkus = float(np.e) * _binomial_tail(int(np.ceil(number * mean - 1e-9)), number, limit)
    return min(1.0, hoeffding, bentkus)


def upper_bound(losses: Float[np.ndarray, " texts"], confidence: float = CONFIDENCE) -> float:
    """Return what the true mean of losses exceeds in at most a share `1 - confidence` of draws, 0..1.

    Of labels it is Clopper and Pearson's. Without losses it is 1.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(losses, middle) <= 1 - confidence else (middle, high)
    return high


def fewest(limit: float, confidence: float = CONFIDENCE) -> int:
    """Return how many texts show that a mean is at most `limit` where none disagrees; 0 for 0, which nothing shows."""
    return 0 if limit <= 0 else int(np.ceil(log(1 - confidence) / log(1 - limit)))


def _binomial_tail(most: int, number: int, share: float) -> float:
    """Return the probability of at most `most` in `number` draws of probability `share`."""
    hits = np.arange(min(most, number) + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
    logs = factorials[number] - factorials[hits] - factorials[number - hits]
    return float(min(1.0, np.exp(logs + hits * log(share) + (number - hits) * log(1 - share)).sum()))


def _divergence(mean: float, limit: float) -> float:
    """Return the Kullback-Leibler divergence of one coin from another, in nats."""
    parts = ((mean, limit), (1 - mean, 1 - limit))
    return sum(one * log(one / other) for one, other in parts if one > 0)
