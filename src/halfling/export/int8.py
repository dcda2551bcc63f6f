"""How large activations get: what evens their channels out before they are quantised."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from halfling.export.trained import Trained


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
