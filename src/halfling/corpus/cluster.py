"""The tasks of a corpus on Slurm and Ray, through datatrove's executors.

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
from typing import TYPE_CHECKING

from halfling.cores import usable_cores
from halfling.corpus.executors import ExecutorSettings
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
            write_text(self.error_file(rank), str(error))
            raise

    def error_file(self, rank: int) -> Path:
        """Return where the error of a task is written."""
        return self.job.folder(self.wanted[rank][0]) / "error.txt"


def run_on_cluster(tasks: Tasks, settings: ExecutorSettings) -> None:
    """Run all tasks, and wait for them.

    Raises:
        HalflingError: The executor is not installed, or a task was not done.
    """
    if settings.executor == "slurm" and shutil.which("sbatch") is None:
        raise HalflingError("executor slurm: no sbatch here: run this on a machine of the cluster")
    for rank in range(len(tasks.wanted)):
        tasks.error_file(rank).unlink(missing_ok=True)
    folder = tasks.job.out / "work" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    logs = Path(tempfile.mkdtemp(prefix=f"{tasks.function.__name__}-", dir=folder))
    try:
        executor = (slurm_executor if settings.executor == "slurm" else _ray_executor)(tasks, logs, settings)
    except ImportError as error:
        raise HalflingError(f"executor {settings.executor}: {error}: pip install 'halfling-nlp[cluster]'") from error
    # sbatch --wait fails when a task does; what is left undone says which, and why.
    with contextlib.suppress(subprocess.CalledProcessError):
        executor.run()
    undone = executor.get_incomplete_ranks(skip_completed=True)
    for rank in undone:
        if tasks.error_file(rank).exists():
            raise HalflingError(tasks.error_file(rank).read_text(encoding="utf-8"))
    if undone:
        codes = ", ".join(tasks.wanted[rank][0] for rank in undone)
        raise HalflingError(f"{logs}: not done: {codes}: see the logs there, and run the same command again")


def slurm_executor(tasks: Tasks, logs: Path, settings: ExecutorSettings) -> "SlurmPipelineExecutor":
    """Return the executor whose job array runs `tasks`; to run it is to submit it and to wait for its end."""
    from datatrove.executor.slurm import SlurmPipelineExecutor

    return SlurmPipelineExecutor(
        pipeline=[tasks],
        tasks=len(tasks.wanted),
        time=settings.task_time,
        partition=settings.partition,
        workers=settings.workers or -1,
        mem_per_cpu_gb=_GIGABYTES,
        job_name=f"halfling-{tasks.function.__name__}",
        qos="",
        env_command=settings.environment or "true",
        logging_dir=str(logs),
        sbatch_args={"wait": ""},
    )


def _ray_executor(tasks: Tasks, logs: Path, settings: ExecutorSettings) -> "PipelineExecutor":
    """Return the executor of the cluster that RAY_ADDRESS names, or of one that is started here for this run."""
    import ray
    from datatrove.executor.ray import RayPipelineExecutor

    if not ray.is_initialized():  # it ends with this process, since the next step needs it too
        here = {
            "num_cpus": settings.workers or usable_cores(),
            "include_dashboard": False,
            "object_store_memory": _RAY_STORE,
        }
        ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else here))
    return RayPipelineExecutor(
        pipeline=[tasks],
        tasks=len(tasks.wanted),
        workers=settings.workers or -1,
        mem_per_cpu_gb=_GIGABYTES,
        logging_dir=str(logs),
    )
