"""What a policy would do on texts whose exits were all computed: it then chooses among the answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedModel

from halfling.calibrate.agreement import as_answered
from halfling.calibrate.search import Options, taken
from halfling.cost.flops import Head, flops
from halfling.errors import HalflingError
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.shapes import shape_of
from halfling.records import EncoderShape
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.predict import Predictions, answers, predict
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


@dataclass(frozen=True)
class Trial:
    """Texts as every exit of a model answers them: a dev split, or without labels what full depth is agreed with on.

    All policies share criterion, pooling and granularity with `like`.

    Attributes:
        task: What is answered.
        shape: The model's.
        layers: The trained exits, the last layer included.
        like: The policy of no exits.
        examples: With the right answers.
        encoded: Likewise, as the model reads them.
        logits: Of each exit, [answers, classes], one text's answers after the other.
        tallies: Of each exit, the score.
        encoder_flops: The encoder's arithmetic until an exit.
        head_flops: Of one classifier.
        learned_from: True where thresholds are fitted; the rest bounds what they cost.
        uncertainty: Of each text at each exit where it was computed already; not by patience.
        rerun: Runs a policy of token exits over encoded texts: tokens that leave change the states of others.
    """

    task: Task
    shape: EncoderShape
    layers: tuple[int, ...]
    like: ExitPolicy
    examples: Sequence[Example]
    encoded: Sequence[Encoded]
    logits: Sequence[Float[np.ndarray, "answers classes"]]
    tallies: Sequence[Tally]
    encoder_flops: Float[np.ndarray, "exits examples"]
    head_flops: Float[np.ndarray, " examples"]
    learned_from: Bool[np.ndarray, " examples"]
    uncertainty: Float[np.ndarray, "exits examples"] | None = None
    rerun: Callable[[Sequence[Encoded], ExitPolicy], Predictions] | None = None

    @classmethod
    def from_model(
        cls,
        task: Task,
        network: PreTrainedModel,
        examples: Sequence[Example],
        encoded: Sequence[Encoded],
        like: ExitPolicy,
        batch_size: int,
        seed: int = 0,
        *,
        labelled: bool = True,
    ) -> "Trial":
        """Return texts with every exit of a PyTorch model computed; thresholds are fitted to half of them, by `seed`.

        With `labelled` False the right answers are those of full depth.

        Raises:
            HalflingError: The model answers with something that is no number.
        """
        shape, layers = shape_of(network.config), tuple(network.config.exit_layers)
        per_exit = predict(network, encoded, batch_size, all_exits=True).exit_logits or ()
        made = cls.from_logits(task, shape, layers, examples, encoded, per_exit, like, seed, labelled=labelled)
        return replace(made, rerun=lambda some, policy: predict(network, some, batch_size, policy=policy))

    @classmethod
    def from_logits(
        cls,
        task: Task,
        shape: EncoderShape,
        layers: tuple[int, ...],
        examples: Sequence[Example],
        encoded: Sequence[Encoded],
        per_exit: Sequence[Sequence[np.ndarray]],
        like: ExitPolicy,
        seed: int = 0,
        *,
        labelled: bool = True,
    ) -> "Trial":
        """Return texts with the logits of every exit, [answers, classes] of each text, whoever computed them.

        Raises:
            HalflingError: Some logits are no numbers.
        """
        logits = [np.concatenate(one) for one in per_exit]
        if not all(np.isfinite(one).all() for one in logits):
            raise HalflingError("the model's logits are not all finite: its weights are broken, train it again")
        right = examples if labelled else as_answered(task, examples, encoded, per_exit[-1])
        tallies = [tally(task, right, _named(task, right, encoded, one)) for one in per_exit]
        if not labelled and task.metric != "span F1":  # a word that is cut off has no answer to disagree with
            answered = np.array([len(one.picked) for one in encoded], float)
            tallies = [Tally(one.above, answered) for one in tallies]
        lengths, head = [len(one.ids) for one in encoded], head_of(task)
        table = {
            length: [flops(shape, [length], [layer]).total for layer in layers]
            + [flops(shape, [length], [layers[-1]], head).heads]
            for length in {*lengths}
        }
        arithmetic = np.array([table[length] for length in lengths], float).T
        return cls(
            task=task,
            shape=shape,
            layers=layers,
            like=like,
            examples=right,
            encoded=encoded,
            logits=logits,
            tallies=tallies,
            encoder_flops=arithmetic[:-1],
            head_flops=arithmetic[-1],
            learned_from=np.random.default_rng([seed, 1]).permutation(len(lengths)) % 2 == 0,
        )

    @property
    def plain(self) -> Tally:
        """No exits."""
        return self.tallies[-1]

    @cached_property
    def counts(self) -> Int[np.ndarray, " examples"]:
        """How many answers each text has."""
        return np.array([len(one.picked) for one in self.encoded], np.int64)

    @property
    def plain_flops(self) -> float:
        """The arithmetic of no exits."""
        return float((self.encoder_flops[-1] + self.head_flops).sum())

    def some(self, rows: Int[np.ndarray, " some"]) -> "Trial":
        """Return the same of some texts, in this order, which thresholds are all fitted to."""
        counts = self.counts
        some, begins = counts[rows], np.cumsum(counts) - counts
        picked = np.repeat(begins[rows] - (np.cumsum(some) - some), some) + np.arange(some.sum())
        return replace(
            self,
            examples=[self.examples[row] for row in rows],
            encoded=[self.encoded[row] for row in rows],
            logits=[one[picked] for one in self.logits],
            tallies=[Tally(one.above[rows], one.below[rows]) for one in self.tallies],
            encoder_flops=self.encoder_flops[:, rows],
            head_flops=self.head_flops[rows],
            learned_from=np.ones(len(rows), bool),
            uncertainty=None if self.like.criterion == "patience" else self._by_text[:, rows],
        )

    def halves(self) -> tuple["Trial", "Trial"]:
        """Return what thresholds are fitted to, and the rest."""
        return self.some(np.flatnonzero(self.learned_from)), self.some(np.flatnonzero(~self.learned_from))

    def run(self, policy: ExitPolicy) -> Outcome:
        """Return what a policy does."""
        if policy.granularity == "token" and policy.is_early:
            assert self.rerun is not None
            found, lengths = self.rerun(self.encoded, policy), [len(one.ids) for one in self.encoded]
            spent = flops(self.shape, lengths, found.exit_layers, head_of(self.task, policy.layers)).total
            named = _named(self.task, self.examples, self.encoded, found.logits)
            return Outcome(
                tally(self.task, self.examples, named), spent / self.plain_flops, np.array(found.exits_taken)
            )
        at = taken(self.unsure(policy), policy.thresholds)
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

    def unsure(self, policy: ExitPolicy) -> Float[np.ndarray, "exits examples"]:
        """Return the uncertainty of each text at each of a policy's exits."""
        if policy.criterion == "patience":  # which compares the exits in use
            return self._computed(policy, self.counts)
        return self._by_text[[self.layers.index(layer) for layer in policy.layers]]

    def options(self) -> Options:
        """Return what the search reads: the half to learn from.

        For token exits it is an estimate: as if those who left had gone on.
        """
        by_token = self.like.granularity == "token"
        counts = self.counts
        units = counts if by_token else np.ones_like(counts)
        share = np.repeat(1 / np.maximum(units, 1), units)
        every = self.like.model_copy(update={"layers": self.layers})
        return Options(
            layers=self.layers,
            unsure=self._computed(every, None) if by_token else self.unsure(every),
            gain=self._gain_of_tokens() if by_token else self._gain_of_sentences(),
            spent=np.repeat(self.encoder_flops, units, axis=1) * share / self.plain_flops,
            head=np.repeat(self.head_flops, units) * share / self.plain_flops,
        ).of(np.repeat(self.learned_from, units))

    @cached_property
    def _by_text(self) -> np.ndarray:
        if self.uncertainty is not None:
            return self.uncertainty
        return self._computed(self.like.model_copy(update={"layers": self.layers}), self.counts)

    def _computed(self, policy: ExitPolicy, counts: np.ndarray | None) -> np.ndarray:
        """Return the uncertainty of each text (without counts of each token) at each of the policy's exits."""
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


def _named(
    task: Task, examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]
) -> list[Answer]:
    words = [len(one.tags) for one in examples if isinstance(one, TaggedExample)]
    return answers(logits, encoded, task.labels or (), words or None)
