"""Token exits: a layer computed for the tokens that are still there, with the states of all as keys and values.

Follows "Accelerating BERT Inference for Sequence Labeling via Early-Exit" (https://arxiv.org/abs/2105.13878): a token
that has left keeps its state, which higher layers still attend to. We differ in three ways. A token leaves on its own
uncertainty, not on the largest in a window round it. It never comes back: what it left with is its answer. And its
keys and values are computed in every layer from its kept state by that layer's own weights, so XLM-R runs unchanged.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.xlm_roberta.modeling_xlm_roberta import eager_attention_forward


@dataclass(frozen=True)
class Places:
    """Where the tokens that are still there stand.

    Attributes:
        in_batch: In the batch, seen as one row of batch * tokens.
        in_queries: In the queries, seen as one row of batch * most: each sentence's remaining tokens moved to its left.
        most: Tokens of the sentence that has the most of them left.
    """

    in_batch: Int[Tensor, " remaining"]
    in_queries: Int[Tensor, " remaining"]
    most: int


def places(there: Bool[np.ndarray, "batch tokens"], device: torch.device) -> Places:
    """Return the places of the tokens that are still there, ready for `layer_of_some` on `device`."""
    most = int(there.sum(axis=1).max())
    rank = there.cumsum(axis=1) - 1
    in_queries = (np.arange(len(there))[:, None] * most + rank)[there]
    both = np.stack([np.flatnonzero(there), in_queries])
    on_device = torch.from_numpy(both).to(device, non_blocking=True)
    return Places(on_device[0], on_device[1], most)


def layer_of_some(
    layer: nn.Module,
    hidden: Float[Tensor, "batch tokens width"],
    mask: Tensor | None,
    remaining: Places,
    states: Float[Tensor, "remaining width"],
) -> Float[Tensor, "remaining width"]:
    """Return one XLM-R layer's output for the remaining tokens alone.

    Queries, the attention's output and the feed-forward block are computed for them only; keys and values for
    all: of a layer's linear arithmetic, 5/6 is saved on a token that has left (with a feed-forward width of 4 x).

    Args:
        layer: An `XLMRobertaLayer`.
        hidden: The layer's input, of those who left the state that they left with.
        mask: As transformers makes it for sdpa or eager attention, [batch, 1, tokens, tokens], or None.
        remaining: Where the remaining tokens stand.
        states: Their states, `hidden` at `remaining.in_batch`.

    Raises:
        ValueError: The attention takes another kind of mask.
    """
    if mask is not None and mask.dim() != 4:
        raise ValueError(f"expected a mask of four dimensions (sdpa or eager attention), came {tuple(mask.shape)}")
    attention: Any = layer.attention.self
    batch, heads = len(hidden), attention.num_attention_heads

    def split(rows: Tensor) -> Tensor:
        return rows.view(batch, -1, heads, attention.attention_head_size).transpose(1, 2)

    queries = states.new_zeros(batch * remaining.most, states.shape[-1])
    queries[remaining.in_queries] = attention.query(states)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    mixed, _ = attend(
        attention,
        split(queries),
        split(attention.key(hidden)),
        split(attention.value(hidden)),
        # Every query of a sentence sees the same keys, so the mask's first row serves all.
        mask if mask is None else mask[:, :, :1].expand(-1, -1, remaining.most, -1),
        dropout=0.0,
        scaling=attention.scaling,
    )
    seen = mixed.reshape(batch * remaining.most, -1)[remaining.in_queries]
    return layer.feed_forward_chunk(layer.attention.output(seen, states))
