"""Drift: a share of the texts is answered at full depth too, when nobody waits, and both answers are compared."""

import logging
import math
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import numpy as np

from halfling.engine import AdaptiveEngine, Answer
from halfling.engine.agreement import at_full_depth, disagreement
from halfling.engine.questions import Question
from halfling.exits.bound import CONFIDENCE, lower_bound, upper_bound
from halfling.exits.calibration import Calibration
from halfling.serve.meter import DEFAULT, Meter

log = logging.getLogger("halfling.serve")

LATEST = 2048
"""Watched texts of one set that its bounds are of: drift that begins late is not hidden by a long good time before."""

_OFTEN, _EVERY = 64, 16
"""Up to so many texts every one moves the bound, then every so many: it costs a millisecond."""


class Drift:
    """How far the answers of one model are from full depth, by the set of thresholds that they exited by."""

    def __init__(
        self, name: str, engine: AdaptiveEngine, calibration: Calibration | None, share: float, meter: Meter
    ) -> None:
        self.name, self.engine, self.share, self._meter = name, engine, share, meter
        self._losses: defaultdict[str | None, deque[float]] = defaultdict(lambda: deque(maxlen=LATEST))
        self._counted: defaultdict[str | None, int] = defaultdict(int)
        self._told: set[str | None] = set()
        self._looks: defaultdict[str | None, int] = defaultdict(int)
        self._promised: dict[str | None, float] = {
            code: points / 100
            for code in engine.exported.policies
            if calibration and (points := calibration.promised(code)) is not None
        }
        if share:
            meter.watch(name, [None, *engine.exported.policies], self._promised)

    def draws(self) -> bool:
        """Return whether the next text is watched."""
        return self.share > 0 and random.random() < self.share

    def compare(self, question: Question, answers: Sequence[Answer], policy: str | None) -> Iterator[None]:
        """Compare the answers to a text with those at full depth; between two steps others may be answered.

        Args:
            question: The text.
            answers: Those of its sequences that were given.
            policy: The language whose set held; None: the default.
        """
        full = []
        for each in at_full_depth(self.engine, question.sequences, answers):
            full.append(each)
            yield
        (early,), (late,) = (self.engine.read([question], each) for each in (answers, full))
        loss = disagreement(early, late, self.engine.exported.labels)
        if loss is not None:
            self._count(policy, loss)

    def _count(self, policy: str | None, loss: float) -> None:
        self._losses[policy].append(loss)
        self._counted[policy] += 1
        number = self._counted[policy]
        self._meter.watched(self.name, policy, loss)
        if number <= _OFTEN or number % _EVERY == 0:
            latest = np.array(self._losses[policy])
            self._meter.disagreement_bound.labels(self.name, policy or DEFAULT).set(upper_bound(latest))
        # Not after every text: among many tests one fails by chance.
        if number % LATEST == 0 or (number < LATEST and number.bit_count() == 1):
            self._test(policy)

    def _test(self, policy: str | None) -> None:
        """Say it once where the answers are shown to disagree more than was promised, at a confidence of 95 %.

        It is looked again and again, so the n-th look may be wrong by 6 / (pi n)^2 of that alone: all of them in sum by
        5 %.
        """
        promised, latest = self._promised.get(policy), np.array(self._losses[policy])
        if promised is None or policy in self._told:
            return
        self._looks[policy] += 1
        share = 6 / (math.pi * self._looks[policy]) ** 2
        if (least := lower_bound(latest, 1 - share * (1 - CONFIDENCE))) <= promised:
            return
        self._told.add(policy)
        log.warning(
            "more disagreement with full depth than promised",
            extra={
                "model": self.name,
                "policy": policy,
                "watched": len(latest),
                "disagreement": round(100 * float(latest.mean()), 2),
                "at_least": round(100 * least, 2),
                "promised": round(100 * promised, 2),
            },
        )
