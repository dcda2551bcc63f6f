"""A model that is served: its name, its engine, its queue, and whose thresholds a request exits by."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfling.engine import AdaptiveEngine, Answer, Prediction
from halfling.engine.backends.native import NativeLoop
from halfling.engine.guess import AUTO, guessed
from halfling.engine.questions import Question
from halfling.errors import HalflingError
from halfling.exits.calibration import CALIBRATED, Calibration
from halfling.exits.policy import ExitPolicy
from halfling.serve.batching import Batcher, Job
from halfling.serve.drift import Drift
from halfling.serve.meter import Meter
from halfling.serve.refusal import Refusal
from halfling.serve.settings import ServeSettings
from halfling.tasks.task import read_task

_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*")

_LONG = 8192
"""Characters of a request above which its words are not cut in the event loop: that takes milliseconds."""


@dataclass(frozen=True)
class Answered:
    """What the network says of the texts of a request, and how long it took.

    Attributes:
        policy: The language whose exits and thresholds held; None: the default's, or those of the request's constraint.
        is_by_set: Whether it was answered by a language's set or the default's.
    """

    questions: list[Question]
    answers: list[list[Answer]]
    job: Job
    prepare_seconds: float
    policy: str | None = None
    is_by_set: bool = True

    @property
    def num_tokens(self) -> int:
        """Tokens that were computed, special ones included."""
        return sum(one.num_tokens for one in self.questions)


class Served:
    """A model that answers requests."""

    def __init__(self, name: str, folder: Path, backend: str, settings: ServeSettings, meter: Meter) -> None:
        self.name, self.settings = name, settings
        self.engine = AdaptiveEngine.from_pretrained(folder, backend, settings.threads)
        self.exported, self.task = self.engine.exported, read_task(folder)
        self.calibration = Calibration.read(folder / CALIBRATED) if CALIBRATED in self.exported.files else None
        # Only the native engine takes a policy for one call that is none of its folder's.
        takes_any = isinstance(self.engine.loop, NativeLoop)
        self.curve = self.calibration.curve if self.calibration and takes_any else ()
        self.batcher = Batcher(
            name,
            lambda sequences, policy: self.engine.answer(sequences, policy=policy),
            settings,
            meter,
            self.exported.shape.num_layers,
        )
        self._long = ThreadPoolExecutor(1, thread_name_prefix=f"cut {name}")
        self._meter = meter
        self.drift = Drift(name, self.engine, self.calibration, settings.watch_share, meter)
        meter.announce(name, self.exported.policy, self.exported.policies)

    @property
    def is_tagger(self) -> bool:
        """Whether it answers with entities and not with a label."""
        return self.exported.kind == "token"

    async def ask(
        self,
        texts: Sequence[Any],
        *,
        truncate: bool,
        language: str | None = None,
        flops_share: float | None = None,
        max_latency_ms: float | None = None,
    ) -> Answered:
        """Return the network's answers to texts.

        They exit by the set of their language, of an unknown one by the cautious default's ("auto": by that which all
        of them are guessed to be in); or by a policy that takes at most so much of the arithmetic, or by which answers
        are expected within so many milliseconds.

        Raises:
            Refusal: A text holds what is no character, or is longer than the model reads and may not be cut; more than
                one of language, share and latency is named; no policy takes so little; or there is too much to do.
        """
        begun = time.perf_counter()
        asked = {"language": language, "flops_share": flops_share, "max_latency_ms": max_latency_ms}
        named = [name for name, value in asked.items() if value is not None]
        if len(named) > 1:
            raise Refusal("Validation", f"{' and '.join(named[:2])} both say where to exit: send one of them")
        try:
            questions = await self._prepare(texts)
        except HalflingError as error:
            raise Refusal("Tokenizer", str(error)) from error
        if not truncate and any(one.truncated for one in questions):
            longest = self.exported.shape.max_tokens
            raise Refusal("Validation", f"inputs: more than {longest} tokens: set truncate, or send less")
        whose = self.exported.whose(await self._guessed(texts) if language == AUTO else language)
        policy = self.engine.policy(whose) if whose else None
        if flops_share is not None:
            policy = self._within("flops_share", flops_share)
        elif max_latency_ms is not None:
            policy = self._in_time(max_latency_ms / 1000, sum(one.num_tokens for one in questions))
        prepared = time.perf_counter() - begun
        job = await self.batcher.ask([part for one in questions for part in one.sequences], policy)
        found = iter(job.answers[number] for number in range(len(job.sequences)))
        answers = [[next(found) for _ in one.sequences] for one in questions]
        return Answered(questions, answers, job, prepared, whose, flops_share is None and max_latency_ms is None)

    async def watch(self, answered: Answered) -> None:
        """Have a share of a request's texts compared with full depth, when nobody waits.

        What exits by a constraint of its own is not watched: no set is its.
        """
        for question, answers in zip(answered.questions, answered.answers, strict=True):
            if answered.is_by_set and question.sequences and self.drift.draws():
                step = self.drift.compare(question, answers, answered.policy)
                if not self.batcher.later(step, question.num_tokens):
                    self._meter.unwatched.labels(self.name).inc()

    def read(self, answered: Answered) -> list[Prediction]:
        """Return what the network says of each text."""
        return self.engine.read(answered.questions, [one for some in answered.answers for one in some])

    async def _prepare(self, texts: Sequence[Any]) -> list[Question]:
        prepare: Callable[[Sequence[Any]], list[Question]] = self.engine.prepare
        characters = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
        if characters <= _LONG:
            return prepare(texts)
        return await asyncio.get_running_loop().run_in_executor(self._long, prepare, texts)

    async def _guessed(self, texts: Sequence[Any]) -> str | None:
        """Return the language of all texts; None where they are of several, or nobody is sure."""
        if not self.exported.policies:
            return None
        try:  # not in the event loop: the first guess loads the model of the languages, which takes a second
            # An empty text is of no language.
            said = [text for text in texts if "".join(text).strip()]
            found = await asyncio.to_thread(lambda: {guessed(text) for text in said})
        except HalflingError as error:
            raise Refusal("Validation", str(error)) from error
        return found.pop() if len(found) == 1 else None

    def _within(self, field: str, flops_share: float) -> ExitPolicy:
        """Return the best policy of the curve that takes at most so much of the arithmetic."""
        if self.calibration is None or not self.curve:
            raise Refusal("Validation", f"{field}: {self.name} was exported without a curve to choose from")
        points = [one for one in self.curve if one.flops_share <= flops_share]
        if not points:
            least = min(one.flops_share for one in self.curve)
            raise Refusal("Validation", f"{field}: the curve of {self.name} begins at {least:.3f}")
        return self.calibration.policy_of(max(points, key=lambda one: (one.quality, -one.flops_share)))

    def _in_time(self, seconds: float, tokens: int) -> ExitPolicy:
        """Return the best policy of the curve by which so many tokens are expected in time, or else the cheapest."""
        wait, full = self.batcher.expected(tokens)
        if wait >= seconds:
            after = max(1, math.ceil(wait - seconds))
            raise Refusal("Overloaded", f"max_latency_ms: {1000 * wait:.0f} ms of work wait", retry_after=after)
        least = min((one.flops_share for one in self.curve), default=1.0)
        return self._within("max_latency_ms", max(least, (seconds - wait) / max(full, 1e-9)))


def load_models(folders: Sequence[str], backend: str, settings: ServeSettings, meter: Meter) -> dict[str, Served]:
    """Return the models of exported folders by their names, in the order given; NAME=FOLDER names one.

    Raises:
        HalflingError: A folder is no exported model, or two models have one name.
    """
    found: dict[str, Served] = {}
    for given in folders:
        name, equals, place = given.partition("=")
        folder = Path(place if equals and not Path(given).is_dir() else given)
        if not equals or folder == Path(given):
            name = folder.resolve().name
        if not _NAME.fullmatch(name):
            raise HalflingError(
                f"{given}: {name!r} is no name of a model (letters, digits, . _ - /): say NAME={folder}"
            )
        if name in found:
            raise HalflingError(f"{given}: two models are named {name}: say NAME={folder}")
        found[name] = Served(name, folder, backend, settings, meter)
    return found
