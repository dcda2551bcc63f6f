"""A sentence alone, where the backend has a graph of its length that decides by itself when to stop."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from halfling.engine.backends import NEVER, Backend
from halfling.engine.exported import Exported
from halfling.engine.loop import Answer
from halfling.engine.packing import Embed, Layout
from halfling.engine.text import PAD
from halfling.tasks.encode import Encoded

ALWAYS = 2.0
"""A threshold above every uncertainty."""


class Alone:
    """One sentence in, one answer out."""

    def __init__(self, exported: Exported, embed: Embed, backend: Backend) -> None:
        self.policy, self.embed, self.backend = exported.policy, embed, backend
        self.tagging = exported.kind == "token"
        self.thresholds = np.array(exported.policy.thresholds or (NEVER,), np.float32)

    def answer(self, one: Encoded, leave_after: int | None) -> Answer | None:
        """Return the network's answer, or None where the backend has no graph of this length, or nothing is asked."""
        length = len(one.ids)
        tokens = next((tokens for tokens in self.backend.lengths if tokens >= length), None)
        if tokens is None or not len(one.picked):
            return None
        positions, seen = _mask(length, tokens, self.backend.ways.seen)
        ids = np.full(tokens, PAD)
        ids[:length] = one.ids
        num, room = len(one.picked), tokens if self.tagging else 1
        picked, votes = np.zeros(room, np.int32), np.zeros(room, np.float32)
        picked[:num], votes[:num] = one.picked, 1 / num
        thresholds = self.thresholds if leave_after is None else self._imposed(leave_after)
        hidden = self.embed(ids, positions)[None]
        logits, doubt, segment = self.backend.alone(hidden, seen, picked, votes, thresholds)
        return Answer(logits[:num], self.policy.layers[segment], doubt)

    def _imposed(self, layer: int) -> np.ndarray:
        """Return thresholds that let everybody leave after `layer`, and nobody before."""
        earlier = self.policy.layers[:-1]
        return np.array([ALWAYS if exit_layer >= layer else NEVER for exit_layer in earlier] or [NEVER], np.float32)


@lru_cache(maxsize=64)
def _mask(length: int, tokens: int, seen: Callable[[Layout], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of a sentence in a row, and what tells who sees whom."""
    positions = np.arange(tokens)
    positions[length:] = 0
    return positions, seen(Layout(1, tokens, np.zeros(1, np.int64), np.array([length])))
