"""Where a corpus's tasks run: in threads or processes of this machine, or through datatrove here, on Ray, on Slurm.

A task is a function of a job, a language and a quota that leaves its result in files (`language.py`). So an executor
only has to run tasks; what it left undone, whoever builds the corpus does again.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Literal, TypeVar

from pydantic import Field

from halfling.corpus.sources import Source
from halfling.corpus.steps import Job
from halfling.errors import HalflingError
from halfling.records import Settings

Result = TypeVar("Result")

_WORTH_A_PROCESS = 32_000_000
"""Bytes of text; a process that starts (0.7 s, most of it imports) costs more than it saves on less."""


class ExecutorSettings(Settings):
    """Where the work is done. Other values give the same bytes, so neither fingerprint nor manifest knows of them."""

    executor: Literal["local", "datatrove", "ray", "slurm"] = Field(
        "local", exclude=True, description="who runs a language's tasks: processes, ours or datatrove's, or a cluster"
    )
    workers: int | None = Field(None, ge=1, exclude=True, description="tasks at the same time; null: one for each core")
    partition: str = Field("cpu", exclude=True, description="of Slurm")
    task_time: str = Field("24:00:00", exclude=True, description="of one language on Slurm, at most")
    environment: str = Field("", exclude=True, description='command before a Slurm task, "source .venv/bin/activate"')


class Workers:
    """Runs the tasks of one job. Processes, once started, serve every further call, until the block is left."""

    def __init__(self, job: Job, settings: ExecutorSettings) -> None:
        """Run tasks of `job` where `settings` say; nothing is started yet."""
        self._job, self._settings = job, settings
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        """Return the workers."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; after an error at once, whatever they do."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        for process in multiprocessing.active_children() if kind else ():
            process.terminate()

    def run(
        self, function: Callable[[Job, str, int], Result], wanted: Mapping[str, int], done: Callable[[str], None]
    ) -> dict[str, Result]:
        """Return `function(job, code, quota)` for each language of `wanted`, code -> quota, in its order.

        Raises:
            HalflingError: A task could not do its work.
        """
        # The largest first: a small one fills the gap at the end.
        codes = sorted(wanted, key=lambda code: (-min(wanted[code], self._job.text_bytes(code)), code))
        if (executor := self._settings.executor) != "local":
            self._through_datatrove(executor, function, {code: wanted[code] for code in codes})
        elif pool := self._pool_for(wanted):
            results = self._run_on(pool, function, {code: wanted[code] for code in codes}, done)
            return {code: results[code] for code in wanted}
        results = {}
        for code in codes:  # after datatrove, which has done everything, results are read
            results[code] = function(self._job, code, wanted[code])
            done(code)
        return {code: results[code] for code in wanted}

    def _through_datatrove(
        self,
        executor: Literal["datatrove", "ray", "slurm"],
        function: Callable[[Job, str, int], object],
        wanted: dict[str, int],
    ) -> None:
        from halfling.corpus.cluster import Tasks, run_through_datatrove

        run_through_datatrove(
            Tasks(function, self._job, tuple(wanted.items())),
            executor,
            workers=self._settings.workers,
            partition=self._settings.partition,
            task_time=self._settings.task_time,
            environment=self._settings.environment,
        )

    def _pool_for(self, wanted: Mapping[str, int]) -> Executor | None:
        """Return processes where the work is worth them, threads where it is little; None for one task at a time."""
        number = min(self._settings.workers or os.cpu_count() or 1, len(wanted))
        little = self._settings.workers is None and self._job.source_bytes(wanted) < _WORTH_A_PROCESS
        if self._pool is None and number > 1:
            if little:
                return ThreadPoolExecutor(number)
            # Not fork: this process may have threads (Arrow's, a progress bar's), and locks that they hold.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(number, context, initializer=_die_with_parent)
        return self._pool

    def _run_on(
        self,
        pool: Executor,
        function: Callable[[Job, str, int], Result],
        wanted: dict[str, int],
        done: Callable[[str], None],
    ) -> dict[str, Result]:
        job, over = self._job, threading.Event()
        if pool is not self._pool:
            job = replace(job, source=_Stoppable(job.source, over))
        try:
            futures = {pool.submit(function, job, code, quota): code for code, quota in wanted.items()}
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool as error:
            raise HalflingError(
                f"{self._job.out}: a worker was killed, perhaps for want of memory: run the same command again, "
                "with fewer workers; finished work is kept"
            ) from error
        finally:
            if pool is not self._pool:
                over.set()
                pool.shutdown(cancel_futures=True)
        return {code: future.result() for future, code in futures.items()}


class _Stoppable:
    """A source that breaks off once all is over: nobody can end a thread from without, as one can a process."""

    def __init__(self, source: Source, over: threading.Event) -> None:
        self.codes = source.codes
        self._source, self._over = source, over

    def documents(self, code: str) -> Iterator[str]:
        for document in self._source.documents(code):
            if self._over.is_set():
                raise HalflingError(f"{self.place(code)}: another task failed, or somebody interrupted all")
            yield document

    def place(self, code: str) -> str:
        return self._source.place(code)

    def forget(self, code: str) -> None:
        self._source.forget(code)


def _die_with_parent() -> None:
    """End this worker at once when the process that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    alive = parent.sentinel

    def watch() -> None:
        wait([alive])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
