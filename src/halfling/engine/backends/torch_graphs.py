"""Calculations of a fixed shape recorded once and replayed: one launch on a GPU where there were hundreds.

A segment of a few short sentences may be less work for a GPU than its kernels take to launch, and what an early exit
spares is then mostly launches. A CUDA graph launches them together
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Compute = Callable[..., tuple[Tensor, ...]]

MOST_RECORDINGS = 64
"""Recordings kept, those used last. At 8,192 tokens of 768 in bfloat16 each holds 25 MB, its inputs and outputs."""

_CAPTURING = threading.Lock()  # of the whole process, in which one capture at a time may be under way


class Recordings:
    """Runs functions of tensors, from a recording where they have seen these shapes before.

    What it returns is valid until anything is run again: recordings share their memory. A shape is recorded when it
    comes the second time, as recording takes longer than computing. Where that fails, nothing is recorded any more.

    On the CPU, where there are no CUDA graphs, a recording computes anew into the same tensors and spoils what all
    others hold, so that tests see who reads too late.
    """

    def __init__(self, device: torch.device, most: int = MOST_RECORDINGS) -> None:
        self.device, self.most = device, most
        self.held: OrderedDict[Hashable, _Recording | None] = OrderedDict()
        on_gpu = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if on_gpu else None
        self._aside = torch.cuda.Stream(device) if on_gpu else None

    def __call__(self, name: Hashable, compute: Compute, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return `compute(*given)`.

        Args:
            name: Of the function: calls with the same name and shapes may be answered by one recording.
            compute: Tensors on the device in, tensors out, without waiting for the device.
            given: On the device or in the host's memory.
        """
        key = (name, *((each.shape, each.dtype) for each in given))
        recording = self.held.get(key)
        if recording is None and key in self.held and self.most:
            recording = self._record(compute, given)
        self.held[key] = recording
        self.held.move_to_end(key)
        while len(self.held) > self.most:
            self.held.popitem(last=False)
        if recording is None:
            return compute(*(each.to(self.device, non_blocking=True) for each in given))
        recording.take(given)
        if recording.graph is not None:
            recording.graph.replay()
        else:
            self._compute_again(recording, compute)
        return recording.found

    def _record(self, compute: Compute, given: tuple[Tensor, ...]) -> "_Recording | None":
        recording = _Recording(given, self.device)
        if self._aside is None:
            recording.found = compute(*recording.given)
            return recording
        try:
            recording.capture(compute, self._aside, self._pool)
        except RuntimeError as error:
            could_not_record(error)
            self.most = 0
            return None
        return recording

    def _compute_again(self, recording: "_Recording", compute: Compute) -> None:
        for other in self.held.values():
            for each in other.found if other is not None else ():
                each.fill_(torch.nan)
        for kept, new in zip(recording.found, compute(*recording.given), strict=True):
            kept.copy_(new)


class _Recording:
    """One function on tensors of one shape."""

    def __init__(self, given: tuple[Tensor, ...], device: torch.device) -> None:
        self.given = tuple(torch.empty_like(each, device=device) for each in given)
        self.take(given)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.found: tuple[Tensor, ...] = ()

    def take(self, given: tuple[Tensor, ...]) -> None:
        for kept, new in zip(self.given, given, strict=True):
            kept.copy_(new, non_blocking=True)

    def capture(self, compute: Compute, aside: torch.cuda.Stream, pool: Any) -> None:
        self.graph, self.found = capture(compute, self.given, aside, pool)


def capture(
    compute: Compute, given: tuple[Tensor, ...], aside: Any, pool: Any
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """Return a graph that computes again from `given`, and what it computes into.

    Args:
        compute: Tensors on the device in, tensors out, without waiting for the device.
        given: What it reads, where it will always lie.
        aside: A stream to record on, always the same with the same pool.
        pool: Memory that is shared with other graphs of which one runs at a time.

    Raises:
        RuntimeError: It cannot be recorded.
    """
    with _CAPTURING:
        # What libraries set up on their first call must not be recorded.
        aside.wait_stream(torch.cuda.current_stream(aside.device))
        with torch.cuda.stream(aside):
            compute(*given)
        torch.cuda.current_stream(aside.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with their own work on the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            found = compute(*given)
    return graph, found


def could_not_record(error: RuntimeError) -> None:
    """Say so, once for each place."""
    warnings.warn(f"no CUDA graph could be recorded, so segments are computed ({error})", stacklevel=3)
