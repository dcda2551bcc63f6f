"""The adaptive loop for taggers whose tokens leave alone: who has left is still a key and a value to the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from halfling.engine import packing
from halfling.engine.loop import REPACK_GAIN, AdaptiveLoop, Answer
from halfling.exits import criteria
from halfling.tasks.encode import Encoded


@dataclass
class _Tokens:
    """All tokens of the sequences that are not done, one sequence after the other.

    Attributes:
        layout: Where they lie.
        place: Of each in the rows, counted through.
        owner: The number of its sequence in the pass.
        counted: Whether its answer is wanted: a sequence is done when all of these have left.
        there: Whether its state is still computed.
    """

    layout: packing.Layout
    place: np.ndarray
    owner: np.ndarray
    counted: Bool[np.ndarray, " tokens"]
    there: Bool[np.ndarray, " tokens"]

    def asking(self) -> Int32[np.ndarray, "rows queries"]:
        """Return the tokens of each row that are still there, a row's last repeated where it has fewer than others.

        What is computed for a repeated one is the same each time, so it does not matter which of them is kept.
        """
        place = self.place[self.there]
        row = place // self.layout.tokens
        order = np.argsort(row, kind="stable")
        place, row = place[order], row[order]
        counts = np.bincount(row, minlength=self.layout.rows)
        begins = np.cumsum(counts) - counts
        within = np.minimum(np.arange(packing.bucket(int(counts.max()))), np.maximum(counts - 1, 0)[:, None])
        # A row of padding alone asks with its own first place: what becomes of that nobody reads.
        empty = np.arange(self.layout.rows)[:, None] * self.layout.tokens
        found = place[np.minimum(begins[:, None] + within, len(place) - 1)]
        return np.where(counts[:, None] > 0, found, empty).astype(np.int32)


class TokenLoop(AdaptiveLoop):
    """As `AdaptiveLoop`, but each token leaves by its own uncertainty, and its state stays what it was then.

    An answer's uncertainty is the mean over its answers, its exit the deepest that one of its tokens took.
    """

    def _pass(
        self, sequences: Sequence[Encoded], numbers: list[int], leave_after: Sequence[int] | None
    ) -> dict[int, Answer]:
        """Compute some sequences together."""
        chosen = [sequences[number] for number in numbers]
        layout = packing.lay_out([len(one.ids) for one in chosen])
        hidden: Any = self._embed(chosen, layout)
        tokens = _first(chosen, layout)
        bias = layout.bias()
        doubt = criteria.Doubt(self.policy)
        begins = np.cumsum(layout.lengths) - layout.lengths
        whole = np.arange(len(tokens.place))  # the numbers, among all tokens of the pass, of those in `tokens`
        logits: np.ndarray | None = None
        taken, unsure = np.zeros(len(whole), np.int64), np.zeros(len(whole), np.float32)
        wanted = None if leave_after is None else np.array([leave_after[number] for number in numbers])
        for segment, layer in enumerate(self.policy.layers):
            picked = tokens.place[tokens.there].astype(np.int32)
            room = np.zeros(packing.bucket_answers(len(picked)), np.int32)
            room[: len(picked)] = picked
            if segment:
                queries = tokens.asking()
                rows, column = np.divmod(queries, tokens.layout.tokens)
                seen = np.ascontiguousarray(bias[rows, 0, column][:, None])
                hidden, here = self.backend.run(segment, hidden, seen, room, queries)
            else:
                hidden, here = self.backend.run(segment, hidden, bias, room)
            here = here[: len(picked)]
            now = doubt(here)
            if layer == self.policy.layers[-1]:
                leaves = np.ones(len(now), bool)
            elif wanted is None:
                leaves = criteria.leaves(now, self.policy.thresholds[segment])
            else:
                leaves = wanted[tokens.owner[tokens.there]] <= layer
            still = tokens.there.copy()
            still[tokens.there] = ~leaves
            waiting = np.bincount(tokens.owner[tokens.counted & still], minlength=len(chosen)) > 0
            still &= waiting[tokens.owner]
            gone = ~still[tokens.there]
            if logits is None:
                logits = np.zeros((len(whole), here.shape[1]), np.float32)
            left = whole[tokens.there][gone]
            logits[left], taken[left], unsure[left] = here[gone], layer, now[gone]
            if not still.any():
                break
            doubt.stay(np.flatnonzero(~gone))
            tokens.there = still
            stays = waiting[tokens.owner]
            if not stays.all():
                whole = whole[stays]
                hidden, tokens, bias = self._keep(hidden, tokens, stays, bias)
        assert logits is not None
        return {
            number: _answer(slice(begin, begin + len(one.ids)), one, logits, taken, unsure)
            for number, one, begin in zip(numbers, chosen, begins.tolist(), strict=True)
        }

    def _keep(
        self, hidden: Any, tokens: _Tokens, stays: Bool[np.ndarray, " tokens"], bias: Float32[np.ndarray, "..."]
    ) -> tuple[Any, _Tokens, np.ndarray]:
        """Return the sequences that are not done, where they lie or, when that pays, packed anew."""
        old = tokens.layout
        owner = tokens.owner[stays]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        lengths = np.diff(first, append=len(owner))
        kept = packing.Layout(old.rows, old.tokens, tokens.place[stays][first], lengths)
        packed = packing.lay_out(lengths)
        if packed.cost > (1 - REPACK_GAIN) * kept.cost:
            place, layout = tokens.place[stays], kept
        else:
            place, layout, bias = packed.places(), packed, packed.bias()
            hidden = self.backend.move(hidden, kept.places(), place, packed.rows, packed.tokens)
        return hidden, _Tokens(layout, place, owner, tokens.counted[stays], tokens.there[stays]), bias


def _first(chosen: list[Encoded], layout: packing.Layout) -> _Tokens:
    counted = np.zeros(int(layout.lengths.sum()), bool)
    begins = np.cumsum(layout.lengths) - layout.lengths
    for one, begin in zip(chosen, begins.tolist(), strict=True):
        counted[begin + one.picked] = True
    owner = np.repeat(np.arange(len(chosen)), layout.lengths)
    return _Tokens(layout, layout.places(), owner, counted, np.ones(len(owner), bool))


def _answer(own: slice, one: Encoded, logits: np.ndarray, taken: np.ndarray, unsure: np.ndarray) -> Answer:
    doubt, layers = float(unsure[own][one.picked].mean()), taken[own]
    return Answer(logits[own][one.picked], int(layers.max()), doubt, tuple(layers.tolist()))
