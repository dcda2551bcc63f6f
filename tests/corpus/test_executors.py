import importlib
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from halfling.corpus.build import CorpusSettings
from halfling.corpus.cluster import Tasks, slurm_executor
from halfling.corpus.executors import Workers
from halfling.corpus.sources.folder import FolderSource
from halfling.corpus.steps import Job, StepSettings, ingest
from halfling.errors import HalflingError

BIN = Path(sys.executable).parent

# What Slurm does with a job array, one task after the other; `srun` runs the command behind its options.
SBATCH = """#!/bin/bash
script=${@: -1}
cp "$script" "$SLURM_TEST/script-$$"
last=$(grep -o 'array=0-[0-9]*' "$script" | grep -o '[0-9]*$')
for task in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$task RUN_OFFSET=0 SLURM_NODELIST=here bash "$script" >>"$SLURM_TEST/log" 2>&1 || failed=1
done
echo "Submitted batch job 7"
exit ${failed:-0}
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
exec "$@"
"""


def of(contents, *codes):
    """The documents of some languages; the card speaks of all."""
    names = tuple(f"{code}.parquet" for code in codes)
    found = {path: content for path, content in contents.items() if path.endswith(names)}
    assert len(found) == 5 * len(codes)
    return found


def test_who_does_the_work_is_in_no_fingerprint():
    assert CorpusSettings(executor="ray", workers=7, partition="big").model_dump() == CorpusSettings().model_dump()


def test_little_text_is_not_worth_a_process(source, job, tmp_path, build, monkeypatch):
    monkeypatch.setattr("halfling.corpus.executors.workers", lambda bytes_each: 3)
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: pytest.fail("a process was started"))
    build(source, tmp_path / "out", workers=None)
    monkeypatch.setattr("halfling.corpus.executors._WORTH_A_PROCESS", 1)
    assert Workers(job, CorpusSettings())._num_processes({"en": 1, "sw": 1, "hi": 1, "ru": 1}) == 3


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(source, corpus, tmp_path, build, contents):
    build(source, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(corpus)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_in_a_process_is_the_line_that_it_is_here(tmp_path, build, write_source, workers):
    source = write_source(tmp_path / "source", {"sw": ["a document that is long enough"], "en": ["short"]})
    with pytest.raises(HalflingError, match=r"en.txt.xz: cleaning leaves no document \(1 too_short\)"):
        build(source, tmp_path / "out", workers=workers)


@pytest.mark.slow
def test_a_killed_process_is_one_line(job, tmp_path, monkeypatch):
    (tmp_path / "killed.py").write_text("import os\n\ndef task(*_):\n    os.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module("killed").task
    killed = pytest.raises(HalflingError, match="a worker was killed, perhaps for want of memory")
    with killed, Workers(job, CorpusSettings(workers=2)) as workers:
        workers.run(task, {"en": 1, "sw": 1}, lambda code: None)


@pytest.mark.slow
def test_processes_serve_further_calls(job, tmp_path, monkeypatch):
    (tmp_path / "named.py").write_text("import os\n\ndef task(job, code, quota):\n    return os.getpid(), code\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module("named").task
    with Workers(job, CorpusSettings(workers=2)) as workers:
        calls = [workers.run(task, dict.fromkeys(codes, 1), lambda code: None) for codes in (["sw", "en"], ["hi"]) * 2]
    assert [[code for _, code in call.values()] for call in calls] == [["sw", "en"], ["hi"]] * 2
    pids = {pid for call in calls for pid, _ in call.values()}
    assert len(pids) <= 2
    assert os.getpid() not in pids


@pytest.fixture
def job(source, tmp_path):
    return Job(FolderSource(source, "all"), tmp_path, StepSettings())


def test_the_slurm_script_asks_for_one_task_a_language_and_waits(job, tmp_path):
    tasks = Tasks(ingest, job, (("en", 1), ("ru", 1), ("sw", 1)))
    settings = CorpusSettings(workers=2, task_time="10:00:00", environment="source env/bin/activate")
    executor = slurm_executor(tasks, tmp_path / "logs", settings)
    script = executor.get_launch_file_contents(executor.get_sbatch_args(3), "srun launch")
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    expected = ["array=0-2%2", "cpus-per-task=1", "job-name=halfling-ingest", "mem-per-cpu=2G", "partition=cpu", "wait"]
    assert {f"#SBATCH --{line}" for line in [*expected, "time=10:00:00", "requeue"]} < set(lines)
    assert lines.index("source env/bin/activate") < lines.index("srun launch")


@pytest.mark.slow
def test_a_slurm_job_array_gives_the_bytes_of_one_process(source, corpus, tmp_path, build, contents, monkeypatch):
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, text in {
        "sbatch": SBATCH,
        "srun": SRUN,
        "merge_stats": "#!/bin/bash\n",
        "scontrol": "#!/bin/bash\necho here\n",
    }.items():
        (fakes / name).write_text(text)
        (fakes / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{fakes}:{BIN}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_TEST", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    build(source, tmp_path / "out", languages=["sw"], executor="slurm")
    assert of(contents(tmp_path / "out"), "sw") == of(contents(corpus), "sw")
    assert len(list(tmp_path.glob("script-*"))) >= 2  # ingest and split


def test_an_error_on_a_cluster_is_the_line_that_it_is_here(job, tmp_path, write_source, monkeypatch):
    class Here:
        """An executor that does what datatrove's do, here and now."""

        def __init__(self, tasks, logs, settings):
            self.tasks, self.undone = tasks, []

        def run(self):
            for rank in range(len(self.tasks.wanted)):
                try:
                    self.tasks(None, rank, len(self.tasks.wanted))
                except HalflingError:
                    self.undone.append(rank)

        def get_incomplete_ranks(self, skip_completed):
            return self.undone

    monkeypatch.setattr("halfling.corpus.cluster._ray_executor", Here)
    short = FolderSource(write_source(tmp_path / "source", {"en": ["short"]}), "all")
    ray = Workers(replace(job, source=short), CorpusSettings(executor="ray"))
    with pytest.raises(HalflingError, match=r"en.txt.xz: cleaning leaves no document \(1 too_short\)"):
        ray.run(ingest, {"en": 1}, print)


def test_without_slurm_the_line_says_so(source, tmp_path, build, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HalflingError, match="executor slurm: no sbatch here"):
        build(source, tmp_path / "out", executor="slurm")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_workers_of_ray_give_the_bytes_of_one_process(source, corpus, tmp_path, build, contents, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("RAY_gcs_server_request_timeout_seconds", "RAY_raylet_start_wait_time_s"):
        monkeypatch.setenv(name, "300")  # it gives up soon on a busy machine
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    import ray

    try:
        build(source, tmp_path / "out", languages=["hi", "sw"], executor="ray", workers=2)
    finally:
        ray.shutdown()
    assert of(contents(tmp_path / "out"), "hi", "sw") == of(contents(corpus), "hi", "sw")
