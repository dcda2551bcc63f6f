"""Training that survives being killed: complete checkpoints only, and examples read in the order they lie in.

`transformers.Trainer` resumes weights, optimizer, schedule and random states. Added here: a checkpoint counts once a
marker file lies in it, written last, so a process killed while it saved leaves nothing that could be taken for whole.
And training that diverged is an error: transformers would log the last good loss and end well.
"""

import math
import shutil
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from halfling import processes
from halfling.errors import HalflingError
from halfling.models.trusted import require_finite
from halfling.records import Progress
from halfling.training.sharding import ShardingTrainer

_MARKER = "complete"

_LARGEST_LOSS = 1e6
"""A guess has a cross-entropy of 12 nats at most, hidden states differ by some hundreds: this is neither."""


Curve = list[dict[str, int | float]]
"""Of a training, an entry for every 25 steps."""


def counted_by_all(count: Tensor) -> Tensor:
    """Return what a sum over `count` of this process's items is divided by, at least one item of all.

    It is the mean of all processes' counts. So the mean of their quotients, which is what their gradients become, is
    the mean over all items, however these are spread; of a process alone it is the count.
    """
    number = processes.number()
    if number == 1:
        return count.clamp(min=1)
    whole = count.detach().clone()
    torch.distributed.all_reduce(whole)
    return whole.clamp(min=1) / number


class _Milestones(TrainerCallback):
    """Marks checkpoints as complete, and tells how far training is, and how fast."""

    def __init__(self, trainer: "BatchMeanTrainer", progress: Progress) -> None:
        self.trainer, self.progress, self.began = trainer, progress, time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        processes.told(None)  # every process has written its random state
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARKER).touch()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        known = (f"loss {entry['loss']:.3f}" for entry in reversed(state.log_history) if "loss" in entry)
        tokens = processes.number() * self.trainer.tokens_read / (time.monotonic() - self.began)
        said = [*islice(known, 1), *([f"{tokens:,.0f} tokens a second"] if tokens else [])]
        self.progress(state.global_step, state.max_steps, ", ".join(said))


class BatchMeanTrainer(ShardingTrainer):
    """A Trainer for losses that are means over a batch: it divides them when it accumulates gradients.

    Without this, the Trainer takes a model with `**kwargs` to have divided by `num_items_in_batch` itself, and
    eight batches of one would train with eight times the loss of one batch of eight.

    A loss that is no number is refused before weights move, and its batch is kept among the checkpoints; a gradient
    that is none is refused when it is logged. A device is waited for once a step, not once a batch.

    Attributes:
        tokens_read: By this process since it began, padding left out.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self.tokens_read = 0
        self._step: list[tuple[dict[str, Any], Tensor, Tensor]] = []  # its batches, their losses and tokens
        self._blamed: dict[str, Any] = {}  # the batch that a check is about

    def begin(self, rows: Sequence[dict[str, Any]]) -> None:
        """Do what comes before the first step and looks at the examples. Here nothing."""

    def remember(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Compute once what does not change from pass to pass, of the examples that training reads.

        Here nothing.
        """

    def training_step(self, model: Any, inputs: dict[str, Any], *given: Any, **more: Any) -> Tensor:
        """Return the loss of a batch, its gradients added.

        Raises:
            HalflingError: The step is complete, and the loss of one of its batches is no number, or beyond reason.
        """
        batch = dict(inputs)
        loss = super().training_step(model, inputs, *given, **more)
        # Of packed rows 0 is padding, of others what attention leaves out.
        read = next((batch[name] > 0 for name in ("sequence_ids", "attention_mask") if name in batch), None)
        tokens = loss.new_zeros(()) if read is None else read.sum()
        self._step.append((batch, loss.detach() * self.args.gradient_accumulation_steps, tokens))
        if self.accelerator.sync_gradients:
            told = torch.stack([torch.stack([one.double(), number.double()]) for _, one, number in self._step]).tolist()
            for (batch, *_), (value, number) in zip(self._step, told, strict=True):
                self._blamed = batch
                self._require("loss", value)
                self.tokens_read += int(number)
            self._step.clear()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, once the gradients' norm is known to be a number. One that is none meets the next step as its loss."""
        self._require("gradient norm", logs.get("grad_norm", 0.0), math.inf)
        super().log(logs, start_time)

    def require_learned(self) -> None:
        """Refuse what the last step may have done, which no loss has seen yet.

        Raises:
            HalflingError: A weight is no number, or the loss with these weights is none.
        """
        rate = f"training diverged: set learning_rate={self.args.learning_rate:g} lower"
        require_finite("training", self.whole_weights(), rate)
        self._blamed = batch = self._prepare_inputs(next(iter(self.get_train_dataloader())))
        with torch.no_grad(), self.compute_loss_context_manager():
            self._require("loss", float(self.compute_loss(self.model, batch)))

    def _require(self, what: str, value: float, most: float = _LARGEST_LOSS) -> None:
        if not math.isfinite(value) or value > most:
            raise HalflingError(
                f"training: a {what} of {value:g} after step {self.state.global_step}: it diverged: "
                f"set learning_rate={self.args.learning_rate:g} lower (the batch is in {self._keep_batch()})"
            )

    def _keep_batch(self) -> Path:
        """Write the last batch down and return where: what did these inputs have?"""
        kept = Path(self.args.output_dir) / f"diverged-{self.args.process_index}.safetensors"
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous().cpu() for k, v in self._blamed.items() if isinstance(v, Tensor)}, kept)
        return kept


def last_complete(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`; incomplete ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in found:
        if not (path / _MARKER).exists():
            shutil.rmtree(path)
    return next((path for path in reversed(found) if path.exists()), None)


def train_resumably(trainer: BatchMeanTrainer, progress: Progress, terms: Sequence[str] = ()) -> Curve:
    """Train from the newest complete checkpoint, or from the start.

    The last checkpoint is kept: until its folder is whole, which a stage sees to, it is all there is of hours of work.

    Returns:
        The training curve: `step`, `loss` and the `terms` that were logged of it, to four places.

    Raises:
        HalflingError: It diverged.
    """
    folder = Path(trainer.args.output_dir)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Milestones(trainer, progress))
    set_seed(trainer.args.seed)
    checkpoint = processes.told(None if processes.follows() else last_complete(folder))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.require_learned()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{name: round(entry[name], 4) for name in ("step", "loss", *terms)} for entry in logged]
