"""From the network's answers to what a request's contract wants of them."""

from collections.abc import Sequence
from typing import Any

from halfling.engine import Answer, Prediction
from halfling.engine.questions import Question, read_words
from halfling.serve.model import Answered, Served
from halfling.serve.schemas import TextParameters, TokenParameters
from halfling.tasks.tags import OUTSIDE, is_prefixed

Entry = dict[str, Any]


def labels_of(
    served: Served, answered: Answered, *, raw: bool, exits: bool, asked: TextParameters | None = None
) -> list[list[Entry]]:
    """Return each text's labels, the likeliest first."""
    raw = raw or (asked is not None and asked.function_to_apply == "none")
    found = []
    for prediction, (answer,) in zip(served.read(answered), answered.answers, strict=True):
        scores = prediction.scores or {}
        if raw:
            scores = dict(zip(served.exported.labels, answer.logits[0].tolist(), strict=True))
        left: Entry = {"exit_layer": answer.exit_layer, "uncertainty": answer.uncertainty, "policy": answered.policy}
        more = left if exits else {}
        ranked = sorted(scores.items(), key=lambda one: -one[1])[: asked.top_k if asked else None]
        found.append([{"score": score, "label": label, **more} for label, score in ranked])
    return found


def entities_of(served: Served, answered: Answered, *, exits: bool, asked: TokenParameters | None = None) -> list[Any]:
    """Return each text's entities, or its words where that is asked for or the tags make no entities."""
    asked = asked or TokenParameters()
    labels = served.exported.labels
    no_entities = OUTSIDE not in labels and not is_prefixed(labels)  # parts of speech, for instance
    by_word = asked.aggregation_strategy == "none" or (asked.aggregation_strategy is None and no_entities)
    ignored = {OUTSIDE} if asked.ignore_labels is None else {*asked.ignore_labels}
    found: list[Any] = []
    for question, answers, said in zip(answered.questions, answered.answers, served.read(answered), strict=True):
        entities = _words(question, answers, labels) if by_word else _spans(said)
        kept = [one for one in entities if one["entity" if by_word else "entity_group"] not in ignored]
        left = {"exit_layer": said.exit_layer, "uncertainty": said.uncertainty, "policy": answered.policy}
        told = {"entities": kept, **left}
        found.append(told if exits else kept)
    return found


def _spans(said: Prediction) -> list[Entry]:
    return [
        {"entity_group": one.label, "score": one.score, "word": one.text, "start": one.start, "end": one.end}
        for one in said.spans or ()
    ]


def _words(question: Question, answers: Sequence[Answer], labels: Sequence[str]) -> list[Entry]:
    ((tags, sure),) = read_words([question], answers, labels)
    tagged = zip(tags, sure, question.places, strict=True)
    return [
        {"entity": tag, "score": score, "word": question.text[start:end], "start": start, "end": end}
        for tag, score, (start, end) in tagged
        if tag is not None
    ]
