"""The gate of an int8 export: what int8 costs in every language, measured before anybody deploys it."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field

from halfling.bounds import Count, Weight
from halfling.engine.answer import Answer
from halfling.errors import HalflingError
from halfling.exits.bound import least
from halfling.exits.policy import ExitPolicy
from halfling.export.trained import Trained
from halfling.records import Counts, Int8Drop, Progress, Settings
from halfling.tasks.bootstrap import DropBounds, drop_bounds, resamples
from halfling.tasks.encode import encode
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, TaggedExample, dev_examples
from halfling.tasks.predict import answers, predict
from halfling.tasks.score import Tally, tally
from halfling.tasks.task import Task

_AT_ONCE, _BATCH = 500, 32
"""Examples between two reports of progress; examples of like length that PyTorch computes together."""
_RESAMPLES, _SEED = 2000, 0


class GateSettings(Settings):
    """What int8 may cost, and on how much that is measured."""

    max_int8_drop: Weight | None = Field(
        0.5, le=100, description="points of score that int8 may cost in any language, by its 95 % bound; null: no gate"
    )
    gate_examples: Count | None = Field(
        1000, gt=0, description="dev examples of each language that this is measured on; null: all"
    )


Answers = Callable[..., list[Answer]]
"""Sequences, `leave_after` and `language` in, answers out, by the language's thresholds."""


class _Asked(NamedTuple):
    """Dev examples of one language, and how float32 does on them."""

    examples: list[Example]
    encoded: list[Encoded]
    float32: Tally


class Gate:
    """Dev examples of every language, answered once in float32, that int8 exports of one model are held against.

    Both read the same token ids, and inputs exit by the same policy, that of their language, so that nothing but the
    arithmetic differs.

    A language passes when the drop's upper bound is at most `max_int8_drop`. Above, it fails when its sentences suffice
    to say so: when the bounds are apart by at most `max_int8_drop`, or the lower one is above it too. Where they do not
    suffice the export is written, and the line says so: a wide interval is no proof of a drop.
    """

    def __init__(self, trained: Trained, task: Task, settings: GateSettings, limit: float, progress: Progress) -> None:
        """Answer `settings.gate_examples` of each dev split in float32, drawn; `limit` is `max_int8_drop`.

        Raises:
            HalflingError: The data cannot be read, or the model answers with what is no number.
        """
        self.trained, self.task, self.limit = trained, task, limit
        split = {
            code: _drawn(some, settings.gate_examples) for code, some in dev_examples(task, task.languages).items()
        }
        self.total = sum(map(len, split.values()))
        self.asked: dict[str, _Asked] = {}
        done = 0
        home = trained.network.device
        trained.network.to("cuda" if torch.cuda.is_available() else "cpu")
        for language, examples in split.items():
            encoded = encode(examples, trained.tokenizer, trained.shape.max_tokens)
            logits: list[np.ndarray] = []
            for start in range(0, len(encoded), _AT_ONCE):
                progress(done, self.total, f"float32 in {language}")
                some = encoded[start : start + _AT_ONCE]
                logits += predict(trained.network, some, _BATCH, policy=trained.policy_of(language)).logits
                done += len(some)
            self.asked[language] = _Asked(examples, encoded, self._tally(examples, encoded, logits))
        trained.network.to(home)

    def measure(self, answer: Answers, backend: str, progress: Progress) -> tuple[Int8Drop, ...]:
        """Return what an int8 export of the model costs in each language."""
        found, done = [], 0
        for language, asked in self.asked.items():
            logits: list[np.ndarray] = []
            for start in range(0, len(asked.encoded), _AT_ONCE):
                progress(done, self.total, f"{backend} int8 in {language}")
                some = asked.encoded[start : start + _AT_ONCE]
                logits += self._logits(answer, some, language)
                done += len(some)
            after = self._tally(asked.examples, asked.encoded, logits)
            bounds = _bounds(asked.float32, after)
            found.append(
                Int8Drop(
                    backend=backend,
                    language=language,
                    num_examples=len(logits),
                    metric="span F1" if self.task.metric == "span F1" else "accuracy",
                    float32=asked.float32.score,
                    int8=after.score,
                    drop=100 * (asked.float32.score - after.score),
                    lower=bounds.lower,
                    bound=bounds.upper,
                    suffices=_suffices(bounds, self.limit),
                )
            )
        progress(self.total, self.total, "")
        return tuple(found)

    def failed(self, drops: Sequence[Int8Drop]) -> list[Int8Drop]:
        """Return the drops that are too much, the largest first."""
        too_much = [one for one in drops if one.suffices and one.bound > self.limit]
        return sorted(too_much, key=lambda one: -one.drop)

    def refuse(self, drops: Sequence[Int8Drop], note: str = "") -> None:
        """Refuse an export that costs too much in some language.

        Raises:
            HalflingError: It does.
        """
        if too_much := self.failed(drops):
            worst = too_much[0]
            more = f" and in {len(too_much) - 1} more" if too_much[1:] else ""
            raise HalflingError(
                f"{worst.backend} int8{note} costs {worst.drop:.2f} points of {worst.metric} in {worst.language}{more} "
                f"({worst.lower:.2f} to {worst.bound:.2f} with 95 % confidence), more than max_int8_drop "
                f"{self.limit:g}: export float32 for onnx, or allow more"
            )

    def sample(self, language: str, most: int) -> tuple[list[Encoded], list[np.ndarray]]:
        """Return some inputs in a language, and their logits in float32, exits off."""
        some = [one for one in self.asked[language].encoded if len(one.picked)][:most]
        nobody = ExitPolicy(layers=(self.trained.shape.num_layers,), thresholds=())
        return some, predict(self.trained.network, some, _BATCH, policy=nobody).logits

    def _logits(self, answer: Answers, encoded: Sequence[Encoded], language: str) -> list[np.ndarray]:
        """Return an engine's logits; none of a sentence whose words are all unreadable."""
        readable = [one for one in encoded if len(one.picked)]
        found = iter(answer(readable, language=language))
        nothing = np.zeros((0, len(self.trained.labels)), np.float32)
        return [next(found).logits if len(one.picked) else nothing for one in encoded]

    def _tally(self, examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]) -> Tally:
        words = [len(one.tags) for one in examples if isinstance(one, TaggedExample)]
        return tally(self.task, examples, answers(logits, encoded, self.trained.labels, words or None))


