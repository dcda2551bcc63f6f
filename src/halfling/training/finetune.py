"""Fine-tuning an encoder on a task's training split."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from halfling.bounds import Count, Weight
from halfling.errors import HalflingError
from halfling.models.classifier import PLAIN, is_classifier
from halfling.models.load import load_model, load_tokenizer, origin_of
from halfling.models.shapes import require_room
from halfling.processes import together
from halfling.records import Counts, Progress, silent
from halfling.tasks.examples import understood
from halfling.tasks.task import Task
from halfling.training.imitate import (
    ImitationTrainer,
    load_imitated,
    require_text,
    take_classifier,
    text_rows,
)
from halfling.training.labelled import LabelledTraining, train_on_labels


class FinetuneSettings(LabelledTraining):
    """How an encoder learns a task."""

    from_scratch: bool = Field(False, description="random weights of the same shape: what pretraining is worth")
    soft_share: float = Field(
        0.0, ge=0, le=1, description="of a student's loss: imitate the fine-tuned teacher; the rest: the labels"
    )
    hidden_weight: Weight = Field(
        0.0, description="of the mean squared gap between a student's layers and its fine-tuned teacher's"
    )
    freeze_embeddings: bool = Field(
        False, description="word embeddings stay as they are: less to learn, and other languages keep their words"
    )
    text_sequences: Count = Field(
        0,
        description="sequences of the packed corpus, in the task's languages, no labels: imitate the teacher there "
        "too; each is read once at most, a part of them in every epoch",
    )

    @model_validator(mode="after")
    def _imitation_needs_a_share(self) -> "FinetuneSettings":
        for name in ("text_sequences", "hidden_weight"):
            if (value := getattr(self, name)) and not self.soft_share:
                raise ValueError(f"{name} {value:g}: to imitate a teacher: set soft_share above 0")
        return self


@together
def finetune(
    *,
    settings: FinetuneSettings,
    encoder: Path,
    task: Task,
    out: Path,
    teacher: Path | None = None,
    packed: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write ENCODER, fine-tuned on a task, as a plain Hugging Face classifier with its tokenizer and its task.

    Args:
        encoder: A folder with an XLM-R and its tokenizer, or an encoder of BERT's layout with XLM-R's vocabulary.
        task: Labelled data.
        teacher: A model fine-tuned for the same task, to imitate with `soft_share`.
        packed: A packed corpus, of the same tokenizer, to imitate the teacher on with `text_sequences`.

    Returns:
        `examples` learned from, how many of them were `truncated`, `steps`, and the training `curve`
        (step, loss in nats per label).

    Raises:
        HalflingError: The encoder, the teacher or the data cannot be read, they do not fit each other, or
            `max_tokens` is more than the encoder reads.
    """
    if not task.train:
        raise HalflingError(f"task {task.name}: no training data: give them with --train FILE")
    whole = understood(task)
    whole = whole.model_copy(update={"held_out": whole.held})
    model = _fresh_classifier(whole, encoder, settings)
    model.get_input_embeddings().weight.requires_grad_(not settings.freeze_embeddings)
    tokenizer = load_tokenizer(encoder, model)
    imitation = _imitation(whole, settings, model, tokenizer, teacher, packed)
    return train_on_labels(model, tokenizer, whole, settings, out, progress, **imitation) | origin_of(model)


def _imitation(
    task: Task,
    settings: FinetuneSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teacher: Path | None,
    packed: Path | None,
) -> dict[str, Any]:
    """Return what training needs besides to imitate the teacher, if there is one."""
    if (teacher is not None) != (settings.soft_share > 0):
        raise HalflingError(
            f"finetune: soft_share={settings.soft_share:g} and {'a' if teacher else 'no'} --teacher FOLDER: "
            "give both, or neither and soft_share=0"
        )
    require_text(settings.text_sequences, packed, task)
    if teacher is None:
        return {}
    imitated, classes = load_imitated(teacher, task, model.config.vocab_size, settings.max_tokens)
    if settings.hidden_weight and model.config.num_hidden_layers > imitated.config.num_hidden_layers:
        raise HalflingError(f"{teacher}: has fewer layers than its student: set hidden_weight=0")
    take_classifier(model, imitated, classes)
    found = {
        "trainer_class": ImitationTrainer,
        "teacher": imitated,
        "classes": classes,
        "soft_share": settings.soft_share,
        "hidden_weight": settings.hidden_weight,
        "states_gb": settings.states_gb,
    }
    if packed:
        found["more_rows"] = text_rows(packed, task, tokenizer, settings.text_sequences, settings)
    return found


def _fresh_classifier(task: Task, encoder: Path, settings: FinetuneSettings) -> PreTrainedModel:
    names = dict(enumerate(task.labels or ()))
    set_seed(settings.seed)  # of the classifier, which no encoder brings
    model = load_model(
        PLAIN[task.head],
        encoder,
        new=("classifier",),  # one with other classes included
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    require_room(model.config, settings.max_tokens, encoder)
    if settings.from_scratch:
        return PLAIN[task.head](model.config)
    if is_classifier(encoder):  # whose classes are others, or numbered otherwise
        fresh = PLAIN[task.head](model.config)
        fresh.roberta.load_state_dict(model.roberta.state_dict())
        return fresh
    return model
