"""What linear layers read: int8 weights are rounded for it, and channels evened out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from halfling.export.rounding import Inputs
from halfling.export.trained import Trained

_TOGETHER = 512
"""Rows whose products are added at once: a table of them is large, and reading it takes most of the time."""


def inputs_of_layers(trained: Trained, sequences: Sequence[list[int]]) -> dict[str, Inputs]:
    """Return what each linear layer reads, by its name; queries, keys and values share one, under their module's."""
    found: dict[str, Moments] = {}
    hooks = []
    for name, module in trained.network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith((".key", ".value")):
            moments = found[name.removesuffix(".query")] = Moments(module.in_features)
            hooks.append(module.register_forward_pre_hook(lambda _, inputs, to=moments: to.add(inputs[0])))
    for ids in sequences:
        trained.exit_logits(ids)
    for hook in hooks:
        hook.remove()
    return {name: moments.inputs() for name, moments in found.items() if moments.count}


class Moments:
    """Sums over rows, counted from the first rows' mean, so that single precision is enough."""

    def __init__(self, width: int) -> None:
        """Begin with no rows of so many channels."""
        self.count, self.origin = 0, torch.zeros(width)
        self.sum, self.products = torch.zeros(width), torch.zeros(width, width)
        self.least, self.most = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)
        self.waiting: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Count rows of any number of leading dimensions."""
        rows = rows.flatten(0, -2)
        if not self.count:
            self.origin = rows.mean(dim=0)
        self.count += len(rows)
        self.waiting.append(rows - self.origin)
        if sum(map(len, self.waiting)) >= _TOGETHER:
            self._settle()

    def _settle(self) -> None:
        rows = torch.cat(self.waiting) if self.waiting else torch.zeros(1, len(self.sum))
        self.waiting.clear()
        self.sum += rows.sum(dim=0)
        self.products.addmm_(rows.T, rows)
        self.least = torch.minimum(self.least, rows.amin(dim=0))
        self.most = torch.maximum(self.most, rows.amax(dim=0))

    def inputs(self) -> Inputs:
        """Return what was seen."""
        self._settle()
        mean = self.sum / self.count
        reach = torch.maximum(self.most - mean, mean - self.least)
        covariance = self.products / self.count - torch.outer(mean, mean)
        return Inputs((self.origin + mean).numpy(), reach.numpy(), covariance.numpy())
