"""How long policies take: the model's own times, measured side by side on sentences of English dev, one by one."""

from dataclasses import replace
from functools import partial

import numpy as np
from transformers import PreTrainedModel

from halfling.cost.latency import interleaved_medians
from halfling.records import ExitPolicy
from halfling.tasks import Encoded
from halfling.tasks.predict import predict


class Clock:
    """Measures, once, the plain model, leaving at each exit, and checking every exit; other times follow from these.

    Args:
        network: An early-exit model.
        encoded: English dev.
        sentences: How many of it are timed, evenly spaced.
        rounds: How often each.
    """

    def __init__(self, network: PreTrainedModel, encoded: Encoded, sentences: int, rounds: int) -> None:
        chosen = sorted({*np.linspace(0, len(encoded.rows) - 1, sentences).astype(int).tolist()})
        positions = encoded.word_positions
        self.network, self.rounds, self.num_timed = network, rounds, len(chosen)
        self.timed = replace(
            encoded,
            rows=[encoded.rows[n] for n in chosen],
            gold=[encoded.gold[n] for n in chosen],
            word_positions=None if positions is None else [positions[n] for n in chosen],
        )
        *early, last = network.config.exit_layers
        policies = {str(layer): ExitPolicy(layers=(layer, last), thresholds=(1.0,)) for layer in early}
        # Never below: every exit is computed and nobody leaves.
        policies["checked"] = ExitPolicy.uniform((*early, last), 1e-30)
        times = self._medians({"plain": ExitPolicy(layers=(last,), thresholds=()), **policies})
        self.plain_ms = times["plain"] / self.num_timed
        self._plain = times["plain"]
        self._leave = {layer: times[str(layer)] for layer in early} | {last: times["plain"]}
        self._check = max(0.0, times["checked"] - times["plain"]) / len(early)

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

    def measured(self, policy: ExitPolicy) -> float:
        """Return the time_share of a policy on the timed sentences, measured beside no exits."""
        if not policy.is_early:
            return 1.0
        plain = ExitPolicy(layers=policy.layers[-1:], thresholds=())
        times = self._medians({"plain": plain, "policy": policy})
        return times["policy"] / times["plain"]

    def _medians(self, policies: dict[str, ExitPolicy]) -> dict[str, float]:
        calls = {name: partial(self._answer, policy) for name, policy in policies.items()}
        timings = interleaved_medians(calls, rounds=self.rounds, warmup=1)
        return {name: timing.median_ms for name, timing in timings.items()}

    def _answer(self, policy: ExitPolicy) -> None:
        self.network.config.leave_by(policy)
        predict(self.network, self.timed, 1)
