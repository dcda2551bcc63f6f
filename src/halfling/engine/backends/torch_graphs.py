"""Calculations of a fixed shape recorded once and replayed: one launch on a GPU where there were hundreds.

A segment of a few short sentences is less work for a GPU than its kernels take to launch, so that what an early exit
spares there is mostly launches. A CUDA graph launches them together (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Compute = Callable[..., tuple[Tensor, ...]]

MOST_GRAPHS = 128
"""Graphs kept, those used last; each holds what it is given and what it returns, a few megabytes."""


class Graphs:
    """Runs functions of tensors, from a recording where they have seen these shapes before.

    What it returns for a recorded shape lies where it lay before: it is valid until the same function runs on the
    same shapes again. A shape is recorded when it comes the second time, as recording takes longer than computing.

    On the CPU, where there are no CUDA graphs, a recording computes anew into the same tensors: what may go wrong
    with tensors that are used again goes wrong there too.
    """

    def __init__(self, device: torch.device, most: int = MOST_GRAPHS) -> None:
        self.device, self.most = device, most
        self._recorded: OrderedDict[Any, _Recording | None] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def __call__(self, name: Any, compute: Compute, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return `compute(*given)`.

        Args:
            name: Of the function: calls with the same name and shapes may be answered by one recording.
            compute: Tensors on the device in, tensors out, without waiting for the device.
            given: On the device or in the host's memory.
        """
        key = (name, *((each.shape, each.dtype) for each in given))
        seen = key in self._recorded
        recording = self._recorded.get(key)
        if recording is None and seen:
            recording = _Recording(compute, given, self.device, self._pool)
        self._recorded[key] = recording
        self._recorded.move_to_end(key)
        if len(self._recorded) > self.most:
            self._recorded.popitem(last=False)
        if recording is None:
            return compute(*(each.to(self.device, non_blocking=True) for each in given))
        return recording(given)


class _Recording:
    """One function on tensors of one shape."""

    def __init__(self, compute: Compute, given: tuple[Tensor, ...], device: torch.device, pool: Any) -> None:
        self.given = tuple(torch.empty_like(each, device=device) for each in given)
        self.compute = compute
        self.graph: torch.cuda.CUDAGraph | None = None
        self._take(given)
        if device.type != "cuda":
            self.found = compute(*self.given)
            return
        # What libraries set up on their first call must not be recorded; on another stream, as PyTorch asks.
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            compute(*self.given)
        torch.cuda.current_stream(device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads may go on with their own work on the GPU meanwhile.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.found = compute(*self.given)

    def __call__(self, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self._take(given)
        if self.graph is not None:
            self.graph.replay()
        else:
            for kept, new in zip(self.found, self.compute(*self.given), strict=True):
                kept.copy_(new)
        return self.found

    def _take(self, given: tuple[Tensor, ...]) -> None:
        for kept, new in zip(self.given, given, strict=True):
            kept.copy_(new, non_blocking=True)
