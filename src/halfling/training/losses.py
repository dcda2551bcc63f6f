"""The losses of answers, in distillation and of exits: logits in, a scalar out; what a part weighs is an argument."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from halfling.training.layer_losses import widened


def kl_divergence(
    student_logits: Float[Tensor, "positions vocab"],
    teacher_logits: Float[Tensor, "positions vocab"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the mean over positions of KL(teacher || student), in nats, times the squared temperature.

    The square keeps gradients of one size at every temperature (Hinton et al.,
    https://arxiv.org/abs/1503.02531). `batchmean` means "over positions" here because there is no time axis left.
    """
    student = F.log_softmax(widened(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(widened(teacher_logits) / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class OutputLayer(NamedTuple):
    """What becomes logits: states at some positions, and the layer that follows."""

    features: Float[Tensor, "positions width"]
    pieces: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"]

    def logits(self) -> Float[Tensor, "positions vocab"]:
        """Return the logits of all positions."""
        return F.linear(*self)


class OutputLosses(NamedTuple):
    """Means over positions, in nats; 0 where nobody is there to learn from."""

    kl: Float[Tensor, ""]
    mlm: Float[Tensor, ""]


def output_layer_losses(
    student: OutputLayer,
    teacher: OutputLayer | None = None,
    pieces: Int[Tensor, " positions"] | None = None,
    temperature: float = 1.0,
    positions_per_block: int = 512,
) -> OutputLosses:
    """Return `kl_divergence` from a teacher and the cross-entropy with the pieces that stood there.

    Neither model's logits are ever held whole: 512 positions over XLM-R's 250,002 pieces are 0.5 GB a model in float32;
    a batch of 32 rows of 512 tokens with 15 % masked would be 2.5 GB a model, several times over in the backward pass.
    So blocks of positions are computed, and computed again in the backward pass.
    """
    number = len(student.features)

    def of_block(begin: int) -> Tensor:
        these = slice(begin, begin + positions_per_block)
        logits = student._replace(features=student.features[these]).logits()
        kl = mlm = widened(logits).new_zeros(())
        if teacher is not None:
            with torch.no_grad():
                theirs = teacher._replace(features=teacher.features[these]).logits()
            kl = kl_divergence(logits, theirs, temperature) * len(logits)
        if pieces is not None:
            mlm = F.cross_entropy(widened(logits), pieces[these], reduction="sum")
        return torch.stack([kl, mlm])

    if not number:  # a batch of unknown pieces has nothing to mask
        return OutputLosses(*(2 * [student.features.sum() * 0]))
    begins = range(0, number, positions_per_block)
    if len(begins) <= 1:
        return OutputLosses(*(of_block(0) / number))
    blocks = [checkpoint(of_block, begin, use_reentrant=False) for begin in begins]
    return OutputLosses(*(torch.stack(blocks).sum(dim=0) / number))


def at_least_one(count: Tensor) -> Tensor:
    """Return a count, or 1 where it is 0: an exit that nobody reached has nothing to teach, 0 and not 0 / 0."""
    return count.clamp(min=1)


def exits_loss(
    exit_logits: Sequence[Float[Tensor, "*inputs classes"]],
    labels: Int[Tensor, "*inputs"],
    weights: Sequence[float],
    *,
    imitated: Float[Tensor, "*inputs classes"] | None = None,
    soft_share: float = 0.0,
    soft_on: Bool[Tensor, "*inputs"] | None = None,
    reached: Sequence[Bool[Tensor, "*inputs"]] | None = None,
    counted: Callable[[Tensor], Tensor] = at_least_one,
) -> Float[Tensor, ""]:
    """Return the weighted sum of the exits' losses, in nats.

    Every exit learns the labels, and for `soft_share` of its loss the distribution of `imitated`: the model as it was
    before its exits were trained, so that these do not pull its last exit away from what that had learned.

    FastBERT (https://arxiv.org/abs/2004.02178) lets exits imitate the last exit alone, and that stays as it is. We
    differ in its direction too: cross-entropy with the distribution imitated, FastBERT's divergence turned round.

    Args:
        exit_logits: Of each exit in order.
        labels: Classes, below 0 where there is none.
        weights: What each exit weighs; one of weight 0 costs nothing.
        imitated: Logits to imitate; absent: the last exit's.
        soft_share: 0: labels alone, 1: imitation alone.
        soft_on: Where there is imitation, labelled or not; where there are labels when absent.
        reached: Who came as far as each exit: nobody learns from an exit that they left before. All when absent.
        counted: By what a sum over so many inputs is divided.
    """
    labelled = labels >= 0
    labels = labels.where(labelled, -100)
    soft_on = labelled if soft_on is None else soft_on
    soft = (exit_logits[-1] if imitated is None else imitated).detach().float().softmax(dim=-1)
    total = exit_logits[-1].new_zeros(())
    for number, (logits, weight) in enumerate(zip(exit_logits, weights, strict=True)):
        if not weight:
            continue
        there = None if reached is None else reached[number]
        # The last exit cannot imitate itself.
        share = soft_share if imitated is not None or number < len(exit_logits) - 1 else 0.0
        if share < 1:
            known = labels if there is None else labels.where(there, -100)
            total = total + weight * (1 - share) * _mean(
                F.cross_entropy(logits.flatten(0, -2).float(), known.flatten(), reduction="none"),
                known.flatten() != -100,
                counted,
            )
        if share > 0:
            known = soft_on if there is None else soft_on & there
            total = total + weight * share * _mean(
                F.cross_entropy(logits.flatten(0, -2).float(), soft.flatten(0, -2), reduction="none"),
                known.flatten(),
                counted,
            )
    return total


def _mean(
    losses: Float[Tensor, " n"], known: Bool[Tensor, " n"], counted: Callable[[Tensor], Tensor]
) -> Float[Tensor, ""]:
    return torch.where(known, losses, 0).sum() / counted(known.sum())
