"""Training on a task's English train split: what fine-tuning and exits share."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halfling.records import Counts, Progress, Seed, TaskName
from halfling.tasks import TASKS
from halfling.tasks.encode import IGNORED, pad_rows
from halfling.training.order import epochs_order
from halfling.training.trainer import BatchMeanTrainer, TrainingSettings, train_resumably, training_arguments


class EnglishTraining(TrainingSettings):
    """How long, how fast and on how much of the train split."""

    task: TaskName = Field(description='"xnli" or "wikiann"')
    epochs: int = Field(3, gt=0, description="passes over the train split")
    batch_size: int = Field(32, gt=0, description="examples a step and device")
    learning_rate: float = Field(5e-5, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="of all steps")
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_train_examples: int | None = Field(None, gt=0, description="only the first so many; all")
    seed: Seed = Field(0, description="of new weights, dropout and the order of examples")


def train_on_english(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: EnglishTraining,
    data: str | Path,
    out: Path,
    progress: Progress,
    trainer_class: type[BatchMeanTrainer] = BatchMeanTrainer,
    more_rows: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> Counts:
    """Train `model` in place, resumably; its checkpoints below `out` are the caller's to remove.

    A `trainer_class` with a loss of its own is made with `more` besides the arguments of a Trainer, and may learn from
    `more_rows` than the train split has.

    Returns:
        `examples` learned from, how many of them were `truncated`, `steps`, and the training `curve`
        (step, loss in nats per label).

    Raises:
        HalflingError: The data cannot be read.
    """
    task = TASKS[settings.task]
    examples = task.read(data, "train", "en")[: settings.max_train_examples]
    encoded = task.encode(examples, tokenizer, settings.max_tokens)
    # A sentence of nothing but unreadable words has no label; a batch of such would have no loss.
    rows = [row for row in encoded.rows if row["labels"] != [IGNORED] * len(row["input_ids"])] + [*more_rows]
    order = epochs_order(
        len(rows),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        lengths=[len(row["input_ids"]) for row in rows],
    )
    trainer = trainer_class(
        model=model,
        args=training_arguments(out, settings),
        train_dataset=[rows[number] for number in order],
        data_collator=partial(pad_rows, pad_id=encoded.pad_id),
        **more,
    )
    curve = train_resumably(trainer, progress)
    return {
        "examples": len(rows) - len(more_rows),
        "truncated": encoded.num_truncated,
        "steps": trainer.state.global_step,
        "curve": [{"step": entry["step"], "loss": round(entry["loss"], 4)} for entry in curve],
    }
