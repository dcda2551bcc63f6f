"""The losses of distillation and of exits: tensors in, a scalar out; what a part weighs is an argument."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def hidden_state_loss(
    student: Float[Tensor, "batch tokens width"],
    teacher: Float[Tensor, "batch tokens width"],
    keep: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Return the mean squared gap between one student layer and its teacher layer.

    Widths must already agree: pass the student state through its projection first.
    `keep` is False on padding. Unit: squared activation, per kept token and channel.

    Follows the hidden-state term of TinyBERT (https://arxiv.org/abs/1909.10351). We differ in one way:
    the authors' code averages over padding too, which spends gradient on states that nobody reads.
    """
    # In float32: a mean taken in bf16 would round the loss to 8 significant bits.
    gap = (student.float() - teacher.float()).square().mean(dim=-1)
    return gap[keep].mean()


def kl_divergence(
    student_logits: Float[Tensor, "positions vocab"],
    teacher_logits: Float[Tensor, "positions vocab"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the mean over positions of KL(teacher || student), in nats, times the squared temperature.

    The square keeps gradients of one size at every temperature (Hinton et al.,
    https://arxiv.org/abs/1503.02531). `batchmean` means "over positions" here because there is no time axis left.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def output_layer_kl(
    student: Float[Tensor, "positions student_width"],
    student_pieces: Float[Tensor, "vocab student_width"],
    student_bias: Float[Tensor, " vocab"],
    teacher: Float[Tensor, "positions teacher_width"],
    teacher_pieces: Float[Tensor, "vocab teacher_width"],
    teacher_bias: Float[Tensor, " vocab"],
    temperature: float = 1.0,
    positions_per_block: int = 512,
) -> Float[Tensor, ""]:
    """Return `kl_divergence` of two output layers without ever holding all their logits.

    512 positions over XLM-R's 250,002 pieces are 0.5 GB a model in float32; a batch of 32 rows of 512 tokens with
    15 % masked would be 2.5 GB a model, several times over in the backward pass. So blocks of positions are
    computed, and computed again in the backward pass.
    """

    def of_block(student_block: Tensor, teacher_block: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_logits = F.linear(teacher_block, teacher_pieces, teacher_bias)
        student_logits = F.linear(student_block, student_pieces, student_bias)
        return kl_divergence(student_logits, teacher_logits, temperature) * len(student_block)

    blocks = list(zip(student.split(positions_per_block), teacher.split(positions_per_block), strict=True))
    if len(blocks) == 1:
        return of_block(student, teacher) / len(student)
    total = torch.stack([checkpoint(of_block, s, t, use_reentrant=False) for s, t in blocks]).sum()
    return total / len(student)


def exits_loss(
    exit_logits: Sequence[Float[Tensor, "*inputs classes"]],
    labels: Int[Tensor, "*inputs"],
    weights: Sequence[float],
    *,
    imitated: Float[Tensor, "*inputs classes"] | None = None,
    soft_share: float = 0.0,
    soft_on: Bool[Tensor, "*inputs"] | None = None,
    reached: Sequence[Bool[Tensor, "*inputs"]] | None = None,
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
