"""How far exits agree with full depth, which needs no labels; how sure one may be of it says `exits/bound.py`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.predict import answers
from halfling.tasks.score import Tally
from halfling.tasks.tags import OUTSIDE, as_iob2, is_prefixed
from halfling.tasks.task import Task


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
