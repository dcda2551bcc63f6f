"""Sentences of the task's own dev splits, that an export is scaled and checked on."""

from itertools import zip_longest
from typing import NamedTuple

from halfling.export.trained import Trained
from halfling.tasks.encode import encode
from halfling.tasks.examples import Example, TaggedExample, dev_examples
from halfling.tasks.task import Task

_NUM_SENTENCES = 256
_A_LANGUAGE = 64


class Sentences(NamedTuple):
    """What a model is scaled and checked on.

    Attributes:
        ids: Of the training languages' dev splits, token ids with special tokens: what transformers reads.
        texts: Of all dev splits, for comparing tokenizers.
    """

    ids: list[list[int]]
    texts: list[str]


def sentences(trained: Trained, task: Task) -> Sentences:
    """Return dev sentences of a task.

    Raises:
        HalflingError: The data cannot be read.
    """
    each = dev_examples(task, task.source_languages, _NUM_SENTENCES)
    # In turns, so that a part of them holds every language.
    turns = zip_longest(*each.values())
    own = [one for turn in turns for one in turn if one is not None][:_NUM_SENTENCES]
    others = [one for some in dev_examples(task, task.languages, _A_LANGUAGE).values() for one in some]
    encoded = encode(own, trained.tokenizer, trained.shape.max_tokens)
    return Sentences([one.ids.tolist() for one in encoded], [text for one in (*own, *others) for text in _texts(one)])


def _texts(example: Example) -> tuple[str, ...]:
    if isinstance(example, TaggedExample):
        return example.words
    return (example.text,) if example.text_pair is None else (example.text, example.text_pair)
