"""Where the tasks of a corpus run: in processes of this machine, or through datatrove on Ray or Slurm.

A task is a function of a job, a language and a quota that leaves its result in files (`language.py`). So an executor
only has to run tasks; what it left undone, whoever builds the corpus does again.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Literal, TypeVar

from pydantic import Field

from halfling.corpus.language import Job
from halfling.errors import HalflingError
from halfling.languages import CC100
from halfling.records import Settings

Result = TypeVar("Result")

_WORTH_A_PROCESS = 32_000_000
"""Bytes of text; a process that starts (0.7 s, most of it imports) costs more than it saves on less."""


class ExecutorSettings(Settings):
    """Where the work is done. Other values give the same bytes, so neither fingerprint nor manifest knows of them."""

    executor: Literal["local", "ray", "slurm"] = Field("local", exclude=True, description="who runs a language's tasks")
    workers: int | None = Field(None, ge=1, exclude=True, description="tasks at the same time; null: one for each core")
    partition: str = Field("cpu", exclude=True, description="of Slurm")
    task_time: str = Field("24:00:00", exclude=True, description="of one language on Slurm, at most")
    environment: str = Field("", exclude=True, description='command before a Slurm task, "source .venv/bin/activate"')


def run_tasks(
    function: Callable[[Job, str, int], Result],
    job: Job,
    wanted: Mapping[str, int],
    settings: ExecutorSettings,
    done: Callable[[str], None],
) -> dict[str, Result]:
    """Return `function(job, code, quota)` for each language of `wanted`, code -> quota, in its order.

    Raises:
        HalflingError: A task could not do its work.
    """
    # The largest first: a small one fills the gap at the end.
    codes = sorted(wanted, key=lambda code: (-min(wanted[code], CC100[code].text_bytes), code))
    if settings.executor != "local":
        from halfling.corpus.cluster import Tasks, run_on_cluster

        run_on_cluster(
            Tasks(function, job, tuple((code, wanted[code]) for code in codes)),
            settings.executor,
            workers=settings.workers,
            partition=settings.partition,
            task_time=settings.task_time,
            environment=settings.environment,
        )
        workers = 1  # everything is done: results are read
    else:
        workers = min(settings.workers or os.cpu_count() or 1, len(codes))
        if settings.workers is None and job.source_bytes(wanted) < _WORTH_A_PROCESS:
            workers = 1
    results = {}
    if workers == 1:
        for code in codes:
            results[code] = function(job, code, wanted[code])
            done(code)
    else:
        # Not fork: this process may have threads (Arrow's, a progress bar's), and locks that they hold.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_die_with_parent) as pool:
            futures = {pool.submit(function, job, code, wanted[code]): code for code in codes}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    done(futures[future])
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                if isinstance(error, BrokenProcessPool):
                    raise HalflingError(
                        f"{job.out}: a worker was killed, perhaps for want of memory: run the same command again, "
                        "with fewer workers; finished work is kept"
                    ) from error
                raise
    return {code: results[code] for code in wanted}


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
