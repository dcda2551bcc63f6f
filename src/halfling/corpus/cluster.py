"""The tasks of a corpus through datatrove's executors: its processes on this machine, Ray and Slurm.

One language is one task: a file of CC100 is one xz stream, which does not split. All machines see the corpus's
folder; whatever a task leaves there is found again, so a second run does only what the first left undone.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from halfling.corpus.steps import Job
from halfling.errors import HalflingError
from halfling.files import write_text

if TYPE_CHECKING:
    from datatrove.executor.base import PipelineExecutor
    from datatrove.executor.slurm import SlurmPipelineExecutor

_GIGABYTES = 2
"""Memory to ask for: a task takes less than one."""

_RAY_STORE = 100_000_000
"""Bytes of shared memory for a Ray that is started here: its tasks hand on nothing but files."""


@dataclass(frozen=True)
class Tasks:
    """A step of datatrove's pipelines: its rank's language is worked on."""

    function: Callable[[Job, str, int], object]
    job: Job
    wanted: tuple[tuple[str, int], ...]
    """Languages and their quotas, by rank."""

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Do task `rank`."""
        code, quota = self.wanted[rank]
        try:
            self.function(self.job, code, quota)
        except HalflingError as error:
            write_text(_error_file(self.job, code), str(error))
            raise


def run_through_datatrove(
    tasks: Tasks,
    executor: Literal["datatrove", "ray", "slurm"],
    *,
    workers: int | None,
    partition: str,
    task_time: str,
    environment: str,
) -> None:
    """Run all tasks, and wait for them.

    Args:
        tasks: What to do.
        executor: Where.
        workers: Tasks at the same time; None for as many as there is room for.
        partition: Of Slurm.
        task_time: Of one task on Slurm, at most.
        environment: Command before a task on Slurm.

    Raises:
        HalflingError: The executor is not installed, or a task was not done.
    """
    for code, _ in tasks.wanted:
        _error_file(tasks.job, code).unlink(missing_ok=True)
    folder = tasks.job.out / "work" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    logs = Path(tempfile.mkdtemp(prefix=f"{tasks.function.__name__}-", dir=folder))
    try:
        if executor == "datatrove":
            done = _run_here(tasks, logs, workers)
        elif executor == "ray":
            done = _run_on_ray(tasks, logs, workers)
        else:
            done = slurm_executor(tasks, logs, workers, partition, task_time, environment)
            _submit(done)
    except ImportError as error:
        raise HalflingError(f"executor {executor}: {error}: pip install 'halfling[cluster]'") from error
    left = done.get_incomplete_ranks(skip_completed=True)
    for rank in left:
        failed = _error_file(tasks.job, tasks.wanted[rank][0])
        if failed.exists():
            raise HalflingError(failed.read_text(encoding="utf-8"))
    if left:
        codes = ", ".join(tasks.wanted[rank][0] for rank in left)
        raise HalflingError(f"{logs}: not done: {codes}: see the logs there, and run the same command again")


def _run_here(tasks: Tasks, logs: Path, workers: int | None) -> "PipelineExecutor":
    from datatrove.executor.local import LocalPipelineExecutor

    workers = min(workers or os.cpu_count() or 1, len(tasks.wanted))
    executor = LocalPipelineExecutor([tasks], tasks=len(tasks.wanted), workers=workers, logging_dir=str(logs))
    executor.run()
    return executor


def slurm_executor(
    tasks: Tasks, logs: Path, workers: int | None, partition: str, task_time: str, environment: str
) -> "SlurmPipelineExecutor":
    """Return the executor whose job array runs `tasks`; submitting it waits for the end of the array."""
    from datatrove.executor.slurm import SlurmPipelineExecutor

    return SlurmPipelineExecutor(
        pipeline=[tasks],
        tasks=len(tasks.wanted),
        time=task_time,
        partition=partition,
        workers=workers or -1,
        mem_per_cpu_gb=_GIGABYTES,
        job_name=f"halfling-{tasks.function.__name__}",
        qos="",
        env_command=environment or "true",
        logging_dir=str(logs),
        sbatch_args={"wait": ""},
    )


def _submit(executor: "SlurmPipelineExecutor") -> None:
    if shutil.which("sbatch") is None:
        raise HalflingError("executor slurm: no sbatch here: run this on a machine of the cluster")
    # sbatch --wait fails when a task does; what is left undone says which, and why.
    with contextlib.suppress(subprocess.CalledProcessError):
        executor.launch_job()


def _run_on_ray(tasks: Tasks, logs: Path, workers: int | None) -> "PipelineExecutor":
    """Run on the cluster that RAY_ADDRESS names, or on one that is started here for this run."""
    from datatrove.executor.ray import RayPipelineExecutor

    _start_ray(workers)
    executor = RayPipelineExecutor(
        pipeline=[tasks],
        tasks=len(tasks.wanted),
        workers=workers or -1,
        mem_per_cpu_gb=_GIGABYTES,
        logging_dir=str(logs),
    )
    executor.run()
    return executor


def _start_ray(workers: int | None) -> None:
    """Connect to Ray, or start one here; it ends with this process, since the next step needs it too."""
    import ray

    if ray.is_initialized():
        return
    here: dict[str, Any] = {}
    if "RAY_ADDRESS" not in os.environ:
        here = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _RAY_STORE}
    ray.init(log_to_driver=False, **here)


def _error_file(job: Job, code: str) -> Path:
    return job.folder(code) / "error.txt"
