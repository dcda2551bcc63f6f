"""Distillation on `transformers.Trainer`: the teacher speaks first, the student learns from what it said."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    XLMRobertaForMaskedLM,
)

from halfling.folders import whole_folder
from halfling.models.load import save_masked_lm
from halfling.models.masked_lm import masked_features
from halfling.training.student import TeacherTargets
from halfling.training.trainer import BatchMeanTrainer


class DistillationTrainer(BatchMeanTrainer):
    """Trains a `DistilledMaskedLM` against a frozen teacher, and logs the two parts of its loss."""

    def __init__(self, *, teacher: XLMRobertaForMaskedLM, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Outside the model on purpose: distributed wrappers go round the student alone.
        self.teacher = teacher.to(self.accelerator.device).eval().requires_grad_(False)
        self.teacher_layers = [theirs for _, theirs in self.model.layer_pairs]
        self._parts: dict[str, list[Tensor]] = {"hidden": [], "kl": []}

    def targets(self, inputs: dict[str, Tensor]) -> TeacherTargets:
        """Return what the teacher says of a batch.

        Under `no_grad`, not `inference_mode`: the student's losses keep teacher states for their backward pass,
        which inference tensors forbid.
        """
        # The Trainer sets autocast for the student alone; without it the larger of the two would run in float32.
        with torch.no_grad(), self.accelerator.autocast():
            masked = masked_features(self.teacher, **inputs, hidden_states=True)
        decoder = self.teacher.lm_head.decoder
        return TeacherTargets(
            masked.features,
            tuple(masked.hidden_states[layer] for layer in self.teacher_layers),
            decoder.weight,
            decoder.bias,
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted loss, a mean over the batch; see `BatchMeanTrainer` on accumulation."""
        outputs = model(**inputs, targets=self.targets(inputs))
        for part, values in self._parts.items():
            values.append(outputs[part].detach())
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each part since the last log."""
        if "loss" in logs:
            for part, values in self._parts.items():
                logs[part] = round(torch.stack(values).mean().item(), 4)
                values.clear()
        super().log(logs, start_time)


class SaveAfterEpochs(TrainerCallback):
    """Writes the student as a plain `XLMRobertaForMaskedLM` to `out/epoch-{e}` where epoch e ends."""

    def __init__(self, trainer: DistillationTrainer, out: Path, epoch_at_step: dict[int, int]) -> None:
        self.trainer, self.out, self.epoch_at_step = trainer, out, epoch_at_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save when the step just done was an epoch's last."""
        epoch = self.epoch_at_step.get(state.global_step)
        if epoch is None:
            return
        weights = self.trainer.accelerator.get_state_dict(self.trainer.model_wrapped)
        if not state.is_world_process_zero:
            return
        with whole_folder(self.out / f"epoch-{epoch}") as folder:
            save_masked_lm(self.trainer.model.config, weights, self.trainer.processing_class, folder)
