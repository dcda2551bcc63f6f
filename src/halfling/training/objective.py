"""What a student learns and how much of it: the terms of the distillation loss, their weights and schedules."""

from typing import Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from halfling.bounds import Size, Weight
from halfling.training.layer_losses import HiddenLoss
from halfling.training.masked import MaskedTraining

Schedule = Weight | tuple[Weight, Weight]
"""A weight; or two, at the first step and at the last, with a straight line between."""

Term = Literal["hidden", "embedding", "relation", "attention", "kl", "mlm", "exit"]


def weight_at(schedule: Schedule, done: float) -> float:
    """Return a weight where a share `done` (0..1) of training is done."""
    first, last = schedule if isinstance(schedule, tuple) else (schedule, schedule)
    return first + (last - first) * done


class Objective(NamedTuple):
    """What a batch's loss is made of, weights aside.

    Attributes:
        terms: The terms that are computed.
        how: How the layers of a map are compared (`LayerMap.how`).
        hidden_loss: The kind of gap between states.
        relation_heads: Of the relations.
        temperature: Of both sides of the divergence.
    """

    terms: tuple[Term, ...]
    how: Literal["pairs", "mixture", "transport"] = "pairs"
    hidden_loss: HiddenLoss = "mse"
    relation_heads: int = 1
    temperature: float = 1.0


class LossSettings(MaskedTraining):
    """What a student learns; a weight of [1, 0] goes from 1 at the first step to 0 at the last."""

    hidden_weight: Schedule = Field(1.0, description="of the gap between states of mapped layers; A,B: from A to B")
    hidden_loss: HiddenLoss = Field(
        "mse", description="kind of that gap: mse, cosine, or normalised by the teacher's variance in each channel"
    )
    embedding_weight: Schedule = Field(0.0, description="of the same gap between embedding outputs")
    relation_weight: Schedule = Field(
        0.0, description="of the divergence of query, key and value relations of mapped layers"
    )
    relation_heads: Size | None = Field(
        None, gt=0, description="of these relations; the largest number up to 64 that divides both widths"
    )
    attention_weight: Schedule = Field(
        0.0, description="of the divergence of attention probabilities of mapped layers; needs attention=eager"
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="how attention is computed: sdpa, fused; or eager, slower, which says its probabilities"
    )
    kl_weight: Schedule = Field(
        1.0, description="of the Kullback-Leibler divergence at masked positions; 0 of a teacher without a head"
    )
    mlm_weight: Schedule = Field(0.0, description="of the masked-language-model loss")
    exit_weight: Schedule = Field(0.0, description="of the pull of intermediate layers towards the last one")
    mask_share: float = Field(
        0.15, ge=0, lt=1, description="of the tokens of a block; 0 where hidden states alone are learned from"
    )
    temperature: Weight = Field(1.0, gt=0, description="of both sides of the divergence")
    dropout: float = Field(0.1, ge=0, lt=1)

    @property
    def weights(self) -> dict[Term, Schedule]:
        """The schedules of the terms that weigh something at some time."""
        said: dict[Term, Schedule] = {term: getattr(self, f"{term}_weight") for term in get_args(Term)}
        return {term: schedule for term, schedule in said.items() if schedule not in (0, (0, 0))}

    @model_validator(mode="after")
    def _each_weight_has_what_it_weighs(self) -> "LossSettings":
        weights = self.weights
        if not {*weights} - {"exit"}:
            raise ValueError("every weight is 0, so there is nothing to learn: set hidden_weight or another")
        for term in ("kl", "mlm"):
            if term in weights and not self.mask_share:
                raise ValueError(f"mask_share 0 leaves no masked position for {term}_weight: set one of them otherwise")
        if "attention" in weights and self.attention != "eager":
            raise ValueError(
                "attention_weight: packed blocks are read with fused attention, which says no probabilities: set "
                "attention=eager, or relation_weight in place of attention_weight"
            )
        if "attention" in weights and self.dropout:
            raise ValueError("attention_weight: eager attention says its probabilities after dropout: set dropout=0")
        return self
