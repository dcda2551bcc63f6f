"""Sentences of the task's own dev splits, that an export is scaled and checked on."""

from itertools import zip_longest
from typing import Any, NamedTuple

from halfling.export.trained import Trained
from halfling.tasks.encode import encode
from halfling.tasks.examples import Example, TaggedExample, dev_examples
from halfling.tasks.task import Task

_NUM_SENTENCES = 256
_A_LANGUAGE = 64
_CALIBRATION = 384


class Sentences(NamedTuple):
    """What a model is scaled and checked on.

    Attributes:
        ids: Of the training languages' dev splits, token ids with special tokens: what transformers reads.
        calibration: Of all dev splits, likewise: what int8 weights are rounded for. Their labels are not looked at.
        texts: Of all dev splits, for comparing tokenizers.
    """

    ids: list[list[int]]
    calibration: list[list[int]]
    texts: list[str]


def sentences(trained: Trained, task: Task) -> Sentences:
    """Return dev sentences of a task.

    Raises:
        HalflingError: The data cannot be read.
    """
    own = _in_turns(dev_examples(task, task.source_languages, _NUM_SENTENCES))[:_NUM_SENTENCES]
    others = _in_turns(dev_examples(task, task.languages, _A_LANGUAGE))
    ids, calibration = (
        [one.ids.tolist() for one in encode(some, trained.tokenizer, trained.shape.max_tokens)]
        for some in (own, others[:_CALIBRATION])
    )
    return Sentences(ids, calibration, [text for one in (*own, *others) for text in _texts(one)])


def _in_turns(each: dict[str, list[Any]]) -> list[Any]:
    """Return all examples, so that a part of them holds every language."""
    return [one for turn in zip_longest(*each.values()) for one in turn if one is not None]


def _texts(example: Example) -> tuple[str, ...]:
    if isinstance(example, TaggedExample):
        return example.words
    return (example.text,) if example.text_pair is None else (example.text, example.text_pair)
