"""Where a corpus's tasks run: in processes of this machine, or on a cluster through datatrove.

A task is a function of a job, a language and a quota that leaves its result in files (`steps`). So an executor
only has to run tasks; what it left undone, whoever builds the corpus does again.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

from pydantic import Field

from halfling.bounds import Processes
from halfling.cores import workers
from halfling.corpus.steps import Job
from halfling.errors import HalflingError
from halfling.processes import end_with_parent
from halfling.records import Settings

Result = TypeVar("Result")

_WORKER_BYTES = 2**30
"""What a process needs at most."""

_WORTH_A_PROCESS = 24_000_000
"""Bytes of text; a process that starts (0.7 s, most of it imports) costs more than it saves on less."""


class ExecutorSettings(Settings):
    """Where the work is done. Other values give the same bytes, so neither fingerprint nor manifest knows of them."""

    executor: Literal["local", "ray", "slurm"] = Field(
        "local", exclude=True, description="who runs a language's tasks: processes of this machine, or a cluster"
    )
    workers: Processes | None = Field(
        None, exclude=True, description="tasks at the same time; null: as cores and memory allow"
    )
    partition: str = Field("cpu", exclude=True, description="of Slurm")
    task_time: str = Field("24:00:00", exclude=True, description="of one language on Slurm, at most")
    environment: str = Field("", exclude=True, description='command before a Slurm task, "source .venv/bin/activate"')


class Workers(AbstractContextManager["Workers"]):
    """Runs the tasks of one job. Processes, once started, serve every further call, until the block is left."""

    def __init__(self, job: Job, settings: ExecutorSettings) -> None:
        """Run tasks of `job` where `settings` say; nothing is started yet."""
        self._job, self._settings = job, settings
        self._pool: ProcessPoolExecutor | None = None

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
        codes = sorted(wanted, key=lambda code: (-min(wanted[code], self._job.source.text_bytes(code)), code))
        if self._settings.executor != "local":
            from halfling.corpus.cluster import Tasks, run_on_cluster

            run_on_cluster(Tasks(function, self._job, tuple((code, wanted[code]) for code in codes)), self._settings)
        pooled = self._settings.executor == "local" and (self._pool or self._num_processes(wanted) > 1)
        # After a cluster, which has done everything, results are read.
        one_by_one = ((code, function(self._job, code, wanted[code])) for code in codes)
        results = {}
        for code, result in self._in_pool(function, wanted, codes) if pooled else one_by_one:
            results[code] = result
            done(code)
        return {code: results[code] for code in wanted}

    def _num_processes(self, wanted: Mapping[str, int]) -> int:
        number = self._settings.workers or workers(_WORKER_BYTES)
        if self._settings.workers is None and sum(map(self._job.source.text_bytes, wanted)) < _WORTH_A_PROCESS:
            number = 1
        return min(number, len(wanted))

    def _in_pool(
        self, function: Callable[[Job, str, int], Result], wanted: Mapping[str, int], codes: list[str]
    ) -> Iterator[tuple[str, Result]]:
        """Yield each language's result when it is there; tasks start in the order of `codes`."""
        if self._pool is None:
            # Not fork: this process may have threads (Arrow's, a progress bar's), and locks that they hold.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._num_processes(wanted), context, initializer=end_with_parent)
        futures = {self._pool.submit(function, self._job, code, wanted[code]): code for code in codes}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise HalflingError(
                f"{self._job.out}: a worker was killed, perhaps for want of memory: run the same command again, "
                "with fewer workers; finished work is kept"
            ) from error
