"""What exits learn from: the labels, the last exit, and those alone who would still be there."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def exits_loss(
    exit_logits: Sequence[Float[Tensor, "*inputs classes"]],
    labels: Int[Tensor, "*inputs"],
    weights: Sequence[float],
    *,
    soft_share: float = 0.0,
    soft_on: Bool[Tensor, "*inputs"] | None = None,
    reached: Sequence[Bool[Tensor, "*inputs"]] | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of the exits' losses, in nats.

    The last exit learns the labels. An earlier one learns them too, and for `soft_share` of its loss the last exit's
    distribution: self-distillation as in FastBERT (https://arxiv.org/abs/2004.02178), which uses nothing else. We
    differ in its direction too: cross-entropy with the last exit's distribution, FastBERT's divergence turned round.

    Args:
        exit_logits: Of each exit in order.
        labels: Classes, -100 where there is none.
        weights: What each exit weighs; one of weight 0 costs nothing.
        soft_share: 0: labels alone, 1: the last exit alone.
        soft_on: Where the last exit is imitated, labelled or not; where there are labels when absent.
        reached: Who came as far as each exit: nobody learns from an exit that they left before. All when absent.
    """
    soft_on = labels != -100 if soft_on is None else soft_on
    soft = exit_logits[-1].detach().float().softmax(dim=-1)
    total = exit_logits[-1].new_zeros(())
    for number, (logits, weight) in enumerate(zip(exit_logits, weights, strict=True)):
        if not weight:
            continue
        there = None if reached is None else reached[number]
        share = soft_share if number < len(exit_logits) - 1 else 0.0
        if share < 1:
            known = labels if there is None else labels.where(there, -100)
            total = total + weight * (1 - share) * _mean(
                F.cross_entropy(logits.flatten(0, -2).float(), known.flatten(), reduction="none"),
                known.flatten() != -100,
            )
        if share > 0:
            known = soft_on if there is None else soft_on & there
            total = total + weight * share * _mean(
                F.cross_entropy(logits.flatten(0, -2).float(), soft.flatten(0, -2), reduction="none"), known.flatten()
            )
    return total


def _mean(losses: Float[Tensor, " n"], counted: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    # An exit that nobody reached has nothing to teach: 0, not 0 / 0.
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)
