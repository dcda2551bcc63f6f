"""How large activations get: what static int8 scales follow from, and what evens channels out before run-time ones."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from halfling.export.trained import Trained


def largest_inputs(trained: Trained, sequences: Sequence[list[int]]) -> dict[str, float]:
    """Return the largest magnitude among the inputs of each linear layer, by the layer's name.

    Queries, keys and values share their input, so they share one number, under the name of their module.
    """
    found: dict[str, float] = {}
    hooks = []
    for name, module in trained.network.named_modules():
        if isinstance(module, nn.Linear):
            key = name.removesuffix(".query").removesuffix(".key").removesuffix(".value")

            def note(_: nn.Module, inputs: tuple[Tensor, ...], key: str = key) -> None:
                found[key] = max(found.get(key, 0.0), float(inputs[0].abs().max()))

            hooks.append(module.register_forward_pre_hook(note))
    for ids in sequences:
        trained.exit_logits(ids)
    for hook in hooks:
        hook.remove()
    return {name: value or 1.0 for name, value in found.items()}


def largest_of_channels(trained: Trained, sequences: Sequence[list[int]]) -> dict[str, Float32[np.ndarray, " width"]]:
    """Return the largest magnitude of each channel of each norm's output, by the norm's name."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, module in trained.network.named_modules():
        if isinstance(module, nn.LayerNorm):

            def note(_: nn.Module, __: object, output: Tensor, key: str = name) -> None:
                largest = output.abs().flatten(0, -2).amax(dim=0)
                found[key] = torch.maximum(found[key], largest) if key in found else largest

            hooks.append(module.register_forward_hook(note))
    for ids in sequences:
        trained.exit_logits(ids)
    for hook in hooks:
        hook.remove()
    return {name: largest.numpy() for name, largest in found.items()}
