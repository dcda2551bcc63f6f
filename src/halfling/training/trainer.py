"""Training that survives being killed: complete checkpoints only, and examples read in the order they lie in.

`transformers.Trainer` resumes weights, optimizer, schedule and random states. Added here: a checkpoint counts once a
marker file lies in it, written last, so a process killed while it saved leaves nothing that could be taken for whole.
And training that diverged is an error: transformers would log the last good loss and end well.
"""

import math
import os
import shutil
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
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
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from halfling import processes
from halfling.bounds import Count, Rate, Seed, Size, Weight
from halfling.errors import HalflingError
from halfling.files import made_for
from halfling.models.trusted import require_finite
from halfling.records import Progress, Settings
from halfling.training.sharding import ShardingTrainer

_FOLDER = "checkpoints"
_MARKER = "complete"

_ACCELERATES_OWN = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
"""What `accelerate launch --use_fsdp` and its kin say to a process."""

_LARGEST_LOSS = 1e6
"""A guess has a cross-entropy of 12 nats at most, hidden states differ by some hundreds: this is neither."""

Precision = Literal["auto", "float32", "bfloat16"]
"""Of matrix products in training; weights and sums stay in float32. `auto`: bfloat16 where a GPU has it.

`bfloat16` nearly doubles the tokens a second of processors with AVX-512 BF16 or AMX, and slows others down, so a CPU
is asked for it by name.
"""


class TrainingSettings(Settings):
    """What every stage that trains is told."""

    batch_size: Size = Field(16, gt=0, description="blocks read at once, by all processes together")
    learning_rate: Rate = Field(1e-3)
    warmup_share: float = Field(0.06, ge=0, lt=1, description="of all steps")
    weight_decay: Weight = Field(0.01)
    save_steps: Count = Field(200, gt=0, multiple_of=25, description="a checkpoint every so many steps")
    precision: Precision = Field("auto", description="of matrix products: auto, float32 or bfloat16")
    # Where weights lie, how it is computed and who watches changes nothing that is learned but for rounding, as another
    # machine does, so none of these stands in a fingerprint.
    fsdp: bool = Field(
        False,
        exclude=True,
        description="of several processes each holds a part of weights, gradients and optimizer, not all of them",
    )
    activation_checkpointing: bool = Field(
        False, exclude=True, description="compute layers again in the backward pass: less memory, a third more work"
    )
    compile: bool = Field(
        False, exclude=True, description="compile layers by torch.compile; on a CPU that takes a C++ compiler"
    )
    report_to: str = Field(
        "none", exclude=True, description="follow the training in tensorboard, wandb, mlflow ... (transformers')"
    )
    logging_dir: Path | None = Field(
        None, exclude=True, description="folder of tensorboard's files, one below it for each training"
    )
    seed: Seed = 0

    @property
    def computed(self) -> dict[str, bool]:
        """What a `ShardingTrainer` is told of how it computes."""
        return {
            "fsdp": self.fsdp,
            "compiled": self.compile,
            "activation_checkpointing": self.activation_checkpointing,
        }


def training_arguments(out: Path, settings: TrainingSettings, **more: Any) -> TrainingArguments:
    """Return the arguments that every training here shares: one pass over a dataset that is already in order.

    Checkpoints go to `out/checkpoints`, the newest two are kept; `more` are transformers' own.

    Raises:
        HalflingError: This process sees several devices, accelerate was told what does not work here, `report_to`
            names what transformers does not know or what is not installed, or nothing is there to compile with.
    """
    _refuse_accelerates_own()
    on_gpu = torch.cuda.is_available()
    if settings.compile and not on_gpu and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise HalflingError("training: compile=true: no C++ compiler is here: install g++, or leave compile out")
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    arguments = TrainingArguments(
        output_dir=str(out / _FOLDER),
        num_train_epochs=1,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_share,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=25,
        logging_nan_inf_filter=False,  # BatchMeanTrainer refuses them
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=_reporter(out, settings),
        use_cpu=not on_gpu,  # said, or bfloat16 is refused
        ddp_backend="gloo" if processes.number() > 1 and not on_gpu else None,
        bf16=settings.precision == "bfloat16" or (settings.precision == "auto" and has_bf16),
        dataloader_pin_memory=on_gpu,
        **more,
    )
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"  # whatever `accelerate launch` was told
    if arguments.n_gpu > 1:
        raise HalflingError(
            "training: one device a process: set CUDA_VISIBLE_DEVICES=0, or start a process for each with torchrun"
        )
    return arguments


