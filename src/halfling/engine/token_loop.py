"""The adaptive loop for taggers whose tokens leave alone: who has left is still a key and a value to the others."""

from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from halfling.engine import packing
from halfling.engine.answer import Answer
from halfling.engine.loop import AdaptiveLoop, leaves_after
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded


class TokenLoop(AdaptiveLoop):
    """As `AdaptiveLoop`, but each token leaves by its own uncertainty, and its state stays what it was then.

    An answer's uncertainty is the mean over its answers, its exit the deepest that one of its tokens took. A sequence
    is done when all tokens whose answers are wanted have left.
    """

    def _pass(
        self, chosen: list[Encoded], policy: ExitPolicy, imposed: Int[np.ndarray, " sequences"] | None
    ) -> list[Answer]:
        """Compute some sequences together."""
        layout = packing.lay_out([len(one.ids) for one in chosen])
        hidden: Any = self._tokens(chosen, layout)
        owners, place = layout.owners(), layout.places()
        doubt = criteria.Doubt(policy)
        # What follows has a number for each token, one sequence after the other.
        owner = np.repeat(np.arange(len(chosen)), layout.lengths)
        begins = np.cumsum(layout.lengths) - layout.lengths
        own = [slice(begin, begin + len(one.ids)) for begin, one in zip(begins.tolist(), chosen, strict=True)]
        wanted, there = np.zeros(len(owner), bool), np.ones(len(owner), bool)
        wanted[np.concatenate([begin + one.picked for begin, one in zip(begins, chosen, strict=True)])] = True
        taken, unsure = np.zeros(len(owner), np.int64), np.zeros(len(owner), np.float32)
        logits = np.zeros((len(owner), 0), np.float32)
        undone = np.ones(len(chosen), bool)
        for segment, layer in enumerate(policy.layers):
            asking = np.flatnonzero(there)
            picked = np.zeros(packing.bucket_answers(len(asking)), np.int32)
            picked[: len(asking)] = place[asking]
            queries = _queries(place[asking], layout) if segment else None
            hidden, found = self.backend.run(segment, hidden, owners, picked, queries)
            if not segment:
                logits = np.zeros((len(owner), found.shape[1]), np.float32)
            found = found[: len(asking)]
            now = doubt(found)
            leaves = leaves_after(policy, segment, now, None if imposed is None else imposed[owner[asking]])
            there[asking[leaves]] = False
            before, undone = undone, np.bincount(owner[wanted & there], minlength=len(chosen)) > 0
            there &= undone[owner]
            gone = ~there[asking]
            left = asking[gone]
            logits[left], taken[left], unsure[left] = found[gone], layer, now[gone]
            if not undone.any():
                break
            doubt.stay(np.flatnonzero(~gone))
            if (undone != before).any():
                hidden, layout = self._keep(hidden, layout, undone[before])
                owners = layout.owners()
                place[undone[owner]] = layout.places()
        return [
            _answer(logits[tokens][one.picked], unsure[tokens][one.picked], taken[tokens])
            for one, tokens in zip(chosen, own, strict=True)
        ]


def _queries(place: Int[np.ndarray, " asking"], layout: packing.Layout) -> Int32[np.ndarray, "rows queries"]:
    """Return the tokens of each row that are still there, a row's last repeated where it has fewer than others.

    What is computed for a repeated one is the same each time, so it does not matter which of them is kept.
    """
    row = place // layout.tokens
    order = np.argsort(row, kind="stable")
    place, row = place[order], row[order]
    counts = np.bincount(row, minlength=layout.rows)
    begins = np.cumsum(counts) - counts
    within = np.minimum(np.arange(packing.bucket(int(counts.max()))), np.maximum(counts - 1, 0)[:, None])
    # A row of padding alone asks with its own first place: what becomes of that nobody reads.
    empty = np.arange(layout.rows)[:, None] * layout.tokens
    found = place[np.minimum(begins[:, None] + within, len(place) - 1)]
    return np.where(counts[:, None] > 0, found, empty).astype(np.int32)


def _answer(logits: np.ndarray, unsure: np.ndarray, layers: np.ndarray) -> Answer:
    return Answer(logits, int(layers.max()), float(unsure.mean()), tuple(layers.tolist()))
