"""Training on a task's labels: what fine-tuning and exits share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halfling import processes
from halfling.bounds import Count, Rate, Repeats, Seed, Size, Weight
from halfling.errors import HalflingError
from halfling.models.on_cpu import computing_on_cpu
from halfling.records import Counts, Progress
from halfling.tasks.encode import IGNORED, encode, training_row
from halfling.tasks.examples import read_examples
from halfling.tasks.predict import pad
from halfling.tasks.task import Task
from halfling.training.arguments import TrainingSettings, training_arguments
from halfling.training.order import epochs_order
from halfling.training.trainer import BatchMeanTrainer, counted_by_all, train_resumably


class LabelledTraining(TrainingSettings):
    """How long, how fast and on how much of the training split."""

    epochs: Repeats = Field(3, gt=0, description="passes over the training split")
    batch_size: Size = Field(32, gt=0, description="examples a step")
    learning_rate: Rate = Field(5e-5)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="of all steps")
    max_tokens: Size = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_train_examples: Count | None = Field(None, gt=0, description="only the first so many of each language; all")
    states_gb: Weight = Field(
        16.0,
        exclude=True,
        description="what stays from pass to pass (what a teacher says, a frozen encoder's states) is computed once "
        "if it takes no more of the disk, 10^9 bytes, else every time",
    )
    seed: Seed = Field(0, description="of new weights, dropout and the order of examples")


class LabelledTrainer(BatchMeanTrainer):
    """A Trainer whose loss is the model's own, a mean over all labels that a step reads."""

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *given: Any, **more: Any) -> Any:
        """Return the loss of a batch, weighed by this process's share of the labels."""
        found = super().compute_loss(model, inputs, *given, **more)
        labels = (inputs["labels"] != IGNORED).sum()
        return found * (labels / counted_by_all(labels))


def train_on_labels(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    settings: LabelledTraining,
    out: Path,
    progress: Progress,
    trainer_class: type[BatchMeanTrainer] = LabelledTrainer,
    more_rows: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> Counts:
    """Train `model` resumably, and write it with its tokenizer and its task into `out`.

    A `trainer_class` with a loss of its own is made with `more` besides the arguments of a Trainer, and may learn from
    `more_rows` than the training split has, each of which at most one epoch reads. `task.labels` are in the model's
    order. Several processes share each batch.

    Returns:
        `examples` learned from, how many of them were `truncated`, `steps`, and the training `curve`
        (step, loss in nats per label).

    Raises:
        HalflingError: The data cannot be read, processes share no batch evenly, or `report_to` cannot be met.
    """
    # Before anything is written: a refused run leaves nothing.
    arguments = training_arguments(out, settings.model_copy(update={"batch_size": _own_share(settings.batch_size)}))
    split = [read_examples(task, "train", language)[: settings.max_train_examples] for language in task.train]
    for language in task.dev:  # a label that training has not, or a missing file, is said now, not hours later
        read_examples(task, "dev", language)
    # Saved before its first use: encoding leaves its truncation setting in the tokenizer.
    leads = not processes.follows()
    if leads:
        tokenizer.save_pretrained(out)
    rows: list[dict[str, Any]] = []
    truncated = 0
    for examples in split:
        encoded = encode(examples, tokenizer, settings.max_tokens)
        truncated += sum(one.truncated for one in encoded)
        rows += [training_row(*pair, task.labels or ()) for pair in zip(examples, encoded, strict=True)]
    # A sentence of nothing but unreadable words has no label; a batch of such would have no loss.
    rows = [row for row in rows if row["labels"] != [IGNORED] * len(row["input_ids"])] + [*more_rows]
    lengths = [len(row["input_ids"]) for row in rows]
    an_epoch = len(rows) - len(more_rows) + len(more_rows) // settings.epochs
    if not an_epoch:
        raise HalflingError(f"task {task.name}: no example of train has a label that can be read: mend the data")
    if processes.number() > 1 and an_epoch < settings.batch_size:
        raise HalflingError(f"training: an epoch's {an_epoch} examples fill no batch to share: set batch_size lower")
    # Of fewer examples than a batch each epoch is a batch: several epochs in one would be one step.
    size = min(settings.batch_size, an_epoch)
    arguments.per_device_train_batch_size = min(arguments.per_device_train_batch_size, size)
    order = epochs_order(
        lengths,
        epochs=settings.epochs,
        batch_size=size,
        seed=settings.seed,
        once=len(more_rows),
    )
    pad_id: int = model.config.pad_token_id

    def collate(some: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        labels = [torch.tensor(row["labels"]) for row in some]
        per_token = labels[0].dim() == 1
        together = pad_sequence(labels, batch_first=True, padding_value=IGNORED) if per_token else torch.stack(labels)
        return {**pad([row["input_ids"] for row in some], pad_id), "labels": together}

    if arguments.use_cpu:
        computing_on_cpu(model)
    written = {*model.state_dict()}  # without what a trainer adds, to learn by
    trainer = trainer_class(
        **settings.computed,
        model=model,
        args=arguments,
        train_dataset=[rows[number] for number in order],
        data_collator=collate,
        **more,
    )
    trainer.begin(rows)
    if settings.epochs > 1:
        trainer.remember(rows, progress)
    curve = train_resumably(trainer, progress)
    weights = trainer.whole_weights()
    if leads:
        model.save_pretrained(out, state_dict={name: weights[name] for name in weights if name in written})
        task.write(out)
    return {
        "examples": len(rows) - len(more_rows),
        "truncated": truncated,
        "steps": trainer.state.global_step,
        "curve": curve,
    }


def _own_share(batch_size: int) -> int:
    """Return how many examples of a batch each process reads.

    Raises:
        HalflingError: They cannot share it evenly.
    """
    number = processes.number()
    if batch_size % number:
        raise HalflingError(f"training: {number} processes share no batch_size={batch_size} evenly: set a multiple")
    return batch_size // number