def _refuse_accelerates_own() -> None:
    """Refuse what `accelerate launch` was told to do and halfling does otherwise, or not at all."""
    on = [name for name, value in os.environ.items() if value.lower() == "true"]
    if said := sorted({*on} & {*_ACCELERATES_OWN}):
        raise HalflingError(
            f"training: {said[0]} is set: halfling shares weights out by itself: start it with accelerate launch "
            "--multi_gpu, and set fsdp=true"
        )
    # It names a place to meet, and starts nobody to be met there.
    if "ACCELERATE_USE_CPU" in on and "MASTER_ADDR" in os.environ and processes.number() == 1:
        raise HalflingError(
            "training: accelerate launch --cpu starts one process, not several: start it with --multi_gpu in place of "
            "--cpu (no GPU is needed), or with torchrun"
        )


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


def _reporter(out: Path, settings: TrainingSettings) -> str:
    """Return whom to report to, once it is known to be there."""
    name, known = settings.report_to, ["none", *INTEGRATION_TO_CALLBACK]
    if name not in known:
        raise HalflingError(f"training: report_to={name}: not known to transformers: choose from {', '.join(known)}")
    if name != "none" and name not in get_available_reporting_integrations():
        raise HalflingError(
            f"training: report_to={name}: its package is not installed here: install {name}, or report_to=none"
        )
    place = "TENSORBOARD_LOGGING_DIR"  # transformers 5 takes it from the environment alone
    if settings.logging_dir is not None:
        os.environ[place] = str(settings.logging_dir / made_for(out).name)
    elif name == "tensorboard" and place not in os.environ:
        # transformers' own default lies among the checkpoints, which are removed in the end.
        raise HalflingError("training: report_to=tensorboard: say where its files go: set logging_dir=FOLDER")
    return name


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

    Training that diverges is refused where it does, and the batch that it met is kept among the checkpoints.

    Attributes:
        tokens_read: By this process since it began, padding left out.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self.tokens_read = 0
        self._batch: dict[str, Any] = {}

    def remember(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Compute once what does not change from pass to pass, of the examples that training reads several times.

        Here nothing.
        """

    def training_step(self, model: Any, inputs: dict[str, Any], *given: Any, **more: Any) -> Tensor:
        """Return the loss of a batch, its gradients added.

        Raises:
            HalflingError: It is no number, or beyond reason.
        """
        self._batch = dict(inputs)
        loss = super().training_step(model, inputs, *given, **more)
        self._require("loss", float(loss) * self.args.gradient_accumulation_steps)
        # Of packed rows 0 is padding, of others what attention leaves out.
        for name in ("sequence_ids", "attention_mask"):
            if name in inputs:
                self.tokens_read += int((inputs[name] > 0).sum())
                break
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
        self._batch = batch = self._prepare_inputs(next(iter(self.get_train_dataloader())))
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
        save_file({k: v.contiguous().cpu() for k, v in self._batch.items() if isinstance(v, Tensor)}, kept)
        return kept


def last_complete(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`; incomplete ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in found:
        if not (path / _MARKER).exists():
            shutil.rmtree(path)
    return next((path for path in reversed(found) if path.exists()), None)


def train_resumably(trainer: BatchMeanTrainer, progress: Progress) -> list[dict[str, float]]:
    """Train from the newest complete checkpoint, or from the start.

    The last checkpoint is kept: until the caller has saved its result, it is all there is of hours of work.
    Call `remove_checkpoints` then.

    Returns:
        The training curve: a dictionary for every 25 steps with `step`, `loss` and what else was logged.

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
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def remove_checkpoints(out: Path) -> None:
    """Remove what `train_resumably` kept below `out`; of several processes, the leader does."""
    if processes.follows():
        return
    shutil.rmtree(out / _FOLDER, ignore_errors=True)
