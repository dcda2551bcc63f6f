"""The student while it learns: XLM-R with a projection from each mapped layer to its teacher layer's width."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import XLMRobertaForMaskedLM

from halfling.models.masked_lm import masked_features
from halfling.training.layer_maps import LayerPair
from halfling.training.losses import hidden_state_loss, output_layer_kl


class TeacherTargets(NamedTuple):
    """What the teacher says of a batch.

    Attributes:
        features: Its states at the masked positions, ready for its output layer.
        hidden_states: Its states at the mapped layers, in the order of the map.
        pieces: Its output embedding.
        bias: Its output bias.
    """

    features: Float[Tensor, "masked width"]
    hidden_states: tuple[Float[Tensor, "batch tokens width"], ...]
    pieces: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"]


class DistilledMaskedLM(XLMRobertaForMaskedLM):
    """A student and its projections in one model, so that a checkpoint holds both and distribution wraps both.

    Its configuration carries `layer_pairs`, `teacher_width`, `hidden_weight`, `kl_weight` and `kl_temperature`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.projections = nn.ModuleDict(
            {str(student): nn.Linear(config.hidden_size, config.teacher_width) for student, _ in self.layer_pairs}
        )
        self.post_init()

    @property
    def layer_pairs(self) -> list[LayerPair]:
        """The layer map: (student layer, teacher layer) pairs."""
        return [(student, teacher) for student, teacher in self.config.layer_pairs]

    def forward(
        self, input_ids: Tensor, sequence_ids: Tensor, labels: Tensor, targets: TeacherTargets, **_: Any
    ) -> dict[str, Tensor]:
        """Return `loss` and its parts before weighting: `hidden` (mean over mapped layers) and `kl` (nats)."""
        config = self.config
        masked = masked_features(self, input_ids, sequence_ids, labels, hidden_states=True)
        keep = sequence_ids > 0
        gaps = [
            hidden_state_loss(self.projections[str(student)](masked.hidden_states[student]), teacher_state, keep)
            for (student, _), teacher_state in zip(self.layer_pairs, targets.hidden_states, strict=True)
        ]
        hidden = torch.stack(gaps).mean()
        kl = output_layer_kl(
            masked.features,
            self.lm_head.decoder.weight,
            self.lm_head.decoder.bias,
            targets.features,
            targets.pieces,
            targets.bias,
            config.kl_temperature,
        )
        return {"loss": config.hidden_weight * hidden + config.kl_weight * kl, "hidden": hidden, "kl": kl}
