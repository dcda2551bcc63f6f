"""A sentence alone on a GPU: while the host judges an exit, the next segment runs already.

A host that judges exit after exit keeps a GPU waiting for longer than a layer of a short sentence takes. So each
segment is started before the exit ahead of it is judged: who stays has lost no time, and of who leaves one segment is
computed for nobody, behind the answer. A graph that decides by itself would need conditional nodes: PyTorch captures
`torch.cond` into them from 2.12 (https://github.com/pytorch/pytorch/pull/168912), 2.11 does not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from halfling.engine.backends.torch_graphs import capture, could_not_record
from halfling.engine.exported import Exported
from halfling.exits import criteria


class Rows:
    """Answers for single rows: for each length and number of answers a chain of graphs, recorded when it first comes.

    `compute(segment, state, owners, picked)` returns logits and, but for the last segment, states. On the CPU, or where
    recording fails, it is called anew each time.
    """

    def __init__(self, compute: Callable[..., tuple[Tensor, ...]], exported: Exported, device: torch.device) -> None:
        self.compute, self.policy, self.device = compute, exported.policy, device
        self.tagging, self.segments = exported.kind == "token", len(exported.segments)
        self.held: dict[tuple[int, int], _Chain] = {}
        self.records = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self.records else None
        self._aside = torch.cuda.Stream(device) if self.records else None

    def __call__(
        self,
        pairs: Int32[np.ndarray, "1 tokens 2"],
        owners: Int32[np.ndarray, "1 tokens"],
        picked: Int32[np.ndarray, " room"],
        num: int,
        thresholds: Float32[np.ndarray, " early"],
    ) -> tuple[Float32[np.ndarray, "answers classes"], float, int]:
        """Return the logits of the first `num` picked, their uncertainty, and the segment after which the row left."""
        key = owners.shape[1], len(picked)
        if key not in self.held:
            self.held[key] = _Chain(self, *key)
        chain, doubt = self.held[key], criteria.Doubt(self.policy)
        chain.send(pairs, owners, picked)
        chain.start(0)
        for segment in range(self.segments):
            last = segment == self.segments - 1
            if not last:
                chain.start(segment + 1)
            logits = chain.wait(segment)[:num]
            unsure = doubt(logits, np.array([num]) if self.tagging else None)
            if last or unsure[0] < thresholds[segment]:
                break
        return logits.copy(), float(unsure[0]), segment

    def record(self, segment: int, given: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
        """Return the graph of a segment (None without one) and what it computes into."""

        def compute(*given: Tensor) -> tuple[Tensor, ...]:
            return self.compute(segment, *given)

        if self.records:
            try:
                return capture(compute, given, self._aside, self._pool)
            except RuntimeError as error:
                could_not_record(error)
                self.records = False
        return None, compute(*given)


class _Chain:
    """The segments for rows of one length, over buffers that stay where they are."""

    def __init__(self, rows: Rows, tokens: int, room: int) -> None:
        self.rows, on_gpu = rows, rows.device.type == "cuda"
        # One buffer, so that one transfer brings all.
        self.host = torch.zeros(3 * tokens + room, dtype=torch.int32, pin_memory=on_gpu)
        self.given = self.host.to(rows.device, copy=True)
        state, self.seen, self.picked = (
            self.given[: 2 * tokens].view(1, tokens, 2),
            self.given[2 * tokens : 3 * tokens].view(1, tokens),
            self.given[3 * tokens :],
        )
        self.into = np.split(self.host.numpy(), (2 * tokens, 3 * tokens))
        self.graphs, self.states, self.found, self.answers = [], [state], [], []
        for segment in range(rows.segments):
            graph, (logits, *after) = rows.record(segment, (self.states[-1], self.seen, self.picked))
            self.graphs.append(graph)
            self.found.append(logits)
            self.answers.append(torch.empty(logits.shape, dtype=logits.dtype, pin_memory=on_gpu))
            self.states += after
        self.done = [torch.cuda.Event() for _ in self.graphs] if on_gpu else []

    def send(self, *given: np.ndarray) -> None:
        """Bring ids and positions, owners and places picked to the device."""
        for place, value in zip(self.into, given, strict=True):
            place[:] = value.reshape(-1)
        self.given.copy_(self.host, non_blocking=True)

    def start(self, segment: int) -> None:
        """Let a segment be computed, and its logits be brought here, without waiting."""
        if self.graphs[segment] is not None:
            self.graphs[segment].replay()
        else:
            logits, *after = self.rows.compute(segment, self.states[segment], self.seen, self.picked)
            self.found[segment].copy_(logits)
            for kept, new in zip(self.states[segment + 1 : segment + 2], after, strict=True):
                kept.copy_(new)
        self.answers[segment].copy_(self.found[segment], non_blocking=True)
        if self.done:
            self.done[segment].record()

    def wait(self, segment: int) -> Float32[np.ndarray, "room classes"]:
        """Return a segment's logits once they are here, valid until the row's next turn."""
        if self.done:
            self.done[segment].synchronize()
        return self.answers[segment].numpy()
