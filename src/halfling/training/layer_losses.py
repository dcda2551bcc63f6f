"""Losses between the layers of a student and of its teacher: tensors in, a scalar out."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

HiddenLoss = Literal["mse", "cosine", "normalised"]

_SMALLEST_VARIANCE = 1e-6


def widened(states: Tensor) -> Tensor:
    """Return states in float32 at least: a mean taken in bfloat16 would round a loss to 8 significant bits."""
    return states.to(torch.promote_types(states.dtype, torch.float32))


def hidden_state_loss(
    student: Float[Tensor, "batch tokens width"],
    teacher: Float[Tensor, "batch tokens width"],
    keep: Bool[Tensor, "batch tokens"],
    kind: HiddenLoss = "mse",
) -> Float[Tensor, ""]:
    """Return the gap between one student layer and its teacher layer, a mean over kept tokens.

    Widths must already agree: pass the student state through its projection first. `keep` is False on padding.

    mse: the mean squared gap, in squared activation a channel. The hidden-state term of TinyBERT
    (https://arxiv.org/abs/1909.10351). We differ in one way: the authors' code averages over padding too, which spends
    gradient on states that nobody reads.

    cosine: 1 less the cosine of both states, 0 to 2. DistilBERT's term (https://arxiv.org/abs/1910.01108), and half
    of the squared gap of states of length 1 that Patient Knowledge Distillation takes
    (https://arxiv.org/abs/1908.09355).

    normalised: the squared gap of each channel as a share of the teacher's variance in that channel, over the batch's
    kept tokens (the batch is what one device reads at once). A student that says the teacher's mean everywhere has a
    loss of 1. So the few channels of XLM-R whose values are tens of times the others' do not make up the whole loss.
    Whitened targets as in https://arxiv.org/abs/2205.14141, which normalises over the channels of each token instead.
    """
    own, theirs = widened(student)[keep], widened(teacher)[keep]
    if kind == "cosine":
        return (1 - F.cosine_similarity(own, theirs, dim=-1)).mean()
    gap = (own - theirs).square()
    if kind == "normalised":
        gap = gap / theirs.var(dim=0, correction=0).clamp(min=_SMALLEST_VARIANCE)
    return gap.mean()


def exit_aware_loss(
    layers: Sequence[Float[Tensor, "batch tokens width"]], keep: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, ""]:
    """Return how far a student's intermediate layers are from its last: 1 less the cosine, the mean over layers.

    0 for a single layer. The last layer is held fixed: intermediate layers are pulled to it, it is not pulled to them.

    Follows the constraint of LEAP (https://arxiv.org/abs/2605.01058), that intermediate layers approximate the final
    one. We differ in where: every kept token, rather than an embedding of the whole text.
    """
    *before, last = layers
    if not before:
        return widened(last).new_zeros(())
    return torch.stack([hidden_state_loss(layer, last.detach(), keep, "cosine") for layer in before]).mean()


def mixed_layers(
    student: Float[Tensor, "batch tokens width"], teacher: Float[Tensor, "layers batch tokens width"]
) -> Float[Tensor, "batch tokens width"]:
    """Return a mixture of all teacher layers for one student layer to learn from, weighed token by token.

    A layer weighs the softmax over layers of its product with the student's state, divided by the root of the width.
    Gradients reach the student through the weights too.

    Follows ALP-KD (https://arxiv.org/abs/2012.14022). We differ in two ways: every token weighs for itself, not
    `<s>` for all, and products are divided by the root of the width, without which the softmax is all or nothing.
    """
    own, theirs = widened(student), widened(teacher)
    with torch.autocast(own.device.type, enabled=False):  # which would take these products in bfloat16 all the same
        scores = torch.einsum("btw,lbtw->lbt", own, theirs) / math.sqrt(own.shape[-1])
        return torch.einsum("lbt,lbtw->btw", scores.softmax(dim=0), theirs)


def transport_loss(gaps: Float[Tensor, "student_layers teacher_layers"]) -> Float[Tensor, ""]:
    """Return the cost of moving the student's layers to the teacher's, where every layer of each weighs the same.

    The transport is the optimal one for these gaps, those of what one device reads at once, through POT. Gradients
    reach the gaps, not the transport.

    Follows BERT-EMD (https://arxiv.org/abs/2010.06133). One difference: the authors let cheap layers weigh more from
    batch to batch, which would be a state that a checkpoint has to hold.
    """
    import ot  # takes seconds

    costs = gaps.detach().double().cpu().numpy()
    own, theirs = costs.shape
    plan = ot.emd([1 / own] * own, [1 / theirs] * theirs, costs)
    return (torch.as_tensor(plan, dtype=gaps.dtype, device=gaps.device) * gaps).sum()


def relation_heads(student_width: int, teacher_width: int) -> int:
    """Return the largest number of relation heads, 64 at most, that divides both widths.

    MiniLMv2 takes 64 of large teachers, 48 of base-size ones.
    """
    return next(heads for heads in range(64, 0, -1) if student_width % heads == teacher_width % heads == 0)


def relation_loss(
    student: Float[Tensor, "batch tokens width"],
    teacher: Float[Tensor, "batch tokens teacher_width"],
    sequence_ids: Int[Tensor, "batch tokens"],
    heads: int,
) -> Float[Tensor, ""]:
    """Return the divergence of self-attention relations, in nats: for queries, keys or values, one of them at a time.

    Vectors of all attention heads stand side by side and are cut into `heads` relation heads of equal size, so models
    of other widths and other numbers of attention heads are compared. A relation is a softmax over the tokens of the
    same sequence of products divided by the root of a relation head's size. The mean is over heads and kept tokens
    (`sequence_ids` above 0).

    Follows MiniLMv2 (https://arxiv.org/abs/2012.15828). One row at a time is computed, and again in the backward pass:
    64 heads over 16 rows of 512 tokens would be 1.1 GB for each of six relations.
    """
    rows = [(own, theirs, ids) for own, theirs, ids in zip(student, teacher, sequence_ids, strict=True)]
    total = torch.stack([checkpoint(_row_relations, *row, heads, use_reentrant=False) for row in rows]).sum()
    return total / (heads * (sequence_ids > 0).sum())


def attention_loss(
    student: Float[Tensor, "batch heads tokens tokens"],
    teacher: Float[Tensor, "batch heads tokens tokens"],
    sequence_ids: Int[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Return the divergence KL(teacher || student) of attention probabilities, in nats, head by head.

    The mean is over heads and kept tokens; both models have as many heads.

    Follows the attention transfer of MiniLM (https://arxiv.org/abs/2002.10957), for any layer, not the last alone.
    """
    own, theirs = widened(student), widened(teacher)
    # Where probabilities are exactly 0, in other sequences too, there is nothing to compare, and no 0 x infinity.
    there = theirs > 0
    smallest = torch.finfo(own.dtype).tiny
    parts = theirs * (theirs.clamp(min=smallest).log() - own.clamp(min=smallest).log())
    keep = sequence_ids > 0
    return torch.where(there & keep[:, None, :, None], parts, 0).sum() / (own.shape[1] * keep.sum())


def _row_relations(
    student: Float[Tensor, "tokens width"],
    teacher: Float[Tensor, "tokens teacher_width"],
    sequence_ids: Int[Tensor, " tokens"],
    heads: int,
) -> Float[Tensor, ""]:
    """Return the summed divergence of one row."""
    keep = sequence_ids > 0
    ids = sequence_ids[keep]
    elsewhere = ids[:, None] != ids[None, :]

    def relations(vectors: Tensor) -> Tensor:
        parts = vectors[keep].unflatten(-1, (heads, -1)).transpose(0, 1)
        products = widened(parts @ parts.transpose(1, 2)) / math.sqrt(parts.shape[-1])
        # The lowest number, not minus infinity: 0 x infinity is no number.
        return products.masked_fill(elsewhere, torch.finfo(products.dtype).min).log_softmax(dim=-1)

    with torch.no_grad():
        theirs = relations(teacher)
    return F.kl_div(relations(student), theirs, reduction="sum", log_target=True)