def _drawn(examples: list[Example], most: int | None) -> list[Example]:
    """Return at most so many examples, in their order: a file may be sorted by label."""
    if most is None or len(examples) <= most:
        return examples
    places = np.random.default_rng(_SEED).choice(len(examples), most, replace=False)
    return [examples[place] for place in sorted(places.tolist())]


def _bounds(before: Tally, after: Tally) -> DropBounds:
    """Return what a drop lies between; where nothing changed, what so many examples show of changes not seen."""
    number = len(before.above)
    bounds = drop_bounds(before, after, resamples(number, _RESAMPLES, _SEED))
    same = np.array_equal(before.above, after.above) and np.array_equal(before.below, after.below)
    return bounds._replace(upper=100 * least(number)) if same else bounds


def _suffices(bounds: DropBounds, limit: float) -> bool:
    """Return whether sentences suffice to let a language pass or fail."""
    return bounds.upper <= limit or bounds.lower > limit or bounds.upper - bounds.lower <= limit


def told(drop: Int8Drop, limit: float) -> str:
    """Return a line that says what int8 costs in a language."""
    few = "" if drop.suffices else f"; too few sentences to bound the drop by {limit:g}"
    return (
        f"{drop.language}: {drop.metric} {100 * drop.float32:.2f} in float32, {100 * drop.int8:.2f} in {drop.backend} "
        f"int8, drop {drop.drop:.2f}, at most {drop.bound:.2f} with 95 % confidence ({drop.num_examples} examples{few})"
    )


def summary(drops: Sequence[Int8Drop], wide_layers: Sequence[int], limit: float) -> Counts:
    """Return what int8 costs, in short and as lines to be read (`says`)."""
    says = [told(one, limit) for one in drops]
    if wide_layers:
        layers = f"layer{'s' * (len(wide_layers) > 1)} {', '.join(map(str, wide_layers))}"
        says.append(f"int8 alone costs more: native has 16 bits in {layers}")
    costs = [one.drop for one in drops]
    return {"mean_int8_drop": round(fmean(costs), 2), "largest_int8_drop": round(max(costs), 2), "says": says}
