"""How long policies take in the engine: measured side by side on sentences of the dev split, one by one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from halfling.calibrate.search import Options
from halfling.calibrate.settings import CalibrateSettings
from halfling.cost.latency import interleaved
from halfling.engine import AdaptiveEngine
from halfling.engine.exported import read_exported
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.export.write import ExportSettings, export
from halfling.tasks.encoded import Encoded
from halfling.tasks.task import Task


class Clock:
    """Measures, once, the model without exits and leaving at each exit; other times follow from these.

    Segments follow from a policy's exits, but in the native engine. So whose exits were not exported yet is exported
    before it is timed, and what is timed is what a user of that export has.

    `like` is the policy of no exits, `exits` the trained exits' layers, the last included. Of the dev split some
    sentences are timed. Exports go to `scratch`.
    """

    def __init__(
        self,
        settings: CalibrateSettings,
        *,
        model: Path,
        task: Task,
        like: ExitPolicy,
        exits: Sequence[int],
        encoded: Sequence[Encoded],
        scratch: Path,
    ) -> None:
        self.settings, self.model, self.task, self.scratch = settings, model, task, scratch
        places = np.unique(np.linspace(0, len(encoded) - 1, settings.timed_sentences).astype(int))
        # A sentence whose words are all cut off is timed too.
        self.sentences = [
            one if len(one.picked) else replace(one, picked=np.zeros(1, np.int64))
            for one in (encoded[place] for place in places)
        ]
        *early, last = exits
        self._without = partial(self._answer, self._load(like), last)
        # Any threshold above 0: where sentences leave is imposed.
        every = self._load(like.model_copy(update={"layers": tuple(exits), "thresholds": (0.5,) * len(early)}))
        leave = {str(layer): partial(self._answer, every, layer) for layer in exits}
        times = self._medians({"plain": self._without, **leave})
        self._plain = times["plain"]
        self.plain_ms = 1e3 * self._plain / len(self.sentences)
        self._check = max(0.0, times[str(last)] - self._plain) / len(early)
        # With one exit checked: the share of those before it is taken off.
        self._leave = {layer: times[str(layer)] - place * self._check for place, layer in enumerate(early)}
        self._leave[last] = self._plain

    def expected(self, policy: ExitPolicy, left: np.ndarray) -> float:
        """Return the time_share of a policy under which sentences left after `left`, from the measured times."""
        if not policy.is_early:
            return 1.0
        # Leaving at an exit was measured with that exit checked, so those before it are added.
        time = sum(
            float((left == layer).mean()) * (self._leave[layer] + checks * self._check)
            for checks, layer in enumerate(policy.layers)
        )
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
        times = self._medians({"plain": self._without, "policy": partial(self._answer, self._load(policy), None)})
        return times["policy"] / times["plain"]

    def _medians(self, calls: dict[str, Callable[[], None]]) -> dict[str, float]:
        seconds = interleaved(calls, rounds=self.settings.rounds, warmup=2)
        return {name: median(took) for name, took in seconds.items()}

    def _answer(self, engine: AdaptiveEngine, layer: int | None) -> None:
        for one in self.sentences:
            engine.answer([one], None if layer is None else [layer])

    def _load(self, policy: ExitPolicy) -> AdaptiveEngine:
        backend = self.settings.engine
        # The native engine's export is the same whatever the policy.
        exits = "any" if backend == "native" else "-".join(map(str, policy.layers))
        out = self.scratch / f"exits-{exits}"
        if not out.exists():
            (told := self.scratch / f"{out.name}-policy").mkdir(parents=True)
            Calibration(task=self.task.name, policy=policy, curve=()).write(told / "exit_policy.json")
            out.mkdir()
            chosen = ExportSettings(backends=(backend,), precision=self.settings.precision, max_int8_drop=None)
            export(settings=chosen, model=self.model, out=out, policy=told, task=self.task)
        exported = read_exported(out)
        if policy.is_early or backend == "native":
            exported = exported.model_copy(update={"policy": policy})
        return AdaptiveEngine(out, exported, backend, None)
