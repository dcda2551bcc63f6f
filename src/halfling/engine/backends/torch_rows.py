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
from jaxtyping import Float32
from torch import Tensor

from halfling.engine.answer import Answer
from halfling.engine.backends.torch_graphs import capture, could_not_record
from halfling.engine.exported import Exported
from halfling.engine.packing import bucket
from halfling.engine.text import PAD
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded


class Rows:
    """Answers for single rows: for each length of a row a chain of graphs, recorded when it first comes.

    `compute(segment, state, owners, picked)` returns logits and, but for the last segment, states. On the CPU, or where
    recording fails, it is called anew each time.
    """

    def __init__(self, compute: Callable[..., tuple[Tensor, ...]], exported: Exported, device: torch.device) -> None:
        self.compute, self.device = compute, device
        self.tagging, self.segments = exported.kind == "token", len(exported.segments)
        self.held: dict[int, _Chain] = {}
        self.records = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self.records else None
        self._aside = torch.cuda.Stream(device) if self.records else None

    @torch.inference_mode()
    def __call__(self, one: Encoded, policy: ExitPolicy, leave_after: int | None = None) -> Answer:
        """Return the answer to a sentence that exits when it is sure, or as imposed after the layer `leave_after`."""
        length, num = len(one.ids), len(one.picked)
        tokens = bucket(length)
        if tokens not in self.held:
            self.held[tokens] = _Chain(self, tokens, tokens if self.tagging else 1)
        chain, doubt = self.held[tokens], criteria.Doubt(policy)
        chain.send(one)
        chain.start(0)
        for segment, layer in enumerate(policy.layers):
            last = segment == self.segments - 1
            if not last:
                chain.start(segment + 1)
            logits = chain.wait(segment)[:num]
            unsure = doubt(logits, np.array([num]) if self.tagging else None)
            sure = not last and bool(criteria.leaves(unsure, policy.thresholds[segment])[0])
            if last or (sure if leave_after is None else layer >= leave_after):
                break
        return Answer(logits.copy(), layer, float(unsure[0]))

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
        pairs, self.owners, self.places = np.split(self.host.numpy(), (2 * tokens, 3 * tokens))
        self.ids, self.positions = pairs.reshape(tokens, 2).T
        self.graphs, self.states, self.found, self.answers = [], [state], [], []
        for segment in range(rows.segments):
            graph, (logits, *after) = rows.record(segment, (self.states[-1], self.seen, self.picked))
            self.graphs.append(graph)
            self.found.append(logits)
            self.answers.append(torch.empty(logits.shape, dtype=logits.dtype, pin_memory=on_gpu))
            self.states += after
        self.done = [torch.cuda.Event() for _ in self.graphs] if on_gpu else []

    def send(self, one: Encoded) -> None:
        """Bring ids and positions, owners and places picked to the device; what is filled up belongs to nobody."""
        length, num = len(one.ids), len(one.picked)
        self.ids[:length], self.ids[length:] = one.ids, PAD
        self.positions[:length], self.positions[length:] = np.arange(length), 0
        self.owners[:length], self.owners[length:] = 0, -1
        self.places[:num], self.places[num:] = one.picked, 0
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
