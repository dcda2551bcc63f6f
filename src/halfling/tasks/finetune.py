"""Fine-tuning an encoder on one task's English train split."""

from pathlib import Path

from pydantic import Field
from transformers import PreTrainedModel, set_seed

from halfling.checkpoints import remove_checkpoints
from halfling.models.folder import load_model, load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks import TASKS, Task
from halfling.tasks.english import EnglishTraining, train_on_english


class FinetuneSettings(EnglishTraining):
    """How an encoder learns a task."""

    from_scratch: bool = Field(False, description="random weights of the same shape: what pretraining is worth")


def finetune(
    *, settings: FinetuneSettings, encoder: Path, data: str | Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write the fine-tuned model as a plain Hugging Face classifier with its tokenizer.

    Args:
        settings: The task and how it is learned.
        encoder: A folder with an XLM-R (a masked language model) and its tokenizer.
        data: A data folder, a folder in the hub's form, or "hub".
        out: Where to write; an interrupted try's checkpoints in it are gone on from.
        progress: Told of every step.

    Returns:
        `examples` learned from, how many of them were `truncated`, `steps`, and the training `curve`
        (step, loss in nats per label).

    Raises:
        HalflingError: The encoder or the data cannot be read, or `max_tokens` is more than the encoder reads.
    """
    model = _fresh_classifier(TASKS[settings.task], encoder, settings)
    tokenizer = load_tokenizer(encoder)
    # Saved before its first use: encoding leaves its truncation setting in the tokenizer.
    tokenizer.save_pretrained(out)
    counts = train_on_english(model, tokenizer, settings, data, out, progress)
    model.save_pretrained(out)
    remove_checkpoints(out)
    return counts


def _fresh_classifier(task: Task, encoder: Path, settings: FinetuneSettings) -> PreTrainedModel:
    names = dict(enumerate(task.labels))
    set_seed(settings.seed)  # of the classifier, which no encoder brings
    model = load_model(
        task.model_class,
        encoder,
        new=("classifier",),
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    require_room(model.config, settings.max_tokens, encoder)
    return task.model_class(model.config) if settings.from_scratch else model
