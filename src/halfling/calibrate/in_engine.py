"""Times of the exported model: what a user of the engine would wait."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from halfling.engine import AdaptiveEngine
from halfling.engine import Encoded as Tokens
from halfling.engine.exported import BackendName, Precision
from halfling.engine.tune import FIXED
from halfling.export.write import export
from halfling.records import Calibration, ExitPolicy, TaskName
from halfling.tasks import Encoded
from halfling.tasks.encode import ABSENT


class InEngine:
    """The model as the engine runs it: exported without exits, and with every trained exit as the end of a segment.

    Which segments there are follows from a policy. So a policy that is followed is exported first, and what is then
    timed is what a user of that export has.

    Args:
        model: The early-exit model's folder.
        like: A policy whose criterion and pooling all others share.
        task: The model's.
        exits: The trained exits' layers, the last included.
        sentences: What it answers.
        backend: Who computes.
        precision: Of the export.
        fixed_rows: Whether sentences alone get graphs of fixed shape (`AdaptiveEngine.from_pretrained(lengths=)`).
        data: Where English dev is, for int8's scales.
        scratch: A folder for the exports.
    """

    def __init__(
        self,
        *,
        model: Path,
        like: ExitPolicy,
        task: TaskName,
        exits: Sequence[int],
        sentences: Encoded,
        backend: BackendName,
        precision: Precision,
        fixed_rows: bool,
        data: str | Path,
        scratch: Path,
    ) -> None:
        self.model, self.task, self.data, self.scratch = model, task, data, scratch
        self.backend: BackendName = backend
        self.precision: Precision = precision
        self.lengths = FIXED if fixed_rows else ()
        self.early, self.last = tuple(exits[:-1]), exits[-1]
        positions = sentences.word_positions or [[0]] * len(sentences.rows)
        self.sentences = [
            # A sentence whose words are all cut off is timed too.
            Tokens(np.array(row["input_ids"]), np.array([place for place in some if place != ABSENT] or [0]))
            for row, some in zip(sentences.rows, positions, strict=True)
        ]
        self.num_sentences = len(self.sentences)
        self.without = self._load("without", None)
        # Any threshold above 0: where sentences leave is imposed.
        shared = {"layers": tuple(exits), "thresholds": (0.5,) * len(self.early)}
        self.with_all = self._load("with-all", like.model_copy(update=shared))

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
        """Export a policy and return what answers by it."""
        return partial(self._answer, self._load("with-policy", policy), None)

    def _answer(self, engine: AdaptiveEngine, layer: int | None) -> None:
        for one in self.sentences:
            engine.answer([one], None if layer is None else [layer])

    def _load(self, name: str, policy: ExitPolicy | None) -> AdaptiveEngine:
        out, told = self.scratch / name, self.scratch / f"{name}-policy"
        if policy is not None:
            told.mkdir(parents=True, exist_ok=True)
            Calibration(task=self.task, policy=policy, curve=()).write(told / "exit_policy.json")
        export(
            model=self.model,
            out=out,
            backends=(self.backend,),
            precision=self.precision,
            policy=None if policy is None else told,
            data=self.data,
        )
        return AdaptiveEngine.from_pretrained(out, self.backend, lengths=self.lengths)
