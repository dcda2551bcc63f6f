"""Whether an exported model says what the trained one says."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import BackendName
from halfling.exits.policy import ExitPolicy
from halfling.export.sentences import Sentences
from halfling.export.trained import Trained
from halfling.records import Record


class Agreement(Record):
    """How an exported model's answers compare with torch's, exits off, sentence by sentence."""

    backend: BackendName
    num_sentences: int
    largest_difference: float = Field(description="between any two logits")
    equal_labels: float = Field(description="share of the answers (words of a tagger) with the same label, 0..1")


def agreement(trained: Trained, examples: Sentences, out: Path, backend: BackendName, num: int = 64) -> Agreement:
    """Compare all exits of an exported model with the trained one's on the first `num` sentences.

    Torch reads one sentence at a time, the engine packs them all.
    """
    engine = AdaptiveEngine.from_pretrained(out, backend)
    some = [ids for ids in examples.ids if len(ids) > 2][:num]  # of words that are all unreadable nothing is left
    # Every token of a tagger but the special ones, so that none escapes the comparison.
    by_token = trained.kind == "token"
    sequences = [Encoded(np.array(ids), np.arange(1, len(ids) - 1) if by_token else np.arange(1)) for ids in some]
    largest, equal = 0.0, []
    expected = [trained.exit_logits(one.ids.tolist()) for one in sequences]
    policy = engine.exported.at_ends(engine.exported.policy)
    if backend == "native":  # it has every exit; a service lets callers choose others than those in use
        policy = ExitPolicy.uniform(tuple(expected[0]) if expected else policy.layers, 0.0)
    for layer in policy.layers:
        answers = engine.answer(sequences, [layer] * len(sequences), policy)
        for one, answer, logits in zip(sequences, answers, expected, strict=True):
            wanted: Any = logits[layer].numpy().reshape(-1, len(trained.labels))[one.picked]
            largest = float(np.maximum(largest, np.abs(answer.logits - wanted).max()))  # a NaN stays
            equal += (answer.logits.argmax(axis=-1) == wanted.argmax(axis=-1)).tolist()
    return Agreement(
        backend=backend, num_sentences=len(sequences), largest_difference=largest, equal_labels=float(np.mean(equal))
    )
