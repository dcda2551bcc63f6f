"""A student while it learns: its projections, and the terms of its loss on one batch."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from halfling.models.masked_lm import MaskedFeatures, masked_features
from halfling.models.relations import VECTORS, QueryKeyValue
from halfling.training.layer_losses import (
    attention_loss,
    exit_aware_loss,
    hidden_state_loss,
    mixed_layers,
    relation_loss,
    transport_loss,
)
from halfling.training.layer_maps import LayerPair
from halfling.training.losses import OutputLayer, output_layer_losses
from halfling.training.objective import Objective, Term
from halfling.training.projections import Projections


class TeacherTargets(NamedTuple):
    """What the teacher says of a batch, by layer; what nobody learns from is left out."""

    hidden_states: dict[int, Float[Tensor, "batch tokens width"]]
    relations: dict[int, QueryKeyValue] = {}  # noqa: RUF012
    attentions: dict[int, Float[Tensor, "batch heads tokens tokens"]] = {}  # noqa: RUF012
    output: OutputLayer | None = None


class DistilledMaskedLM(XLMRobertaForMaskedLM):
    """A student and its projections in one model, so that a checkpoint holds both and distribution wraps both.

    Each layer of `projected` has one of the `Projections` to `teacher_width`.
    """

    def __init__(self, config: XLMRobertaConfig, projected: Iterable[int], teacher_width: int) -> None:
        super().__init__(config)
        self.projections = Projections(projected, config.hidden_size, teacher_width)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        sequence_ids: Tensor,
        labels: Tensor,
        targets: TeacherTargets,
        objective: Objective,
        pairs: Sequence[LayerPair],
        **_: Any,
    ) -> dict[Term, Tensor]:
        """Return the terms of the loss that `objective` names, each a mean over the batch.

        `pairs` are those of the layer map, every student layer with every teacher layer where `objective.how` says so.
        """
        terms, layers = objective.terms, {student for student, _ in pairs}
        masked = masked_features(
            self,
            input_ids,
            sequence_ids,
            labels,
            hidden_states=True,
            relations=layers if "relation" in terms else (),
            attentions="attention" in terms,
        )
        keep = sequence_ids > 0
        found: dict[Term, Tensor] = {}
        if "hidden" in terms:
            found["hidden"] = self._hidden(masked, targets, objective, pairs, keep)
        if "embedding" in terms:
            own = self.projections.of(0, masked.hidden_states[0])
            found["embedding"] = hidden_state_loss(own, targets.hidden_states[0], keep, objective.hidden_loss)
        if "relation" in terms:
            gaps = [
                relation_loss(
                    masked.relations[own][name], targets.relations[theirs][name], sequence_ids, objective.relation_heads
                )
                for own, theirs in pairs
                for name in VECTORS
            ]
            found["relation"] = torch.stack(gaps).mean()
        if "attention" in terms:
            gaps = [
                attention_loss(masked.attentions[own - 1], targets.attentions[theirs], sequence_ids)
                for own, theirs in pairs
            ]
            found["attention"] = torch.stack(gaps).mean()
        if "kl" in terms or "mlm" in terms:
            decoder = self.lm_head.decoder
            losses = output_layer_losses(
                OutputLayer(masked.features, decoder.weight, decoder.bias),
                targets.output,
                masked.targets if "mlm" in terms else None,
                objective.temperature,
            )
            found |= {term: value for term, value in (("kl", losses.kl), ("mlm", losses.mlm)) if term in terms}
        if "exit" in terms:
            found["exit"] = exit_aware_loss(masked.hidden_states[1:], keep)
        return found

    def _hidden(
        self,
        masked: MaskedFeatures,
        targets: TeacherTargets,
        objective: Objective,
        pairs: Sequence[LayerPair],
        keep: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, ""]:
        """Return the gap between states of mapped layers."""
        own = {layer: self.projections.of(layer, masked.hidden_states[layer]) for layer, _ in pairs}
        theirs, kind = targets.hidden_states, objective.hidden_loss
        if objective.how == "transport":
            # Every layer with every layer: computed again in the backward pass, or all gaps would be in memory.
            gaps = [checkpoint(hidden_state_loss, own[s], theirs[t], keep, kind, use_reentrant=False) for s, t in pairs]
            return transport_loss(torch.stack(gaps).unflatten(0, (len(own), -1)))
        if objective.how == "mixture":
            layers = torch.stack([theirs[layer] for layer in sorted({layer for _, layer in pairs})])
            gaps = [hidden_state_loss(state, mixed_layers(state, layers), keep, kind) for state in own.values()]
        else:
            gaps = [hidden_state_loss(own[s], theirs[t], keep, kind) for s, t in pairs]
        return torch.stack(gaps).mean()
