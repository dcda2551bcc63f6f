"""What a policy would do on the dev split: every exit is computed once, a policy then chooses among the answers."""

from collections.abc import Sequence
from copy import copy
from itertools import compress
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedModel

from halfling.calibrate.agreement import as_answered
from halfling.calibrate.search import Options, taken
from halfling.cost.flops import Head, flops
from halfling.errors import HalflingError
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.shapes import shape_of
from halfling.tasks.encode import Encoded
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.predict import answers, predict
from halfling.tasks.score import Answer, Tally, tally
from halfling.tasks.tags import fitted
from halfling.tasks.task import Task


class Outcome(NamedTuple):
    """What a policy does.

    Attributes:
        tally: Its score, example by example.
        flops_share: Its arithmetic / that of no exits.
        left: The layer after which each sentence (with token exits each token) left.
    """

    tally: Tally
    flops_share: float
    left: np.ndarray


def head_of(task: Task, exit_layers: tuple[int, ...] = ()) -> Head:
    """Return the classifiers of a task's model, for counting their arithmetic."""
    return Head(kind=task.head, num_classes=len(task.labels or ()), layers=exit_layers)


class Trial:
    """Texts as every exit of a model answers them: a dev split, or without labels what full depth is agreed with on.

    Thresholds are fitted to half of the examples, drawn by `seed`; the other half tells their drop's bound. All
    policies share criterion, pooling and granularity with `like`. With `labelled` False the right answers are those of
    full depth.

    Raises:
        HalflingError: The model answers with something that is no number.
    """

    def __init__(
        self,
        task: Task,
        network: PreTrainedModel,
        examples: Sequence[Example],
        encoded: Sequence[Encoded],
        like: ExitPolicy,
        batch_size: int,
        seed: int = 0,
        *,
        labelled: bool = True,
    ) -> None:
        self.task, self.network, self.encoded = task, network, encoded
        self.like, self.batch_size = like, batch_size
        self.layers: tuple[int, ...] = tuple(network.config.exit_layers)
        per_exit = predict(network, encoded, batch_size, all_exits=True).exit_logits or ()
        self.counts = np.array([len(one.picked) for one in encoded])
        self.logits = [np.concatenate(one) for one in per_exit]
        if not all(np.isfinite(one).all() for one in self.logits):
            raise HalflingError("the model's logits are not all finite: its weights are broken, train it again")
        self.examples = examples if labelled else as_answered(task, examples, encoded, per_exit[-1])
        self.tallies = [tally(task, self.examples, self._named(one)) for one in per_exit]
        self.lengths = [len(one.ids) for one in encoded]
        table = {length: self._arithmetic(length) for length in sorted({*self.lengths})}
        arithmetic = np.array([table[length] for length in self.lengths]).T
        self.encoder_flops, self.head_flops = arithmetic[:-1], arithmetic[-1]
        self.learned_from = np.random.default_rng([seed, 1]).permutation(len(self.lengths)) % 2 == 0

    @property
    def plain(self) -> Tally:
        """No exits."""
        return self.tallies[-1]

    @property
    def plain_flops(self) -> float:
        """The arithmetic of no exits."""
        return float((self.encoder_flops[-1] + self.head_flops).sum())

    def of(self, rows: Bool[np.ndarray, " examples"]) -> "Trial":
        """Return the same of some examples, which thresholds are all fitted to."""
        part, picked = copy(self), np.repeat(rows, self.counts)
        part.examples, part.encoded = [*compress(self.examples, rows)], [*compress(self.encoded, rows)]
        part.counts, part.lengths = self.counts[rows], [*compress(self.lengths, rows)]
        part.logits = [one[picked] for one in self.logits]
        part.tallies = [Tally(one.above[rows], one.below[rows]) for one in self.tallies]
        part.encoder_flops, part.head_flops = self.encoder_flops[:, rows], self.head_flops[rows]
        part.learned_from = np.ones(int(rows.sum()), bool)
        return part

    def run(self, policy: ExitPolicy) -> Outcome:
        """Return what a policy does. Tokens that leave change the states of others, so token exits are really run."""
        if policy.granularity == "token" and policy.is_early:
            found = predict(self.network, self.encoded, self.batch_size, policy=policy)
            head = head_of(self.task, policy.layers)
            spent = flops(shape_of(self.network.config), self.lengths, found.exit_layers, head).total
            named = self._named(found.logits)
            return Outcome(
                tally(self.task, self.examples, named), spent / self.plain_flops, np.array(found.exits_taken)
            )
        at = taken(self._unsure(policy, self.counts), policy.thresholds)
        places = np.array([self.layers.index(layer) for layer in policy.layers])[at]
        examples = np.arange(len(places))
        spent = self.encoder_flops[places, examples] + (at + 1) * self.head_flops
        return Outcome(
            Tally(
                np.stack([one.above for one in self.tallies])[places, examples],
                np.stack([one.below for one in self.tallies])[places, examples],
            ),
            float(spent.sum()) / self.plain_flops,
            np.array(self.layers)[places],
        )

    def options(self) -> Options:
        """Return what the search reads: the half to learn from.

        For token exits it is an estimate: as if those who left had gone on.
        """
        by_token = self.like.granularity == "token"
        units = self.counts if by_token else np.ones_like(self.counts)
        share = np.repeat(1 / np.maximum(units, 1), units)
        every = self.like.model_copy(update={"layers": self.layers})
        return Options(
            layers=self.layers,
            unsure=self._unsure(every, None if by_token else self.counts),
            gain=self._gain_of_tokens() if by_token else self._gain_of_sentences(),
            spent=np.repeat(self.encoder_flops, units, axis=1) * share / self.plain_flops,
            head=np.repeat(self.head_flops, units) * share / self.plain_flops,
        ).of(np.repeat(self.learned_from, units))

    def _unsure(self, policy: ExitPolicy, counts: np.ndarray | None) -> np.ndarray:
        """Return the uncertainty of each sentence (without counts of each token) at each of the policy's exits."""
        doubt = criteria.Doubt(policy)
        return np.array([doubt(self.logits[self.layers.index(layer)], counts) for layer in policy.layers])

    def _gain_of_sentences(self) -> np.ndarray:
        # The score's linear part: exact for accuracy, and for F1 near the plain model's.
        score, below = self.plain.score, max(self.plain.below.sum(), 1.0)
        return np.array([(one.above - score * one.below) / below for one in self.tallies])

    def _gain_of_tokens(self) -> np.ndarray:
        labels = self.task.labels or ()
        gold = [
            np.array(fitted(example.tags, labels), dtype=object)[one.words]
            for example, one in zip(self.examples, self.encoded, strict=True)
            if isinstance(example, TaggedExample)
        ]
        names, right = np.array(labels, dtype=object), np.concatenate(gold)
        return np.array([names[one.argmax(axis=-1)] == right for one in self.logits]) / max(len(right), 1)

    def _arithmetic(self, length: int) -> list[float]:
        """Return the operations of the encoder up to each exit, and of one classifier."""
        shape = shape_of(self.network.config)
        encoder = [float(flops(shape, [length], [layer]).total) for layer in self.layers]
        return [*encoder, float(flops(shape, [length], [self.layers[-1]], head_of(self.task)).heads)]

    def _named(self, logits: Sequence[np.ndarray]) -> list[Answer]:
        words = [len(one.tags) for one in self.examples if isinstance(one, TaggedExample)]
        return answers(logits, self.encoded, self.task.labels or (), words or None)
