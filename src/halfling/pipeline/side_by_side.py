"""Stages that do not wait for one another at the same time, each on its share of the cores.

Training of small models leaves cores idle between its matrix products, and most of a large GPU: two trainings at once
take less time than one after the other. A stage with everything before or behind it, and one that measures times, has
the whole machine.
"""

import pickle
import queue
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
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
    with _Workers(jobs, len(stages), view) as workers:
        while waiting or running:
            unmade = {*waiting, *running.values()}
            ready = [place for place in waiting if not needs[place] & unmade]
            shared = [place for place in ready if not alone[place]][: jobs - len(running)]
            try:
                for place in shared:
                    running[workers.submit(stages[place])] = place
                    waiting.remove(place)
                if not running:  # so nothing but what has the machine to itself
                    workers.rest()
                    run_stage(stages[ready[0]], view)
                    waiting.remove(ready[0])
                for future in workers.over(running):
                    future.result()
                    del running[future]
            except BrokenProcessPool as error:
                names = ", ".join(stages[place].name for place in running.values())
                raise HalflingError(
                    f"{names}: a process was killed, perhaps for want of memory: run the same command again, with "
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


class _Spawning(SpawnContext):
    """Starts processes by spawning, not forking: this one has threads. It knows them from others of this program."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *given: Any, **more: Any) -> BaseProcess:  # type: ignore[override]  # noqa: N802
        """Return a new process."""
        self.started.append(SpawnProcess(*given, **more))
        return self.started[-1]


class _Workers:
    """Processes that run stages, once one is submitted, and tell a view of this process how far they are."""

    def __init__(self, jobs: int, most: int, view: View) -> None:
        """Begin; `jobs` share the cores, and no more than `most` processes are of use."""
        self._share, self._number, self._view = max(1, cores.usable_cores() // jobs), min(jobs, most), view
        self._context = _Spawning()
        self._pool: ProcessPoolExecutor | None = None
        self._ended = threading.Event()
        self._failed: BaseException | None = None

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; after an error at once, whatever they do."""
        self.rest(at_once=kind is not None)
        if kind is None and self._failed:
            raise self._failed

    def rest(self, at_once: bool = False) -> None:
        """End the processes, so that what they keep in memory is free; the next stage starts others."""
        if self._pool is None:
            return
        for process in self._context.started if at_once else ():
            if process.pid is not None:  # else it could not be started
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        self._ended.set()
        self._listener.join(_PATIENCE)  # not for ever: one killed while it spoke left half a sentence
        self._scratch.cleanup()  # of those that were killed

    def submit(self, stage: Stage) -> Future[None]:
        """Run a stage as soon as a process is free."""
        if self._pool is None:
            self._context.started.clear()
            self._said = self._context.Queue()
            self._ended.clear()
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            self._scratch = tempfile.TemporaryDirectory(prefix="halfling-", ignore_cleanup_errors=True)
            told = (self._said, self._scratch.name)
            self._pool = ProcessPoolExecutor(self._number, self._context, _Telling.begin, told)
        # A process inherits what is blocked, until it has said that it leaves Ctrl-C to its parent.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with cores.limited(self._share):  # from its first import on
                return self._pool.submit(_Telling.work, stage)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def over(self, running: Collection[Future[None]]) -> Collection[Future[None]]:
        """Return those of some stages that are over, once there are any, or none if none is running.

        Raises:
            BaseException: Whatever the view raised.
        """
        found: Collection[Future[None]] = ()
        while running and not found and not self._failed:
            found = wait(running, timeout=_PATIENCE, return_when=FIRST_COMPLETED).done
        if self._failed:
            raise self._failed
        return found

    def _listen(self) -> None:
        """Show what the processes say. Whatever the view does, they are listened to: else they would wait."""
        shown: dict[str, Progress] = {}
        while True:
            try:
                what, stage, *more = self._said.get(timeout=_SECONDS_BETWEEN_NEWS)
            except queue.Empty:
                if self._ended.is_set():
                    return
                continue
            if self._failed:
                continue
            try:
                if what == "start":
                    shown[stage.name] = self._view.start(stage)
                elif what == "progress":
                    shown[stage.name](*more)
                else:
                    getattr(self._view, what)(stage, *more)
            except BaseException as error:  # SystemExit too, of a terminal that is gone
                self._failed = error


class _Telling(View):
    """The view of a process that runs stages for another: it passes on what it is told."""

    to_parent: Any = None
    """The queue."""

    @classmethod
    def begin(cls, to_parent: Any, scratch: str) -> None:
        """Begin a process that makes temporary files in `scratch` and ends when its parent does."""
        cls.to_parent = to_parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        tempfile.tempdir = scratch
        warnings.filterwarnings("ignore")  # as the parent does
        processes.end_with_parent()

    @classmethod
    def work(cls, stage: Stage) -> None:
        """Run a stage.

        Raises:
            RuntimeError: In place of an error that cannot be sent to the parent.
        """
        try:
            run_stage(stage, cls())
        except Exception as error:
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:
                raise RuntimeError("".join(traceback.format_exception(error))) from None
            raise

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
