"""Sentences that an export is calibrated and checked on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfling.errors import HalflingError
from halfling.export.trained import TASK_OF, Trained
from halfling.models.load import load_tokenizer
from halfling.sample.write import SampleSettings, write_sample
from halfling.tasks import TASKS

_NUM_SENTENCES = 256
_LANGUAGES = ("en", "ru", "hi", "tr", "sw", "ur")


@dataclass(frozen=True)
class Sentences:
    """What a model is calibrated and checked on.

    Attributes:
        ids: Pairs of texts, or lists of words, as token ids with special tokens: what transformers reads.
        texts: Of six languages, for comparing tokenizers.
    """

    ids: list[list[int]]
    texts: list[str]


def sentences(trained: Trained, model: Path, data: str | Path | None) -> Sentences:
    """Return English dev sentences of `data`, or of the embedded sample when it is None.

    Raises:
        HalflingError: The data or the tokenizer cannot be read, or the tokenizer is another model's.
    """
    task = TASKS[TASK_OF[trained.kind]]
    with tempfile.TemporaryDirectory() as folder:
        write_sample(settings=SampleSettings(lines=2, train_sentences=1), out=Path(folder))
        sample = {code: task.read(folder, "dev", code) for code in _LANGUAGES}
    examples = (sample["en"] if data is None else task.read(data, "dev", "en"))[:_NUM_SENTENCES]
    tokenizer = load_tokenizer(model)
    if len(tokenizer) > trained.shape.vocab_size:
        raise HalflingError(
            f"{model}: its tokenizer has {len(tokenizer)} pieces, the model {trained.shape.vocab_size}: "
            "save the model with its own tokenizer"
        )
    encoded = task.encode(examples, tokenizer, trained.shape.max_tokens)
    texts = [text for some in (*sample.values(), examples) for example in some for text in _texts(example)]
    return Sentences([row["input_ids"] for row in encoded.rows], texts)


def _texts(example: Any) -> Any:
    return example.tokens if hasattr(example, "tokens") else (example.premise, example.hypothesis)
