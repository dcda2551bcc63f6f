"""Where the tasks of a corpus run: in processes of this machine, or through datatrove here, on Ray or on Slurm.

A task is a function of a job, a language and a quota that leaves its result in files (`language.py`). So an executor
only has to run tasks; what it left undone, whoever builds the corpus does again.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Literal, TypeVar

from pydantic import Field

from halfling.corpus.language import Job
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
        elif self._settings.workers != 1:
            results = self._run_side_by_side(function, {code: wanted[code] for code in codes}, done)
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

    def _pool_for(self, wanted: Mapping[str, int]) -> Executor:
        """Return who does the work: processes where it is worth them, threads of this one where not."""
        number = min(self._settings.workers or os.cpu_count() or 1, len(wanted))
        little = self._settings.workers is None and self._job.source_bytes(wanted) < _WORTH_A_PROCESS
        if self._pool is None:
            if little or number == 1:
                return ThreadPoolExecutor(number)
            # Not fork: this process may have threads (Arrow's, a progress bar's), and locks that they hold.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(number, context, initializer=_die_with_parent)
        return self._pool

    def _run_side_by_side(
        self, function: Callable[[Job, str, int], Result], wanted: dict[str, int], done: Callable[[str], None]
    ) -> dict[str, Result]:
        pool = self._pool_for(wanted)
        futures = {pool.submit(function, self._job, code, quota): code for code, quota in wanted.items()}
        try:
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
                pool.shutdown(cancel_futures=True)
        return {code: future.result() for future, code in futures.items()}


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
