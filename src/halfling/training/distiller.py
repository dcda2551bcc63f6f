"""The training of a student on `transformers.Trainer`: the teacher speaks first."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from halfling.folders import whole_folder
from halfling.models.load import save_masked_lm
from halfling.models.masked_lm import MaskedReader
from halfling.training.distilled import TeacherTargets
from halfling.training.layer_maps import LayerPair
from halfling.training.losses import OutputLayer
from halfling.training.objective import Objective, Schedule, Term, weight_at
from halfling.training.trainer import BatchMeanTrainer


class DistillationTrainer(BatchMeanTrainer):
    """Trains a `DistilledMaskedLM` against a frozen teacher, and logs the terms of its loss.

    What changes while it trains (weights, a random map's pairs) follows from the step alone: a resumed training goes
    on as it would have.

    Attributes:
        objective: What the loss is made of.
        weights: Of each term of it.
        pairs_at: The layer pairs of an optimizer's step, counted from 0.
    """

    def __init__(
        self,
        *,
        teacher: MaskedReader,
        objective: Objective,
        weights: dict[Term, Schedule],
        pairs_at: Callable[[int], Sequence[LayerPair]],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        # Outside the model on purpose: distributed wrappers go round the student alone. Its logits are computed later.
        self.teacher = self.beside(teacher, rest_stays="kl" in objective.terms)
        self.objective, self.weights, self.pairs_at = objective, weights, pairs_at
        self._parts: dict[Term, list[Tensor]] = {term: [] for term in objective.terms}

    def targets(self, inputs: dict[str, Tensor], pairs: Sequence[LayerPair]) -> TeacherTargets:
        """Return what the teacher says of a batch.

        Under `no_grad`, not `inference_mode`: the student's losses keep teacher states for their backward pass,
        which inference tensors forbid.
        """
        terms, layers = self.objective.terms, sorted({theirs for _, theirs in pairs})
        # The Trainer sets autocast for the student alone; without it the larger of the two would run in float32.
        with torch.no_grad(), self.accelerator.autocast():
            masked = self.teacher(
                **inputs,
                hidden_states=True,
                relations=layers if "relation" in terms else (),
                attentions="attention" in terms,
            )
        states = (*(layers if "hidden" in terms else ()), *((0,) if "embedding" in terms else ()))
        decoder = self.teacher.lm_head.decoder
        return TeacherTargets(
            hidden_states={layer: masked.hidden_states[layer] for layer in states},
            relations=masked.relations,
            attentions={layer: masked.attentions[layer - 1] for layer in layers if "attention" in terms},
            # The output layer would be most of the arithmetic.
            output=OutputLayer(masked.features, decoder.weight, decoder.bias) if "kl" in terms else None,
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted loss, a mean over the batch; see `BatchMeanTrainer` on accumulation."""
        step = self.state.global_step
        pairs = self.pairs_at(step)
        outputs = model(**inputs, targets=self.targets(inputs, pairs), objective=self.objective, pairs=pairs)
        for term, values in self._parts.items():
            values.append(outputs[term].detach())
        done = min(step / max(self.state.max_steps - 1, 1), 1.0)
        loss = torch.stack([weight_at(self.weights[term], done) * outputs[term] for term in self._parts]).sum()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each term since the last log."""
        if "loss" in logs:
            for term, values in self._parts.items():
                # Of all processes, as the loss is.
                logs[term] = round(self.accelerator.gather(torch.stack(values).mean()).mean().item(), 4)
                values.clear()
        super().log(logs, start_time)


def number_of_draw(step: int, ends: Sequence[int], redraw: Literal["step", "epoch"]) -> int:
    """Return the number of a random map's draw at a step: the step, or the epoch that the step belongs to.

    Both are counted from 0; `ends` are the steps done when each epoch is.
    """
    return step if redraw == "step" else bisect_right(ends, step)


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
        weights = self.trainer.whole_weights()
        if not state.is_world_process_zero:
            return
        with whole_folder(self.out / f"epoch-{epoch}") as folder:
            save_masked_lm(
                self.trainer.model.config, weights, self.trainer.processing_class, folder, has_head=self.has_head
            )
