"""The two tasks, inference and named entities: read, encode, fine-tune, predict, score.

`TASKS` says of each task what sets it apart; everything else here works for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from transformers import XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification

from halfling.records import TaskName
from halfling.tasks import wikiann, xnli
from halfling.tasks.encode import Encoded, encode_wikiann, encode_xnli
from halfling.tasks.label_metrics import Score, score_labels
from halfling.tasks.span_metrics import score_tags


@dataclass(frozen=True)
class Task:
    """What sets a task apart.

    Attributes:
        name: As recipes and results write it.
        labels: Names of the classes, in the order of their numbers.
        read: (source, split, language) -> examples, in the order of the data.
        encode: (examples, tokenizer, max_tokens) -> what a model reads.
        score: (gold, predicted) -> accuracy and F1.
        headline: The score that the task is judged by.
        model_class: The plain Hugging Face model that is fine-tuned for it.
    """

    name: TaskName
    labels: tuple[str, ...]
    read: Callable[..., list[Any]]
    encode: Callable[..., Encoded]
    score: Callable[..., Score]
    headline: Literal["accuracy", "f1"]
    model_class: type[XLMRobertaForSequenceClassification] | type[XLMRobertaForTokenClassification]


TASKS: dict[TaskName, Task] = {
    "xnli": Task(
        name="xnli",
        labels=xnli.LABELS,
        read=xnli.read_xnli,
        encode=encode_xnli,
        score=score_labels,
        headline="accuracy",
        model_class=XLMRobertaForSequenceClassification,
    ),
    "wikiann": Task(
        name="wikiann",
        labels=wikiann.LABELS,
        read=wikiann.read_wikiann,
        encode=encode_wikiann,
        score=score_tags,
        headline="f1",
        model_class=XLMRobertaForTokenClassification,
    ),
}

__all__ = ["TASKS", "Encoded", "Score", "Task"]
