"""How long policies take: times of whoever computes, measured side by side on sentences of English dev, one by one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from transformers import PreTrainedModel

from halfling.calibrate.search import Options
from halfling.cost.latency import interleaved_medians
from halfling.exits.policy import ExitPolicy
from halfling.tasks import Encoded
from halfling.tasks.predict import predict


@runtime_checkable
class Computes(Protocol):
    """Answers the timed sentences, each alone."""

    num_sentences: int

    def plain(self) -> None:
        """Answer without exits."""

    def check(self) -> None:
        """Answer with every exit computed and judged, and nobody leaving early."""

    def leave(self, layer: int) -> None:
        """Answer with everybody leaving after one of the early exits."""

    def checks(self, layer: int) -> int:
        """Return how many exits `leave` computes."""

    def follow(self, policy: ExitPolicy) -> Callable[[], None]:
        """Return what answers as a policy says."""


class Clock:
    """Measures, once, the plain model, leaving at each exit, and checking every exit; other times follow from these.

    Args:
        computes: Whose times count.
        exits: The trained exits' layers, the last included.
        rounds: How often everything is timed.
    """

    def __init__(self, computes: Computes, exits: Sequence[int], rounds: int) -> None:
        self.computes, self.rounds = computes, rounds
        *early, last = exits
        leave = {str(layer): partial(computes.leave, layer) for layer in early}
        times = self._medians({"plain": computes.plain, "checked": computes.check, **leave})
        self._plain = times["plain"]
        self.plain_ms = self._plain / computes.num_sentences
        self._check = max(0.0, times["checked"] - self._plain) / len(early)
        # With one exit checked: the others' share is taken off.
        self._leave = {layer: times[str(layer)] - (computes.checks(layer) - 1) * self._check for layer in early}
        self._leave[last] = self._plain

    def expected(self, policy: ExitPolicy, left: np.ndarray) -> float:
        """Return the time_share of a policy under which sentences left after `left`, from the measured times."""
        if not policy.is_early:
            return 1.0
        time = 0.0
        for place, layer in enumerate(policy.layers):
            # Leaving at an exit was measured with that exit checked.
            checks = place
            time += float((left == layer).mean()) * (self._leave[layer] + checks * self._check)
        return time / self._plain

    def priced(self, options: Options) -> Options:
        """Return the same choices for sentences, what they spend as shares of the plain model's time.

        Under these a policy spends in sum what `expected` says, times the share of the arithmetic that these sentences
        are of; as there, a sentence's length plays no part.
        """
        sentences = options.unsure.shape[1]
        scale = float((options.spent[-1] + options.head).sum()) / sentences / self._plain
        # With the check that was measured in it taken off: the search adds one for every exit until there.
        spent = [scale * (self._leave[layer] - self._check) for layer in options.layers]
        return replace(
            options,
            spent=np.repeat(np.array(spent)[:, None], sentences, axis=1),
            head=np.full(sentences, scale * self._check),
        )

    def measured(self, policy: ExitPolicy) -> float:
        """Return the time_share of a policy on the timed sentences, measured beside no exits."""
        if not policy.is_early:
            return 1.0
        times = self._medians({"plain": self.computes.plain, "policy": self.computes.follow(policy)})
        return times["policy"] / times["plain"]

    def _medians(self, calls: dict[str, Callable[[], None]]) -> dict[str, float]:
        timings = interleaved_medians(calls, rounds=self.rounds, warmup=2)
        return {name: timing.median_ms for name, timing in timings.items()}


class InTorch:
    """The model itself, in PyTorch.

    Args:
        network: An early-exit model.
        sentences: What it answers.
    """

    def __init__(self, network: PreTrainedModel, sentences: Encoded) -> None:
        self.network, self.sentences, self.num_sentences = network, sentences, len(sentences.rows)
        *self.early, self.last = network.config.exit_layers

    def plain(self) -> None:
        """Answer without exits."""
        self._answer(ExitPolicy(layers=(self.last,), thresholds=()))

    def check(self) -> None:
        """Answer with every exit computed and judged, and nobody leaving early."""
        # Never below.
        self._answer(ExitPolicy.uniform((*self.early, self.last), 1e-30))

    def leave(self, layer: int) -> None:
        """Answer with everybody leaving after one of the early exits."""
        self._answer(ExitPolicy(layers=(layer, self.last), thresholds=(1.0,)))

    def checks(self, layer: int) -> int:
        """Return how many exits `leave` computes: that one."""
        return 1

    def follow(self, policy: ExitPolicy) -> Callable[[], None]:
        """Return what answers as a policy says."""
        return partial(self._answer, policy)

    def _answer(self, policy: ExitPolicy) -> None:
        predict(self.network, self.sentences, 1, policy=policy)


def spread(encoded: Encoded, number: int) -> Encoded:
    """Return some examples, evenly spaced."""
    chosen = sorted({*np.linspace(0, len(encoded.rows) - 1, number).astype(int).tolist()})
    positions = encoded.word_positions
    return replace(
        encoded,
        rows=[encoded.rows[n] for n in chosen],
        gold=[encoded.gold[n] for n in chosen],
        word_positions=None if positions is None else [positions[n] for n in chosen],
    )
