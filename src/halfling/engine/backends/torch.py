"""Segments in PyTorch, on a GPU where there is one: transformers' own layers under our attention bias."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from halfling.engine.exported import Exported
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.folder import load_model


class TorchBackend:
    """The reference: float32, with one transfer to the host at each exit, of its logits."""

    lengths: tuple[int, ...] = ()

    def __init__(self, folder: Path, exported: Exported, threads: int | None, device: str | None = None) -> None:
        if threads:  # all of this process's: unasked, its other work keeps what it has
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = AutoModelForSequenceClassification if exported.kind == "sequence" else AutoModelForTokenClassification
        self.network = load_model(kind, folder / "torch").to(self.device).eval()
        self.segments = exported.segments

    @torch.inference_mode()
    def run(
        self, segment: int, hidden: Any, bias: Any, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        roberta = self.network.roberta
        state = self._here(hidden)
        mask = self._here(bias)
        asking = None if queries is None else self._here(queries).long()
        first, last = self.segments[segment]
        if first == 1:
            state = roberta.embeddings.LayerNorm(state)
        for layer in roberta.encoder.layer[first - 1 : last]:
            state = layer(state, mask) if asking is None else _layer_of_some(layer, state, mask, asking)
        chosen = state.flatten(0, 1)[self._here(picked).long()]
        # A classifier reads the first of a sequence's tokens: here each sequence is its first token alone.
        if hasattr(self._head(last), "out_proj"):
            chosen = chosen[:, None]
        logits = self._head(last)(chosen)
        return (state if segment < len(self.segments) - 1 else None), logits.float().cpu().numpy()

    def alone(self, *_: Any) -> tuple[np.ndarray, float, int]:
        """Nobody asks: a sentence alone goes through the segments like others."""
        raise NotImplementedError

    @torch.inference_mode()
    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> Any:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""
        moved = hidden.new_zeros(rows * tokens, hidden.shape[-1])
        moved[self._here(target)] = hidden.flatten(0, 1)[self._here(source)]
        return moved.view(rows, tokens, -1)

    def _head(self, layer: int) -> torch.nn.Module:
        if layer == self.network.config.num_hidden_layers or not isinstance(
            self.network.config, XLMRobertaEarlyExitConfig
        ):
            return self.network.classifier
        return self.network.exits[str(layer)]

    def _here(self, value: Any) -> torch.Tensor:
        """Return an array or tensor on the device, without waiting for it."""
        if isinstance(value, torch.Tensor):
            return value
        tensor = torch.from_numpy(value)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


def _layer_of_some(
    layer: Any,
    hidden: Float[torch.Tensor, "rows tokens width"],
    mask: Float[torch.Tensor, "rows 1 queries tokens"],
    queries: Int[torch.Tensor, "rows queries"],
) -> Float[torch.Tensor, "rows tokens width"]:
    """Return the states after a layer that changes those of `queries` only, as `models.token_layer` does."""
    attention, flat = layer.attention.self, hidden.flatten(0, 1)
    states = flat[queries]

    def split(rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        split(attention.query(states)), split(attention.key(hidden)), split(attention.value(hidden)), attn_mask=mask
    )
    changed = layer.feed_forward_chunk(layer.attention.output(mixed.transpose(1, 2).flatten(2), states))
    return flat.index_copy(0, queries.flatten(), changed.flatten(0, 1)).view_as(hidden)
