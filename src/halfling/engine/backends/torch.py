"""Segments in PyTorch, on a GPU where there is one: transformers' own layers, from token ids to logits."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from halfling.engine.backends.torch_graphs import Recordings
from halfling.engine.backends.torch_rows import Rows
from halfling.engine.exported import Exported
from halfling.engine.packing import HIDDEN
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.load import load_model

MOST_TOKENS = 1 << 15
"""Tokens up to which a segment is recorded on a GPU."""

TOKENS_AT_ONCE = 1 << 14
"""Tokens of one pass on a GPU: fewer leave it waiting for the host, more are no faster."""


class TorchBackend:
    """The reference, in float32, or in bfloat16 as exported: one transfer to the host at each exit, of its logits.

    Embeddings are looked up and masks made where the layers are, so that little is sent. On a GPU segments are CUDA
    graphs, and a sentence alone does not wait for its exits (`Rows`).
    """

    def __init__(self, folder: Path, exported: Exported, threads: int | None, device: str | None = None) -> None:
        if threads:  # all of this process's: unasked, its other work keeps what it has
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = AutoModelForSequenceClassification if exported.kind == "sequence" else AutoModelForTokenClassification
        self.network = load_model(kind, folder / "torch").eval()
        tables, self.dtype = self.network.roberta.embeddings, getattr(torch, exported.precision)
        places = tables.position_embeddings.weight[self.network.config.pad_token_id + 1 :]
        self.places = (places + tables.token_type_embeddings.weight[0]).detach().to(self.device, self.dtype)
        self.network.to(self.device, self.dtype)
        self.segments = exported.segments
        self.recordings: Recordings | None = None
        self.alone: Rows | None = None
        self.tokens_at_once = 2048
        # A CPU has nothing to gain: it computes what it is told when it is told.
        if self.device.type == "cuda":
            self.recordings, self.tokens_at_once = Recordings(self.device), TOKENS_AT_ONCE
            if exported.policy.granularity == "sentence":
                self.alone = Rows(self.segment, exported, self.device)

    @torch.inference_mode()
    def run(
        self, segment: int, state: Any, owners: np.ndarray, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        given = tuple(self._ready(each) for each in (state, owners, picked, queries) if each is not None)
        compute = partial(self.segment, segment)
        if self.recordings is not None and given[0].shape[0] * given[0].shape[1] <= MOST_TOKENS:
            logits, *after = self.recordings(segment, compute, given)
        else:
            logits, *after = compute(*(each.to(self.device, non_blocking=True) for each in given))
        # Copied, as a recording writes its next logits in the same place.
        return (after[0] if after else None), logits.to("cpu", copy=True).numpy()

    def segment(
        self,
        segment: int,
        state: Float[Tensor, "rows tokens width"] | Int32[Tensor, "rows tokens 2"],
        owners: Int32[Tensor, "rows tokens"],
        picked: Int[Tensor, " picked"],
        queries: Int[Tensor, "rows asking"] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the logits after a segment and, but for the last, the states, without waiting for the device.

        Args:
            segment: Its number, from 0.
            state: States; before the first segment ids and positions.
            owners: Whose each place is.
            picked: Whose logits are wanted.
            queries: Who is computed; all when absent.
        """
        roberta = self.network.roberta
        asking = None if queries is None else queries.long()
        first, last = self.segments[segment]
        if first == 1:
            sums = roberta.embeddings.word_embeddings(state[..., 0]) + F.embedding(state[..., 1], self.places)
            state = roberta.embeddings.LayerNorm(sums)
        who_asks = owners if asking is None else owners.flatten()[asking]
        apart = who_asks[:, None, :, None] != owners[:, None, None, :]
        mask = torch.zeros_like(apart, dtype=self.dtype).masked_fill(apart, HIDDEN)
        for layer in roberta.encoder.layer[first - 1 : last]:
            state = layer(state, mask) if asking is None else _layer_of_some(layer, state, mask, asking)
        chosen = state.flatten(0, 1)[picked.long()]
        # A classifier reads the first of a sequence's tokens: here each sequence is its first token alone.
        if hasattr(self._head(last), "out_proj"):
            chosen = chosen[:, None]
        logits = self._head(last)(chosen).float()
        return (logits, state) if segment < len(self.segments) - 1 else (logits,)

    @torch.inference_mode()
    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> Any:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""
        moved = hidden.new_zeros(rows * tokens, hidden.shape[-1])
        here, there = (self._ready(each).to(self.device, non_blocking=True) for each in (source, target))
        moved[there] = hidden.flatten(0, 1)[here]
        return moved.view(rows, tokens, -1)

    def _head(self, layer: int) -> torch.nn.Module:
        if layer == self.network.config.num_hidden_layers or not isinstance(
            self.network.config, XLMRobertaEarlyExitConfig
        ):
            return self.network.classifier
        return self.network.exits[str(layer)]

    def _ready(self, value: Any) -> Tensor:
        """Return an array as a tensor that goes to the device without waiting; a tensor as it is."""
        if isinstance(value, Tensor):
            return value
        tensor = torch.from_numpy(value)
        return tensor if self.device.type == "cpu" else tensor.pin_memory()


def _layer_of_some(
    layer: Any,
    hidden: Float[Tensor, "rows tokens width"],
    mask: Float[Tensor, "rows 1 queries tokens"],
    queries: Int[Tensor, "rows queries"],
) -> Float[Tensor, "rows tokens width"]:
    """Return the states after a layer that changes those of `queries` only; keys and values are of all tokens."""
    attention, flat = layer.attention.self, hidden.flatten(0, 1)
    states = flat[queries]

    def split(rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        split(attention.query(states)), split(attention.key(hidden)), split(attention.value(hidden)), attn_mask=mask
    )
    changed = layer.feed_forward_chunk(layer.attention.output(mixed.transpose(1, 2).flatten(2), states))
    return flat.index_copy(0, queries.flatten(), changed.flatten(0, 1)).view_as(hidden)
