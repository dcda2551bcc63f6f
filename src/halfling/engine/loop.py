"""The adaptive loop: segment by segment, whoever is sure leaves, and only those who stay are computed further."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from halfling.engine import packing
from halfling.engine.answer import Answer
from halfling.engine.backends import Backend
from halfling.engine.exported import Exported
from halfling.engine.text import PAD
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded

REPACK_GAIN = 0.1
"""Those who stay are packed anew when that spares this share of what is left to compute; below, it costs more."""


class AdaptiveLoop:
    """Sequences in, answers out, over a backend's segments.

    Sequences lie in rows without padding between them, under attention that stays within each. After each segment
    those whose uncertainty is below the exit's threshold leave; those who stay are packed anew when that pays.
    """

    def __init__(self, exported: Exported, backend: Backend) -> None:
        self.policy = exported.at_ends(exported.policy)
        self.backend, self.words, self.longest = backend, exported.shape.vocab_size, exported.shape.max_tokens
        self.tagging = exported.kind == "token"

    def answer(
        self,
        sequences: Sequence[Encoded],
        leave_after: Sequence[int] | None = None,
        policy: ExitPolicy | None = None,
    ) -> list[Answer]:
        """Return the network's answer to each sequence, in their order.

        Args:
            sequences: Token ids, at most `shape.max_tokens` each, with at least one place picked.
            leave_after: For measurements, the layer after which each leaves: exits are computed and judged as ever,
                then overruled.
            policy: Where they exit, with an exit after every segment; the exported model's when absent.

        Raises:
            ValueError: An id is none of the vocabulary, a sequence is too long, or a place picked is none of its
                sequence's.
        """
        policy = policy or self.policy
        _require_places(sequences, self.longest)
        ids = np.concatenate([one.ids for one in sequences]) if sequences else np.zeros(0, np.int64)
        # Asked here: on a GPU a look-up beyond the table ends the process.
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= self.words:
            raise ValueError(f"ids {ids.min()} to {ids.max()}: the vocabulary is 0 to {self.words - 1}")
        if len(sequences) == 1 and self.backend.alone is not None and len(sequences[0].picked):
            return [self.backend.alone(sequences[0], policy, None if leave_after is None else leave_after[0])]
        answers: dict[int, Answer] = {}
        for numbers in _passes([len(one.ids) for one in sequences], self.backend.tokens_at_once):
            imposed = None if leave_after is None else np.array([leave_after[number] for number in numbers])
            answers |= zip(numbers, self._pass([sequences[number] for number in numbers], policy, imposed), strict=True)
        return [answers[number] for number in range(len(sequences))]

    def _pass(
        self, chosen: list[Encoded], policy: ExitPolicy, imposed: Int[np.ndarray, " sequences"] | None
    ) -> list[Answer]:
        """Compute some sequences together."""
        layout = packing.lay_out([len(one.ids) for one in chosen])
        hidden: Any = self._tokens(chosen, layout)
        owners, staying = layout.owners(), np.arange(len(chosen))
        counts = np.array([len(one.picked) for one in chosen])
        picked = _picked(chosen, layout)
        doubt = criteria.Doubt(policy)
        answers: dict[int, Answer] = {}
        for segment, layer in enumerate(policy.layers):
            hidden, logits = self.backend.run(segment, hidden, owners, picked)
            ends = np.cumsum(counts[staying])
            unsure = doubt(logits[: ends[-1]], counts[staying] if self.tagging else None)
            leaves = leaves_after(policy, segment, unsure, None if imposed is None else imposed[staying])
            for place in leaves.nonzero()[0].tolist():
                number, end = int(staying[place]), int(ends[place])
                answers[number] = Answer(logits[end - int(counts[number]) : end], layer, float(unsure[place]))
            if leaves.all():
                break
            if leaves.any():
                doubt.stay((~leaves).nonzero()[0])
                staying = staying[~leaves]
                hidden, layout = self._keep(hidden, layout, ~leaves)
                owners = layout.owners()
                picked = _picked([chosen[number] for number in staying], layout)
        return [answers[number] for number in range(len(chosen))]

    def _keep(
        self, hidden: Any, old: packing.Layout, stays: Bool[np.ndarray, " sequences"]
    ) -> tuple[Any, packing.Layout]:
        """Return the sequences that stay, where they lie or, when that pays, packed anew."""
        kept = packing.Layout(old.rows, old.tokens, old.starts[stays], old.lengths[stays])
        enough = (1 - REPACK_GAIN) * kept.cost
        # No layout is shorter than its tokens: that is known before it is made.
        packed = packing.lay_out(kept.lengths) if kept.lengths.sum() <= enough else kept
        if packed.cost > enough:
            return hidden, kept
        hidden = self.backend.move(hidden, kept.places(), packed.places(), packed.rows, packed.tokens)
        return hidden, packed

    def _tokens(self, chosen: list[Encoded], layout: packing.Layout) -> Int32[np.ndarray, "rows tokens 2"]:
        """Return what the first segment reads: each place's id and its position in its sequence."""
        tokens = np.zeros((layout.rows * layout.tokens, 2), np.int32)
        tokens[:, 0] = PAD
        tokens[layout.places(), 0] = np.concatenate([one.ids for one in chosen])
        tokens[layout.places(), 1] = packing.within(layout.lengths)
        return tokens.reshape(layout.rows, layout.tokens, 2)


def _require_places(sequences: Sequence[Encoded], longest: int) -> None:
    """Refuse a sequence that is too long, and places outside their own: there may be a neighbour's answer."""
    if not sequences:
        return
    lengths = [len(one.ids) for one in sequences]
    if max(lengths) > longest:
        raise ValueError(f"{max(lengths)} tokens: the model reads {longest} at most")
    places = np.concatenate([one.picked for one in sequences])
    ends = np.repeat(lengths, [len(one.picked) for one in sequences])
    if ((places < 0) | (places >= ends)).any():
        raise ValueError("a place picked lies outside its sequence: they count from 0")


def leaves_after(
    policy: ExitPolicy, segment: int, unsure: np.ndarray, imposed: np.ndarray | None
) -> Bool[np.ndarray, " staying"]:
    """Return who leaves after a segment: who is sure, or as imposed; after the last everybody."""
    if segment == len(policy.layers) - 1:
        return np.ones(len(unsure), bool)
    if imposed is None:
        return criteria.leaves(unsure, policy.thresholds[segment])
    return np.asarray(imposed <= policy.layers[segment])


def _passes(lengths: list[int], tokens_at_once: int) -> Iterator[list[int]]:
    """Yield the numbers of sequences that are computed together, longest first."""
    some: list[int] = []
    tokens = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if some and tokens + lengths[number] > tokens_at_once:
            yield some
            some, tokens = [], 0
        some.append(number)
        tokens += lengths[number]
    if some:
        yield some


def _picked(sequences: list[Encoded], layout: packing.Layout) -> Int32[np.ndarray, " room"]:
    """Return where in the rows the places picked lie, filled up with zeros."""
    counts = [len(one.picked) for one in sequences]
    places = np.concatenate([one.picked for one in sequences]) + np.repeat(layout.starts, counts)
    # One row: as many answers as tokens, so that a length of row is one shape.
    as_tokens = layout.rows == 1 and len(places) != len(sequences)
    picked = np.zeros(layout.tokens if as_tokens else packing.bucket_answers(len(places)), np.int32)
    picked[: len(places)] = places
    return picked
