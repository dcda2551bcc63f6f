"""What a policy would do on English dev: every exit is computed once, a policy then chooses among the answers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from halfling.calibrate.score import Tally, tally
from halfling.calibrate.search import Options, taken
from halfling.cost.flops import Head, flops
from halfling.errors import HalflingError
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.shapes import shape_of
from halfling.records import TaskName
from halfling.tasks import TASKS, Encoded
from halfling.tasks.predict import predict, word_labels


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


def head_of(task: TaskName, exit_layers: tuple[int, ...] = ()) -> Head:
    """Return the classifiers of a task's model, for counting their arithmetic."""
    return Head(kind="sequence" if task == "xnli" else "token", num_classes=len(TASKS[task].labels), layers=exit_layers)


class Trial:
    """English dev as every exit of a model answers it.

    Args:
        task: The model's task.
        network: An early-exit model.
        encoded: English dev.
        like: A policy whose criterion, pooling and granularity all others share.
        batch_size: Examples at a time.
        seed: Draws the half of the examples that thresholds are fitted to; the other half tells their drop's bound.

    Raises:
        HalflingError: The model answers with something that is no number.
    """

    def __init__(
        self,
        task: TaskName,
        network: PreTrainedModel,
        encoded: Encoded,
        like: ExitPolicy,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.task, self.network, self.encoded, self.like, self.batch_size = task, network, encoded, like, batch_size
        self.layers: tuple[int, ...] = tuple(network.config.exit_layers)
        answers = predict(network, encoded, batch_size, all_exits=True)
        assert answers.exit_logits is not None
        self.logits = [[one.numpy() for one in per_exit] for per_exit in answers.exit_logits]
        if not all(np.isfinite(one).all() for per_exit in self.logits for one in per_exit):
            raise HalflingError("the model's logits are not all finite: its weights are broken, train it again")
        self.labels = [
            [_labels(one, encoded, number) for number, one in enumerate(per_exit)] for per_exit in answers.exit_logits
        ]
        self.tallies = [tally(task, encoded.gold, labels) for labels in self.labels]
        self.lengths = answers.num_tokens
        table = {length: self._arithmetic(length) for length in sorted({*self.lengths})}
        arithmetic = np.array([table[length] for length in self.lengths]).T
        self.encoder_flops, self.head_flops = arithmetic[:-1], arithmetic[-1]
        self.learned_from = np.random.default_rng([seed, 1]).permutation(len(self.lengths)) % 2 == 0
        self.plain_flops = float((self.encoder_flops[-1] + self.head_flops).sum())

    @property
    def plain(self) -> Tally:
        """No exits."""
        return self.tallies[-1]

    def run(self, policy: ExitPolicy) -> Outcome:
        """Return what a policy does. Tokens that leave change the states of others, so token exits are really run."""
        if policy.granularity == "token" and policy.is_early:
            answers = predict(self.network, self.encoded, self.batch_size, policy=policy)
            head = head_of(self.task, policy.layers)
            spent = flops(shape_of(self.network.config), self.lengths, answers.exit_layers, head).total
            left = np.array(answers.exits_taken)
            return Outcome(tally(self.task, self.encoded.gold, answers.labels), spent / self.plain_flops, left)
        rows = [self.layers.index(layer) for layer in policy.layers]
        at = taken(self.unsure(policy), policy.thresholds)
        places = np.array(rows)[at]
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

    def unsure(self, policy: ExitPolicy) -> np.ndarray:
        """Return the uncertainty of each sentence at each of the policy's exits."""
        rows = [self.layers.index(layer) for layer in policy.layers]
        if policy.criterion != "patience":
            return self.each_alone[rows]
        confirmed = np.zeros((len(rows), len(self.lengths)), dtype=np.int64)
        for place in range(1, len(rows)):
            now, before = self.logits[rows[place]], self.logits[rows[place - 1]]
            same = np.array(
                [len(a) > 0 and bool((a.argmax(-1) == b.argmax(-1)).all()) for a, b in zip(now, before, strict=True)]
            )
            confirmed[place] = np.where(same, confirmed[place - 1] + 1, 0)
        return criteria.impatience(confirmed, policy.patience or 1)

    @cached_property
    def each_alone(self) -> np.ndarray:
        """The uncertainty of each sentence at each trained exit, by a criterion that looks at one exit alone."""
        return np.array([[self._of_sentence(one) for one in per_exit] for per_exit in self.logits])

    def options(self) -> Options:
        """Return what the search reads: the half to learn from.

        For token exits it is an estimate: as if those who left had gone on.
        """
        if self.like.granularity == "token":
            words = [len(one) for one in self.logits[0]]
            return self._token_options().of(np.repeat(self.learned_from, words))
        return self._sentence_options().of(self.learned_from)

    def _sentence_options(self) -> Options:
        score, below = self.plain.score, max(self.plain.below.sum(), 1.0)
        return Options(
            layers=self.layers,
            unsure=self.each_alone,
            # The score's linear part: exact for accuracy, and for F1 near the plain model's.
            gain=np.array([(one.above - score * one.below) / below for one in self.tallies]),
            spent=self.encoder_flops / self.plain_flops,
            head=self.head_flops / self.plain_flops,
        )

    def _token_options(self) -> Options:
        gold = self.encoded.gold
        positions: Any = self.encoded.word_positions
        right = [
            np.concatenate([np.equal(a, b)[np.array(p) >= 0] for a, b, p in zip(gold, labels, positions, strict=True)])
            for labels in self.labels
        ]
        measure = criteria.PER_ANSWER[self.like.criterion]
        words = [len(one) for one in self.logits[0]]
        share = np.repeat(1 / np.maximum(words, 1), words)
        return Options(
            layers=self.layers,
            unsure=np.array([measure(np.concatenate(per_exit)) for per_exit in self.logits]),
            gain=np.array(right) / max(len(right[0]), 1),
            spent=np.repeat(self.encoder_flops, words, axis=1) * share / self.plain_flops,
            head=np.repeat(self.head_flops, words) * share / self.plain_flops,
        )

    def _arithmetic(self, length: int) -> list[float]:
        """Return the operations of the encoder up to each exit, and of one classifier."""
        shape = shape_of(self.network.config)
        encoder = [float(flops(shape, [length], [layer]).total) for layer in self.layers]
        return [*encoder, float(flops(shape, [length], [self.layers[-1]], head_of(self.task)).heads)]

    def _of_sentence(self, logits: np.ndarray) -> float:
        values = criteria.PER_ANSWER[self.like.criterion](logits)
        if values.ndim == 0:
            return float(values)
        return float(criteria.pool_tokens(values, np.array([len(values)]), self.like.token_pooling)[0])


def _labels(logits: Tensor, encoded: Encoded, number: int) -> Any:
    best: int | Sequence[int] = logits.argmax(dim=-1).tolist()
    return best if isinstance(best, int) else word_labels(best, (encoded.word_positions or [])[number])
