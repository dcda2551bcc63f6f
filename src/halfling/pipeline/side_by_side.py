"""Stages that do not wait for one another at the same time, each on its share of the cores.

Training of small models leaves cores idle between its matrix products, and most of a large GPU: two trainings at once
take less time than one after the other. A stage with everything before or behind it, and one that measures times, has
the whole machine.
"""

import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal

from halfling import cores, processes
from halfling.errors import HalflingError
from halfling.fingerprint import paths_in
from halfling.records import Progress
from halfling.stage import Stage, View, refuse_unmakeable, run_stage

_SECONDS_BETWEEN_NEWS = 0.2
_PATIENCE = 5.0


def run_side_by_side(stages: Sequence[Stage], view: View, jobs: int) -> None:
    """Run stages, up to `jobs` at once in processes of their own, each of them once what it reads is made.

    A stage has the same number of threads in every run with so many jobs, in whatever order others end. When one fails
    the others are stopped; what they have done they go on from, as after any interruption.

    Raises:
        HalflingError: A stage could not do its work, another process is at it, a process was killed, or torchrun
            started several of us.
    """
    if processes.number() > 1:
        raise HalflingError("jobs: for one process, not for several that torchrun started: leave --jobs out")
    refuse_unmakeable(stages)
    needs = _needs(stages)
    alone = [stage.settings.timed or _is_bottleneck(place, needs) for place, stage in enumerate(stages)]
    waiting, running = list(range(len(stages))), dict[Future[None], int]()
    with _Workers(jobs, view) as workers:
        while waiting or running:
            unmade = {*waiting, *running.values()}
            ready = [place for place in waiting if not needs[place] & unmade]
            shared = [place for place in ready if not alone[place]][: jobs - len(running)]
            for place in shared:
                running[workers.submit(stages[place])] = place
                waiting.remove(place)
            if not running:  # so nothing but what has the machine to itself
                run_stage(stages[ready[0]], view)
                waiting.remove(ready[0])
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = stages[running.pop(future)].name
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise HalflingError(
                        f"{name}: a process was killed, perhaps for want of memory: run the same command again, with "
                        "fewer jobs; finished work is kept"
                    ) from error


def _needs(stages: Sequence[Stage]) -> list[set[int]]:
    """Return for each stage the places of all that must be over before it, those of its inputs' inputs too."""
    found: list[set[int]] = []
    for place, stage in enumerate(stages):
        read = [path for _, path in paths_in(stage.inputs)]
        direct = {earlier for earlier in range(place) if any(path.is_relative_to(stages[earlier].out) for path in read)}
        found.append(direct.union(*(found[earlier] for earlier in direct)))
    return found


def _is_bottleneck(place: int, needs: Sequence[set[int]]) -> bool:
    """Return whether every other stage comes before or behind this one."""
    return all(other == place or other in needs[place] or place in needs[other] for other in range(len(needs)))


class _Workers:
    """Processes that run stages, once the first is submitted, and tell a view of this process how far they are."""

    def __init__(self, number: int, view: View) -> None:
        self._number, self._view = number, view
        self._context = multiprocessing.get_context("spawn")  # not fork: this process has threads
        self._pool: ProcessPoolExecutor | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; after an error at once, whatever they do."""
        if self._pool is None:
            return
        for process in multiprocessing.active_children() if kind else ():
            process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ended.set()
        self._listener.join(_PATIENCE)  # not for ever: one killed while it spoke left half a sentence

    def submit(self, stage: Stage) -> Future[None]:
        """Run a stage as soon as a process is free."""
        if self._pool is None:
            self._said = self._context.Queue()
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            share = max(1, cores.usable_cores() // self._number)
            self._pool = ProcessPoolExecutor(self._number, self._context, _Telling.begin, (share, self._said))
        return self._pool.submit(_Telling.work, stage)

    def _listen(self) -> None:
        """Show what the processes say."""
        shown: dict[str, Progress] = {}
        while True:
            try:
                what, stage, *more = self._said.get(timeout=_SECONDS_BETWEEN_NEWS)
            except queue.Empty:
                if self._ended.is_set():
                    return
                continue
            if what == "start":
                shown[stage.name] = self._view.start(stage)
            elif what == "progress":
                shown[stage.name](*more)
            else:
                getattr(self._view, what)(stage, *more)


class _Telling(View):
    """The view of a process that runs stages for another: it passes on what it is told."""

    to_parent: Any = None
    """The queue."""

    @classmethod
    def begin(cls, share: int, to_parent: Any) -> None:
        """Begin a process that uses `share` cores and ends when its parent does."""
        cls.to_parent = to_parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
        cores.limit(share)
        processes.end_with_parent()

    @classmethod
    def work(cls, stage: Stage) -> None:
        """Run a stage."""
        run_stage(stage, cls())

    def start(self, stage: Stage) -> Progress:
        """Pass on that a stage begins, and from time to time how far it is."""
        self.to_parent.put(("start", stage))
        said = 0.0

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal said
            if (now := time.monotonic()) - said >= _SECONDS_BETWEEN_NEWS:
                said = now
                self.to_parent.put(("progress", stage, done, total, note))

        return progress

    def made_anew(self, stage: Stage, why: Sequence[str]) -> None:
        """Pass on what changed."""
        self.to_parent.put(("made_anew", stage, why))

    def end(self, stage: Stage, how: Literal["done", "skipped"], seconds: float) -> None:
        """Pass on that a stage is over."""
        self.to_parent.put(("end", stage, how, seconds))
