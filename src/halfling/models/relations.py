"""What a layer's attention is made of: the queries, keys and values that relations are taken of."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor
from transformers import XLMRobertaForMaskedLM

VECTORS: tuple[Literal["query", "key", "value"], ...] = ("query", "key", "value")

QueryKeyValue = dict[str, Float[Tensor, "batch tokens width"]]
"""By the names of `VECTORS`, the vectors of all heads side by side."""


@contextmanager
def queries_keys_values(model: XLMRobertaForMaskedLM, layers: Collection[int]) -> Iterator[dict[int, QueryKeyValue]]:
    """Listen to layers (from 1) while a model reads one batch, and yield what they said, by layer.

    transformers returns attention probabilities at most, and of eager attention alone.
    """
    said: dict[int, QueryKeyValue] = {layer: {} for layer in layers}

    def listen(into: QueryKeyValue, name: str) -> Any:
        return lambda _, __, out: into.__setitem__(name, out)

    hooks = [
        getattr(model.roberta.encoder.layer[layer - 1].attention.self, name).register_forward_hook(listen(into, name))
        for layer, into in said.items()
        for name in VECTORS
    ]
    try:
        yield said
    finally:
        for hook in hooks:
            hook.remove()
