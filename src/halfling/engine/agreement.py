"""How far an answer is from the one at full depth."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from halfling.engine.adaptive import AdaptiveEngine
from halfling.engine.answer import Answer
from halfling.engine.prediction import Prediction
from halfling.tasks.encoded import Encoded
from halfling.tasks.tags import OUTSIDE, is_prefixed, spans


def disagreement(early: Prediction, full: Prediction, labels: Sequence[str]) -> float | None:
    """Return by how much an answer to a text differs from that at full depth, 0..1; None where there is nothing to say.

    Of a label 0 or 1; of a tagger one minus the F1 of both sets of spans, None where neither has a span; of tags that
    are no spans the share of answered words with another tag. As calibration counts it (`calibrate/agreement.py`).

    Args:
        early: The answer by a policy.
        full: That to the same text, by nobody exiting early.
        labels: The model's.
    """
    if early.tags is None or full.tags is None:
        return None if full.label is None else float(early.label != full.label)
    prefixed = is_prefixed(labels)
    if not prefixed and OUTSIDE not in labels:
        pairs = zip(early.tags, full.tags, strict=True)
        differ = [one != other for one, other in pairs if one is not None or other is not None]
        return sum(differ) / len(differ) if differ else None
    one, other = ({*spans([tag or OUTSIDE for tag in each.tags or ()], prefixed=prefixed)} for each in (early, full))
    return 1 - 2 * len(one & other) / (len(one) + len(other)) if one or other else None


def at_full_depth(engine: AdaptiveEngine, sequences: Sequence[Encoded], answers: Sequence[Answer]) -> Iterator[Answer]:
    """Yield the answer at full depth to each sequence, given those by a policy.

    They are computed one by one, as they are asked for, so that a service can answer others meanwhile; those from which
    nothing exited early are at full depth.
    """
    last = engine.exported.shape.num_layers
    for sequence, answer in zip(sequences, answers, strict=True):
        is_early = min(answer.token_layers or (answer.exit_layer,)) < last
        yield engine.answer([sequence], leave_after=[last])[0] if is_early else answer


def disagreements(
    engine: AdaptiveEngine, texts: Iterable[Any], language: str | None
) -> tuple[Float[np.ndarray, " counted"], Int[np.ndarray, " counted"]]:
    """Return what each text's answer by a language's set differs by from that at full depth, 0..1, and its layer.

    Texts are as `AdaptiveEngine.predict` takes them; those of which there is nothing to say are left out.
    """
    questions, policy = engine.prepare(texts), engine.policy(language)
    sequences = [part for one in questions for part in one.sequences]
    answers = engine.answer(sequences, policy=policy)
    full = [*at_full_depth(engine, sequences, answers)]
    pairs = zip(engine.read(questions, answers), engine.read(questions, full), strict=True)
    found = [(disagreement(early, late, engine.exported.labels), early.exit_layer) for early, late in pairs]
    counted = [(loss, layer) for loss, layer in found if loss is not None]
    return np.array([loss for loss, _ in counted], float), np.array([layer for _, layer in counted], int)
