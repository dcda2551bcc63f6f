"""Several sequences in one row: positions that restart and attention that stays inside each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfling.models.shapes import FIRST_POSITION


def packed_positions(sequence_ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
    """Return XLM-R position ids that restart at 2 where a new sequence begins.

    `sequence_ids` numbers the sequences of a row; equal neighbours belong together.
    """
    tokens = torch.arange(sequence_ids.shape[1], device=sequence_ids.device)
    begins = torch.ones_like(sequence_ids, dtype=torch.bool)
    begins[:, 1:] = sequence_ids[:, 1:] != sequence_ids[:, :-1]
    start = torch.where(begins, tokens, 0).cummax(dim=1).values
    return tokens - start + FIRST_POSITION


def packed_attention(sequence_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch 1 tokens tokens"]:
    """Return the additive mask under which a token sees its own sequence only.

    Additive, since transformers hands a four-dimensional mask to the attention as it is, and eager attention
    adds it. Padding counts as a sequence of its own, so no row of the mask is empty and no softmax is NaN.
    """
    same = sequence_ids[:, None, :, None] == sequence_ids[:, None, None, :]
    return torch.zeros_like(same, dtype=torch.float32).masked_fill(~same, torch.finfo(torch.float32).min)
