"""Masked-language modelling over packed rows, computing the output layer where it is looked at and nowhere else."""

from collections.abc import Collection
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import XLMRobertaForMaskedLM

from halfling.models.packing import packed_attention, packed_positions
from halfling.models.relations import QueryKeyValue, queries_keys_values


class MaskedFeatures(NamedTuple):
    """What a masked language model knows before its output layer.

    Attributes:
        features: States at the masked positions, ready for the output layer.
        targets: The ids that stood there.
        hidden_states: Every layer's states, the embedding output first; empty when not asked for.
        relations: Queries, keys and values of the layers that were asked for.
        attentions: Every layer's attention probabilities, layer 1 first; empty when not asked for.
    """

    features: Float[Tensor, "masked width"]
    targets: Int[Tensor, " masked"]
    hidden_states: tuple[Float[Tensor, "batch tokens width"], ...]
    relations: dict[int, QueryKeyValue]
    attentions: tuple[Float[Tensor, "batch heads tokens tokens"], ...]


def masked_features(
    model: XLMRobertaForMaskedLM,
    input_ids: Int[Tensor, "batch tokens"],
    sequence_ids: Int[Tensor, "batch tokens"],
    labels: Int[Tensor, "batch tokens"],
    *,
    hidden_states: bool = False,
    relations: Collection[int] = (),
    attentions: bool = False,
) -> MaskedFeatures:
    """Run the encoder on packed rows and return features at the positions whose label is not -100.

    A 250,002-wide output layer over every position would cost more than the encoder: with 15 % masked,
    gathering first saves 85 % of it.

    Args:
        model: Who reads; for `attentions` its attention is eager, since no other says its probabilities.
        input_ids: Packed rows, masked.
        sequence_ids: The number of each token's sequence in its row; 0 on padding.
        labels: What stood at masked positions; -100 elsewhere.
        hidden_states: Return every layer's states.
        relations: Return queries, keys and values of these layers.
        attentions: Return every layer's attention probabilities.
    """
    with queries_keys_values(model, relations) as said:
        outputs = model.roberta(
            input_ids,
            attention_mask=packed_attention(sequence_ids),
            position_ids=packed_positions(sequence_ids),
            output_hidden_states=hidden_states,
            output_attentions=attentions,
        )
    chosen = labels != -100
    head = model.lm_head
    features = head.layer_norm(F.gelu(head.dense(outputs.last_hidden_state[chosen])))
    return MaskedFeatures(
        features=features,
        targets=labels[chosen],
        hidden_states=outputs.hidden_states if hidden_states else (),
        relations=said,
        attentions=outputs.attentions if attentions else (),
    )


class MaskedReader(XLMRobertaForMaskedLM):
    """`XLMRobertaForMaskedLM` that reads packed rows and returns `masked_features`; the weights are the same."""

    def forward(self, *given: Any, **more: Any) -> MaskedFeatures:
        """Return `masked_features`. What is shared out among processes is whole while this runs."""
        return masked_features(self, *given, **more)


class PackedMaskedLM(XLMRobertaForMaskedLM):
    """`XLMRobertaForMaskedLM` that reads packed rows and returns its loss; the weights are the same."""

    def forward(self, input_ids: Tensor, sequence_ids: Tensor, labels: Tensor, **_: Any) -> dict[str, Tensor]:
        """Return `loss`, the mean cross-entropy (nats) over masked positions."""
        masked = masked_features(self, input_ids, sequence_ids, labels)
        logits = self.lm_head.decoder(masked.features).float()
        # A batch of unknown pieces has nothing to mask: 0, not 0 / 0.
        return {"loss": F.cross_entropy(logits, masked.targets, reduction="sum") / max(len(logits), 1)}
