"""The adaptive loop: segment by segment, whoever is sure leaves, and only those who stay are computed further."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from halfling.engine import packing
from halfling.engine.backends import Backend
from halfling.engine.embeddings import Embeddings
from halfling.engine.exported import Exported
from halfling.engine.text import PAD
from halfling.exits import criteria
from halfling.tasks.encode import Encoded

TOKENS_AT_ONCE = 2048
"""Tokens of one pass: what is computed together stays in the caches, and memory stays bounded."""

REPACK_GAIN = 0.1
"""Those who stay are packed anew when that spares this share of what is left to compute; below, it costs more."""


@dataclass(frozen=True)
class Answer:
    """What the network says of one sequence: logits [picked, classes] at the exit it took.

    Where tokens exit alone, `token_layers` holds the layer after which each of them did.
    """

    logits: Float32[np.ndarray, "picked classes"]
    exit_layer: int
    uncertainty: float
    token_layers: tuple[int, ...] | None = None


class _Packed:
    """Who is still there, where they lie, and what of that a segment reads; made anew whenever somebody leaves."""

    def __init__(
        self,
        layout: packing.Layout,
        places: Int[np.ndarray, " staying"],
        picked: list[np.ndarray],
        bias: np.ndarray | None,
    ) -> None:
        self.layout, self.places, self.own = layout, places, picked
        self.bias = layout.bias() if bias is None else bias
        self.counts = np.array([len(one) for one in picked])
        self.ends = np.cumsum(self.counts)
        self.total = int(self.ends[-1])
        # One row: as many answers as tokens, so that a length of row is one shape.
        one_each = self.total == len(picked)
        room = layout.tokens if layout.rows == 1 and not one_each else packing.bucket_answers(self.total)
        self.picked = np.zeros(room, np.int32)
        self.picked[: self.total] = np.concatenate(picked) + np.repeat(layout.starts, self.counts)


class AdaptiveLoop:
    """Sequences in, answers out, over a backend's segments.

    Sequences lie in rows without padding between them, under attention that stays within each. After each segment
    those whose uncertainty is below the exit's threshold leave; those who stay are packed anew when that pays.
    """

    def __init__(self, exported: Exported, embed: Embeddings, backend: Backend) -> None:
        self.policy, self.embed, self.backend = exported.policy, embed, backend
        self.tagging = exported.kind == "token"

    def answer(self, sequences: Sequence[Encoded], leave_after: Sequence[int] | None = None) -> list[Answer]:
        """Return the network's answer to each sequence, in their order.

        Args:
            sequences: Token ids, at most `shape.max_tokens` each, with at least one place picked.
            leave_after: For measurements, the layer after which each leaves: exits are computed and judged as ever,
                then overruled.
        """
        longest_first = sorted(range(len(sequences)), key=lambda number: -len(sequences[number].ids))
        answers: dict[int, Answer] = {}
        some: list[int] = []
        tokens = 0
        for number in longest_first:
            length = len(sequences[number].ids)
            if some and tokens + length > TOKENS_AT_ONCE:
                answers |= self._pass(sequences, some, leave_after)
                some, tokens = [], 0
            some.append(number)
            tokens += length
        if some:
            answers |= self._pass(sequences, some, leave_after)
        return [answers[number] for number in range(len(sequences))]

    def _pass(
        self, sequences: Sequence[Encoded], numbers: list[int], leave_after: Sequence[int] | None
    ) -> dict[int, Answer]:
        """Compute some sequences together."""
        chosen = [sequences[number] for number in numbers]
        layout = packing.lay_out([len(one.ids) for one in chosen])
        here = _Packed(layout, np.arange(len(chosen)), [one.picked for one in chosen], None)
        hidden: Any = self._embed(chosen, layout)
        doubt = criteria.Doubt(self.policy)
        wanted = None if leave_after is None else np.array([leave_after[number] for number in numbers])
        answers: dict[int, Answer] = {}
        for segment, layer in enumerate(self.policy.layers):
            hidden, logits = self.backend.run(segment, hidden, here.bias, here.picked)
            logits = logits[: here.total]
            unsure = doubt(logits, here.counts if self.tagging else None)
            if layer == self.policy.layers[-1]:
                leaves = np.ones(len(unsure), bool)
            elif wanted is None:
                leaves = criteria.leaves(unsure, self.policy.thresholds[segment])
            else:
                leaves = wanted[here.places] <= layer
            if not leaves.any():
                continue
            for place in leaves.nonzero()[0].tolist():
                end = int(here.ends[place])
                own = logits[end - int(here.counts[place]) : end]
                answers[numbers[here.places[place]]] = Answer(own, layer, float(unsure[place]))
            staying = (~leaves).nonzero()[0]
            if not len(staying):
                break
            doubt.stay(staying)
            hidden, here = self._pack(hidden, here, staying)
        return answers

    def _pack(self, hidden: Any, here: _Packed, staying: Int[np.ndarray, " staying"]) -> tuple[Any, _Packed]:
        """Return those who stay, where they lie or, when that pays, packed anew."""
        picked = [here.own[place] for place in staying]
        old = here.layout
        kept = packing.Layout(old.rows, old.tokens, old.starts[staying], old.lengths[staying])
        enough = (1 - REPACK_GAIN) * kept.cost
        # No layout is shorter than its tokens: that is known before it is made.
        packed = packing.lay_out(kept.lengths) if kept.lengths.sum() <= enough else kept
        if packed.cost > enough:
            return hidden, _Packed(kept, here.places[staying], picked, here.bias)
        hidden = self.backend.move(hidden, kept.places(), packed.places(), packed.rows, packed.tokens)
        return hidden, _Packed(packed, here.places[staying], picked, None)

    def _embed(self, chosen: list[Encoded], layout: packing.Layout) -> Float32[np.ndarray, "rows tokens width"]:
        ids = np.full(layout.rows * layout.tokens, PAD)
        positions = np.zeros_like(ids)
        places = layout.places()
        ids[places] = np.concatenate([one.ids for one in chosen])
        positions[places] = packing.within(layout.lengths)
        return self.embed(ids, positions).reshape(layout.rows, layout.tokens, -1)
