"""Fine-tuning an encoder on one task's English train split."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from halfling.errors import HalflingError
from halfling.fingerprint import reading
from halfling.models.load import load_model, load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks import TASKS, Task
from halfling.tasks.sources import labelled_files
from halfling.training.imitate import ImitationTrainer, unlabelled_rows
from halfling.training.labelled import EnglishTraining, train_on_english
from halfling.training.trainer import remove_checkpoints


class FinetuneSettings(EnglishTraining):
    """How an encoder learns a task."""

    from_scratch: bool = Field(False, description="random weights of the same shape: what pretraining is worth")
    soft_share: float = Field(
        0.0, ge=0, le=1, description="of a student's loss: imitate the fine-tuned teacher; the rest: the labels"
    )
    text_sequences: int = Field(
        0, ge=0, description="sequences of the packed corpus, all languages, no labels: imitate the teacher there too"
    )

    @model_validator(mode="after")
    def _text_is_for_taggers_that_imitate(self) -> "FinetuneSettings":
        if self.text_sequences and (self.task != "wikiann" or not self.soft_share):
            raise ValueError(
                f"text_sequences {self.text_sequences}: for a tagger (wikiann) that imitates (soft_share above 0)"
            )
        return self


@reading(data=labelled_files)
def finetune(
    *,
    settings: FinetuneSettings,
    encoder: Path,
    data: str | Path,
    out: Path,
    teacher: Path | None = None,
    packed: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write the fine-tuned model as a plain Hugging Face classifier with its tokenizer.

    Args:
        settings: The task and how it is learned.
        encoder: A folder with an XLM-R (a masked language model) and its tokenizer.
        data: A data folder, a folder in the hub's form, or "hub".
        teacher: A model that `finetune` wrote for the same task, to imitate with `soft_share`.
        packed: A packed corpus, of the same tokenizer, to imitate the teacher on with `text_sequences`.
        out: Where to write; an interrupted try's checkpoints in it are gone on from.
        progress: Told of every step.

    Returns:
        `examples` learned from, how many of them were `truncated`, `steps`, and the training `curve`
        (step, loss in nats per label).

    Raises:
        HalflingError: The encoder, the teacher or the data cannot be read, they do not fit each other, or
            `max_tokens` is more than the encoder reads.
    """
    model = _fresh_classifier(TASKS[settings.task], encoder, settings)
    tokenizer = load_tokenizer(encoder)
    # Saved before its first use: encoding leaves its truncation setting in the tokenizer.
    tokenizer.save_pretrained(out)
    imitation = _imitation(settings, model, tokenizer, teacher, packed)
    counts = train_on_english(model, tokenizer, settings, data, out, progress, **imitation)
    model.save_pretrained(out)
    remove_checkpoints(out)
    return counts


def _imitation(
    settings: FinetuneSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teacher: Path | None,
    packed: Path | None,
) -> dict[str, Any]:
    """Return what training needs besides to imitate the teacher, if there is one."""
    for name, folder, setting in (("teacher", teacher, "soft_share"), ("packed", packed, "text_sequences")):
        if (folder is not None) != (getattr(settings, setting) > 0):
            raise HalflingError(
                f"finetune: {setting}={getattr(settings, setting):g} and {'a' if folder else 'no'} --{name} FOLDER: "
                f"give both, or neither and {setting}=0"
            )
    if teacher is None:
        return {}
    imitated = load_model(TASKS[settings.task].model_class, teacher)
    require_room(imitated.config, settings.max_tokens, teacher)
    for name in ("vocab_size", "id2label"):
        own, theirs = getattr(model.config, name), getattr(imitated.config, name)
        if own != theirs:
            raise HalflingError(
                f"{teacher}: its {name} is {theirs}, not {own}: name a teacher of the same task and words"
            )
    found = {"trainer_class": ImitationTrainer, "teacher": imitated, "soft_share": settings.soft_share}
    if packed:
        found["more_rows"] = unlabelled_rows(
            packed, settings.text_sequences, tokenizer, settings.max_tokens, settings.seed
        )
    return found


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
