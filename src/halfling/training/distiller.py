"""A student while it learns, and its training on `transformers.Trainer`: the teacher speaks first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from halfling.folders import whole_folder
from halfling.models.load import save_masked_lm
from halfling.models.masked_lm import masked_features
from halfling.training.layer_maps import LayerPair
from halfling.training.losses import hidden_state_loss, output_layer_kl
from halfling.training.trainer import BatchMeanTrainer


class TeacherTargets(NamedTuple):
    """What the teacher says of a batch: features at masked positions, states at mapped layers, its output layer.

    Where logits weigh nothing, states alone.
    """

    features: Float[Tensor, "masked width"] | None
    hidden_states: tuple[Float[Tensor, "batch tokens width"], ...]
    pieces: Float[Tensor, "vocab width"] | None = None
    bias: Float[Tensor, " vocab"] | None = None


class DistilledMaskedLM(XLMRobertaForMaskedLM):
    """A student and its projections in one model, so that a checkpoint holds both and distribution wraps both.

    Each layer pair (student layer, teacher layer) has a projection to `teacher_width`, where the student's is another:
    at equal width it would only blur what is compared.
    """

    def __init__(self, config: XLMRobertaConfig, layer_pairs: Sequence[LayerPair], teacher_width: int) -> None:
        super().__init__(config)
        self.layer_pairs = tuple(layer_pairs)
        self.projections = nn.ModuleDict(
            {
                str(student): nn.Linear(config.hidden_size, teacher_width)
                for student, _ in layer_pairs
                if config.hidden_size != teacher_width
            }
        )
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        sequence_ids: Tensor,
        labels: Tensor,
        targets: TeacherTargets,
        temperature: float = 1.0,
        **_: Any,
    ) -> dict[str, Tensor]:
        """Return the parts of the loss: `hidden` (mean over mapped layers) and `kl` (nats, at `temperature`).

        `kl` is 0 where the teacher gives no features.
        """
        masked = masked_features(self, input_ids, sequence_ids, labels, hidden_states=True)
        keep = sequence_ids > 0
        gaps = [
            hidden_state_loss(self._projected(student, masked.hidden_states[student]), teacher_state, keep)
            for (student, _), teacher_state in zip(self.layer_pairs, targets.hidden_states, strict=True)
        ]
        hidden = torch.stack(gaps).mean()
        if targets.features is None:
            return {"hidden": hidden, "kl": torch.zeros_like(hidden)}
        kl = output_layer_kl(
            masked.features,
            self.lm_head.decoder.weight,
            self.lm_head.decoder.bias,
            targets.features,
            targets.pieces,
            targets.bias,
            temperature,
        )
        return {"hidden": hidden, "kl": kl}

    def _projected(self, layer: int, states: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens wide"]:
        name = str(layer)
        projected: Tensor = self.projections[name](states) if name in self.projections else states
        return projected


class DistillationTrainer(BatchMeanTrainer):
    """Trains a `DistilledMaskedLM` against a frozen teacher, and logs the two parts of its loss.

    `hidden_weight` is the hidden-state loss's, `kl_weight` the divergence's, `temperature` of both sides of that.
    """

    def __init__(
        self,
        *,
        teacher: XLMRobertaForMaskedLM,
        hidden_weight: float = 1.0,
        kl_weight: float = 1.0,
        temperature: float = 1.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        # Outside the model on purpose: distributed wrappers go round the student alone.
        self.teacher = teacher.to(self.accelerator.device).eval().requires_grad_(False)
        self.weights = {"hidden": hidden_weight, "kl": kl_weight}
        self.temperature = temperature
        self._parts: dict[str, list[Tensor]] = {"hidden": [], "kl": []}

    def targets(self, inputs: dict[str, Tensor]) -> TeacherTargets:
        """Return what the teacher says of a batch.

        Under `no_grad`, not `inference_mode`: the student's losses keep teacher states for their backward pass,
        which inference tensors forbid.
        """
        # The Trainer sets autocast for the student alone; without it the larger of the two would run in float32.
        with torch.no_grad(), self.accelerator.autocast():
            masked = masked_features(self.teacher, **inputs, hidden_states=True)
        states = tuple(masked.hidden_states[theirs] for _, theirs in self.model.layer_pairs)
        if not self.weights["kl"]:  # the output layer would be most of the arithmetic
            return TeacherTargets(None, states)
        decoder = self.teacher.lm_head.decoder
        return TeacherTargets(masked.features, states, decoder.weight, decoder.bias)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted loss, a mean over the batch; see `BatchMeanTrainer` on accumulation."""
        outputs = model(**inputs, targets=self.targets(inputs), temperature=self.temperature)
        for part, values in self._parts.items():
            values.append(outputs[part].detach())
        loss = self.weights["hidden"] * outputs["hidden"] + self.weights["kl"] * outputs["kl"]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each part since the last log."""
        if "loss" in logs:
            for part, values in self._parts.items():
                logs[part] = round(torch.stack(values).mean().item(), 4)
                values.clear()
        super().log(logs, start_time)


class SaveAfterEpochs(TrainerCallback):
    """Writes the student as `save_masked_lm` does to `out/epoch-{e}` where epoch e ends."""

    def __init__(
        self, trainer: DistillationTrainer, out: Path, epoch_at_step: dict[int, int], *, has_head: bool = True
    ) -> None:
        self.trainer, self.out, self.epoch_at_step, self.has_head = trainer, out, epoch_at_step, has_head

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save when the step just done was an epoch's last."""
        epoch = self.epoch_at_step.get(state.global_step)
        if epoch is None:
            return
        weights = self.trainer.accelerator.get_state_dict(self.trainer.model_wrapped)
        if not state.is_world_process_zero:
            return
        with whole_folder(self.out / f"epoch-{epoch}") as folder:
            save_masked_lm(
                self.trainer.model.config, weights, self.trainer.processing_class, folder, has_head=self.has_head
            )
