"""Times of the exported model: what a user of the engine would wait."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from halfling.engine import AdaptiveEngine
from halfling.engine.exported import BackendName, Precision, read_exported
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.export.write import ExportSettings, export
from halfling.tasks.encode import Encoded
from halfling.tasks.task import Task

_LENGTHS = tuple(range(8, 65, 8))
"""Of rows with a graph of fixed shape."""


class InEngine:
    """The model as the engine runs it: exported without exits, and with every trained exit as the end of a segment.

    Which segments there are follows from a policy's exits. So whose exits were not exported yet is exported before it
    is followed, and what is then timed is what a user of that export has.

    Args:
        model: The early-exit model's folder.
        like: The policy of no exits, whose criterion, pooling and granularity all others share.
        task: The model's.
        exits: The trained exits' layers, the last included.
        sentences: What it answers.
        backend: Who computes.
        precision: Of the export.
        fixed_rows: Whether sentences alone get graphs of fixed shape (`AdaptiveEngine.from_pretrained(lengths=)`).
        scratch: A folder for the exports.
    """

    def __init__(
        self,
        *,
        model: Path,
        like: ExitPolicy,
        task: Task,
        exits: Sequence[int],
        sentences: Sequence[Encoded],
        backend: BackendName,
        precision: Precision,
        fixed_rows: bool,
        scratch: Path,
    ) -> None:
        self.model, self.task, self.scratch = model, task, scratch
        self.backend: BackendName = backend
        self.precision: Precision = precision
        self.lengths = _LENGTHS if fixed_rows else ()
        self.early, self.last = tuple(exits[:-1]), exits[-1]
        # A sentence whose words are all cut off is timed too.
        self.sentences = [one if len(one.picked) else replace(one, picked=np.zeros(1, np.int64)) for one in sentences]
        self.num_sentences = len(self.sentences)
        self.without = self._load(like)
        # Any threshold above 0: where sentences leave is imposed.
        shared = {"layers": tuple(exits), "thresholds": (0.5,) * len(self.early)}
        self.with_all = self._load(like.model_copy(update=shared))

    def plain(self) -> None:
        """Answer without exits."""
        self._answer(self.without, self.last)

    def check(self) -> None:
        """Answer with every exit computed and judged, and nobody leaving early."""
        self._answer(self.with_all, self.last)

    def leave(self, layer: int) -> None:
        """Answer with everybody leaving after one of the early exits."""
        self._answer(self.with_all, layer)

    def checks(self, layer: int) -> int:
        """Return how many exits `leave` computes: that one and all before it."""
        return self.early.index(layer) + 1

    def follow(self, policy: ExitPolicy) -> Callable[[], None]:
        """Return what answers as a policy says, once its exits are exported."""
        return partial(self._answer, self._load(policy), None)

    def _answer(self, engine: AdaptiveEngine, layer: int | None) -> None:
        for one in self.sentences:
            engine.answer([one], None if layer is None else [layer])

    def _load(self, policy: ExitPolicy) -> AdaptiveEngine:
        out = self.scratch / f"exits-{'-'.join(map(str, policy.layers))}"
        if not out.exists():
            told = self.scratch / f"{out.name}-policy"
            told.mkdir(parents=True)
            Calibration(task=self.task.name, policy=policy, curve=()).write(told / "exit_policy.json")
            out.mkdir()
            export(
                settings=ExportSettings(backends=(self.backend,), precision=self.precision),
                model=self.model,
                out=out,
                policy=told,
                task=self.task,
            )
        exported = read_exported(out)
        if policy.is_early:
            exported = exported.model_copy(update={"policy": policy})
        return AdaptiveEngine(out, exported, self.backend, None, self.lengths)
