"""Measuring which backend, how many threads and which rows are fastest for an exported model on this machine."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np

from halfling.cost.latency import interleaved, paired_ratio
from halfling.engine.adaptive import AdaptiveEngine
from halfling.engine.backends import ready_backends
from halfling.engine.exported import Exported, checksum_of, read_exported
from halfling.engine.machine import this_machine, usable_cores
from halfling.engine.text import BOS, EOS, UNK
from halfling.engine.tuning import TUNING, Setting, Timed, Tuning, versions
from halfling.errors import HalflingError
from halfling.records import Progress, silent
from halfling.tasks.encode import Encoded

ALONE = (16, 32, 64)
"""Tokens of the sentences that are timed alone."""

BATCH = 32
"""Sentences of the batch, of 6 to 37 tokens: the short ones of names and news, packed into rows."""

FIXED = tuple(range(8, 65, 8))
"""Lengths of rows with a graph of fixed shape, where these pay."""

SEGMENTS = (8, 16, 32, 64, 128)
"""Tokens of the sentences that segments are timed on."""

WORTH = 0.95
"""Rows of fixed lengths hold the layers' weights once more for each length: for less than this they are not chosen."""

_WARMUP = 2


def tune(
    folder: Path,
    *,
    threads: Sequence[int] = (),
    lengths: bool = True,
    rounds: int = 11,
    progress: Progress = silent,
) -> Tuning:
    """Time every backend that is exported in a folder and installed, and write `tuning.json` beside the model.

    Chosen is the setting with the shortest time, sentences alone and the batch counting alike: the geometric mean of
    both, alone being that of its lengths. The first (the first backend, with all cores or the first of `threads`) stays
    unless another is quicker in three quarters of the rounds. All settings take turns within a round, and so do the
    lengths, as sentences come. The ids are random and nobody leaves early: what is measured is how fast layers are,
    not how many are spared.

    Args:
        folder: The exported model.
        threads: Numbers of threads to try; none for all usable cores and half of them. PyTorch, whose threads are the
            whole process's, is timed with the first.
        lengths: Whether rows of fixed lengths are tried too (OpenVINO).
        rounds: How often everything is timed.
        progress: Told of every round.

    Raises:
        HalflingError: The folder is no exported model or damaged, or none of its backends is installed.
    """
    exported = read_exported(folder)
    with TemporaryFile(dir=folder):
        pass  # a folder that cannot be written to is refused now, not after all rounds
    settings = _settings(folder, exported, threads, lengths)
    engines = {one: AdaptiveEngine.from_pretrained(folder, one.backend, one.threads, one.lengths) for one in settings}
    random = np.random.default_rng(0)
    alone = {n: [_sentence(exported, n, random)] for n in _that_fit(ALONE, exported)}
    batch_lengths = [min(n, exported.shape.max_tokens) for n in random.integers(6, 38, BATCH).tolist()]
    batch = [_sentence(exported, n, random) for n in batch_lengths]
    last = exported.policy.layers[-1]
    calls: dict[tuple[Setting, int], Callable[[], object]] = {
        (one, size): partial(engine.answer, given, [last] * len(given))
        for size, given in (*alone.items(), (0, batch))  # 0: the batch
        for one, engine in engines.items()
    }
    segments = _that_fit(SEGMENTS, exported)
    report = _Rounds(progress, 2 * (rounds + _WARMUP))
    seconds = interleaved(report.before(calls, "settings"), rounds=rounds, warmup=_WARMUP)
    # One number for each round: what is compared is what happened at the same time.
    scores = {
        one: [
            float(np.exp((fmean(np.log(seconds[one, n][turn]) for n in alone) + np.log(seconds[one, 0][turn])) / 2))
            for turn in range(rounds)
        ]
        for one in settings
    }
    chosen = _choose(scores)
    tuning = Tuning(
        model=exported.checksum,
        machine=this_machine(),
        versions=versions({one.backend for one in settings}),
        rounds=rounds,
        batch_lengths=tuple(batch_lengths),
        timed=tuple(
            Timed(
                setting=one,
                alone_ms={n: 1e3 * median(seconds[one, n]) for n in alone},
                batch_ms=1e3 * median(seconds[one, 0]),
                ratio=paired_ratio(scores[one], scores[chosen]),
            )
            for one in sorted(settings, key=lambda one: median(scores[one]))
        ),
        chosen=chosen,
        segment_times=_segment_times(engines[chosen], segments, rounds, random, report),
    )
    tuning = tuning.model_copy(update={"checksum": checksum_of(tuning)})
    tuning.write(folder / TUNING)
    return tuning


def _settings(folder: Path, exported: Exported, threads: Sequence[int], lengths: bool) -> list[Setting]:
    cores = usable_cores()
    tried = list(dict.fromkeys(threads or (cores, max(1, cores // 2))))
    if min(tried) < 1:
        raise HalflingError(f"threads {min(tried)}: at least 1")
    found = []
    for name in ready_backends(folder, exported):
        for number in tried[: 1 if name == "torch" else None]:
            found.append(Setting(backend=name, threads=number))
            if name == "openvino" and lengths and exported.decides_in_graph:
                found.append(Setting(backend=name, threads=number, lengths=FIXED))
    return found


def _choose(scores: dict[Setting, list[float]]) -> Setting:
    """Return the setting that is quicker than the first in three quarters of the rounds, or the first.

    So noise decides nothing. Rows of fixed lengths are taken only where they are worth their memory.
    """

    def quickest(some: list[Setting], than: Setting, limit: float) -> Setting:
        best = min(some, key=lambda one: median(scores[one]), default=than)
        return best if paired_ratio(scores[best], scores[than]).upper < limit else than

    plain = quickest([one for one in scores if not one.lengths], next(iter(scores)), 1.0)
    return quickest([one for one in scores if one.lengths], plain, WORTH)


def _segment_times(
    engine: AdaptiveEngine, lengths: Sequence[int], rounds: int, random: np.random.Generator, report: "_Rounds"
) -> dict[int, tuple[float, ...]]:
    ends = engine.exported.policy.layers
    calls: dict[tuple[int, int], Callable[[], object]] = {
        (n, end): partial(engine.answer, [_sentence(engine.exported, n, random)], [end])
        for n in lengths
        for end in ends
    }
    seconds = interleaved(report.before(calls, "segments"), rounds=rounds, warmup=_WARMUP)
    found = {}
    for n in lengths:
        until = np.array([[0.0] * rounds, *(seconds[n, end] for end in ends)])
        found[n] = tuple((1e3 * np.median(np.diff(until, axis=0), axis=1)).tolist())
    return found


def _sentence(exported: Exported, tokens: int, random: np.random.Generator) -> Encoded:
    words = random.integers(UNK + 1, exported.shape.vocab_size - 1, tokens - 2)
    picked = np.arange(1, tokens - 1, 2) if exported.kind == "token" else np.zeros(1, np.int64)
    return Encoded(np.array([BOS, *words, EOS]), picked)


def _that_fit(lengths: Sequence[int], exported: Exported) -> list[int]:
    return sorted({min(n, exported.shape.max_tokens) for n in lengths})


_Key = TypeVar("_Key")


class _Rounds:
    """Tells a progress of each round, in a turn of its own: no timing holds it."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def before(self, calls: dict[_Key, Callable[[], object]], note: str) -> dict[_Key | None, Callable[[], object]]:
        """Return the calls, and in front of them, under None, the one that counts."""

        def count() -> None:
            self.progress(self.done, self.total, note)
            self.done += 1

        return {None: count, **calls}  # type: ignore[dict-item]
