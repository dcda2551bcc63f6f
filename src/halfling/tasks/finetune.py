"""Fine-tuning an encoder on one task's English train split."""

from functools import partial
from pathlib import Path

from pydantic import Field
from transformers import PreTrainedModel, set_seed

from halfling.checkpoints import BatchMeanTrainer, epochs_order, remove_checkpoints, train_resumably, training_arguments
from halfling.models.folder import load_model, load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, Seed, Settings, TaskName, silent
from halfling.tasks import TASKS, Task
from halfling.tasks.encode import IGNORED, pad_rows


class FinetuneSettings(Settings):
    """How an encoder learns a task."""

    task: TaskName = Field(description='"xnli" or "wikiann"')
    epochs: int = Field(3, gt=0, description="passes over the train split")
    batch_size: int = Field(32, gt=0, description="examples a step and device")
    learning_rate: float = Field(5e-5, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="of all steps")
    weight_decay: float = Field(0.01, ge=0)
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_train_examples: int | None = Field(None, gt=0, description="only the first so many; all")
    from_scratch: bool = Field(False, description="random weights of the same shape: what pretraining is worth")
    save_steps: int = Field(200, gt=0, multiple_of=25, description="a checkpoint every so many steps")
    seed: Seed = Field(0, description="of the classifier's first weights, dropout and the order of examples")


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
    task = TASKS[settings.task]
    model = _fresh_classifier(task, encoder, settings)
    tokenizer = load_tokenizer(encoder)
    # Saved before its first use: encoding leaves its truncation setting in the tokenizer.
    tokenizer.save_pretrained(out)
    examples = task.read(data, "train", "en")[: settings.max_train_examples]
    encoded = task.encode(examples, tokenizer, settings.max_tokens)
    # A sentence of nothing but unreadable words has no label; a batch of such would have no loss.
    rows = [row for row in encoded.rows if row["labels"] != [IGNORED] * len(row["input_ids"])]
    order = epochs_order(
        len(rows),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        lengths=[len(row["input_ids"]) for row in rows],
    )
    trainer = BatchMeanTrainer(
        model=model,
        args=training_arguments(
            out,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            save_steps=settings.save_steps,
        ),
        train_dataset=[rows[number] for number in order],
        data_collator=partial(pad_rows, pad_id=encoded.pad_id),
    )
    curve = train_resumably(trainer, progress)
    model.save_pretrained(out)
    remove_checkpoints(out)
    return {
        "examples": len(rows),
        "truncated": encoded.num_truncated,
        "steps": trainer.state.global_step,
        "curve": [{"step": entry["step"], "loss": round(entry["loss"], 4)} for entry in curve],
    }


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
