"""How much training reads of a task, told before any tokenizer is there."""

from typing import NamedTuple

from halfling.corpus.plan import BYTES_PER_TOKEN
from halfling.errors import HalflingError
from halfling.languages import CC100
from halfling.tasks import presets
from halfling.tasks.examples import Example, TaggedExample, read_examples
from halfling.tasks.task import Task


class Extent(NamedTuple):
    """Examples, and their tokens together, special ones included."""

    examples: int
    tokens: int


def train_extent(task: Task, max_tokens: int, most: int | None = None) -> Extent | None:
    """Return what one pass over the training split reads, at most `most` examples of each language.

    Of files here the examples are counted and tokens are estimated by the bytes of their text. Of a preset's data set
    on the hub both are what the preset says: nothing is fetched.

    Returns:
        None where nobody knows: a file is not there yet or cannot be read, or a data set on the hub is no preset's.
    """
    found = Extent(0, 0)
    for language, source in task.train.items():
        part = _on_hub(source, most) if source.startswith("hub:") else _here(task, language, max_tokens, most)
        if part is None:
            return None
        found = Extent(found.examples + part.examples, found.tokens + part.tokens)
    return found


def _here(task: Task, language: str, max_tokens: int, most: int | None) -> Extent | None:
    try:
        examples = read_examples(task, "train", language)[:most]
    except HalflingError:
        return None
    script = CC100[language].scripts[0] if language in CC100 else "Latn"
    return Extent(
        len(examples), sum(min(max_tokens, _tokens(example, BYTES_PER_TOKEN[script])) for example in examples)
    )


def _tokens(example: Example, bytes_per_token: float) -> int:
    if isinstance(example, TaggedExample):
        return 2 + max(len(example.words), round(len(" ".join(example.words).encode()) / bytes_per_token))
    pair = example.text_pair
    size = len(example.text.encode()) + len((pair or "").encode())
    return (2 if pair is None else 4) + round(size / bytes_per_token)


def _on_hub(source: str, most: int | None) -> Extent | None:
    known = presets.on_hub(source.split(":")[1])
    if known is None:
        return None
    examples = min(known["train_examples"], most or known["train_examples"])
    return Extent(examples, round(examples * known["train_tokens"]))
