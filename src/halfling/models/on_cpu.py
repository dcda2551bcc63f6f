"""How a model computes on a CPU while it learns: attention of short texts, and dropout.

PyTorch's fused attention takes three to five times as long backwards as products and a softmax do where sequences
have some tens of tokens, and its dropout draws a random number for each value. Here a draw serves four.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

NAME = "halfling_cpu"
"""As transformers' register of attentions knows it."""
_SHORT = 128
"""Tokens up to which products and a softmax are faster than the fused attention."""
_BITS = 16


def computing_on_cpu(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model, which from now on computes attention and dropout as below.

    Its weights and what it saves stay as they are. Without dropout it answers as before, to rounding; what dropout
    draws differs, its share is that asked for to 1/65,536.
    """
    model.set_attn_implementation(NAME)
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    return model


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` out of 16 random bits for each value."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the states, while training with a share of them dropped and the others scaled up."""
        return dropped(states, self.p) if self.training else states


def dropped(states: Float[Tensor, "*any"], share: float) -> Float[Tensor, "*any"]:
    """Return values of which a share (0..1) is 0 and the others are scaled up, so that the mean stays."""
    levels = 1 << _BITS
    below = round(share * levels)
    if below in (0, levels):
        return states * (below == 0)
    draws = torch.empty(-(-states.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: states.numel()].view(states.shape)
    return torch.where(bits >= below - levels // 2, states * (levels / (levels - below)), 0.0)


def _attention(
    _module: nn.Module,
    query: Float[Tensor, "batch heads asked depth"],
    key: Float[Tensor, "batch heads tokens depth"],
    value: Float[Tensor, "batch heads tokens depth"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "batch asked heads depth"], None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.shape[-2] > _SHORT and not dropout:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scale)
    else:
        scores = (query * scale) @ key.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask
        shares = scores.softmax(dim=-1, dtype=torch.float32)
        mixed = dropped(shares, dropout).to(value.dtype) @ value
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)
