"""What every training is told, and the arguments of transformers that it becomes."""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from halfling import processes
from halfling.bounds import Count, Rate, Seed, Size, Weight
from halfling.errors import HalflingError
from halfling.files import CHECKPOINTS, made_for
from halfling.records import Settings

_ACCELERATES_OWN = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
"""What `accelerate launch --use_fsdp` and its kin say to a process."""

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
        output_dir=str(out / CHECKPOINTS),
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


_TOLD: set[str] = set()
"""Places that stages of this process, and not its user, have named."""


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
    if os.environ.get(place) in _TOLD:
        del os.environ[place]  # of a stage before this one
    if settings.logging_dir is not None:
        os.environ[place] = str(settings.logging_dir / made_for(out).name)
        _TOLD.add(os.environ[place])
    elif name == "tensorboard" and place not in os.environ:
        # transformers' own default lies among the checkpoints, which are removed in the end.
        raise HalflingError("training: report_to=tensorboard: say where its files go: set logging_dir=FOLDER")
    return name
