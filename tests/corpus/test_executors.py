import importlib
import os
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from halfling.corpus.build import CorpusSettings
from halfling.corpus.cluster import Tasks, slurm_executor
from halfling.corpus.executors import Workers
from halfling.corpus.filters.clean import CleanSettings
from halfling.corpus.sources.folder import FolderSource
from halfling.corpus.steps import Job, gather
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


def test_little_text_is_the_work_of_threads_that_give_the_same_bytes(
    source, corpus, tmp_path, build, contents, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    build(source, tmp_path / "out", workers=None)
    assert contents(tmp_path / "out") == contents(corpus)


class Slow:
    """A source of ten seconds in English, and of nothing in Swahili."""

    codes = ("en", "sw")

    def __init__(self):
        self.read = 0

    def documents(self, code):
        while code == "en" and self.read < 1000:
            time.sleep(0.01)
            self.read += 1
            yield "a document"

    def place(self, code):
        return code

    def forget(self, code):
        pass


@pytest.mark.parametrize("kind", [KeyboardInterrupt, HalflingError])
def test_threads_end_soon_after_an_error_or_ctrl_c(job, monkeypatch, kind):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    slow = Slow()

    def task(job, code, quota):
        return list(job.source.documents(code))

    def interrupted(code):
        raise kind(code)

    few = Workers(replace(job, source=slow, sampled=False), CorpusSettings())
    with pytest.raises(kind, match="sw"), few as workers:
        workers.run(task, {"en": 1, "sw": 1}, interrupted)
    assert slow.read < 1000


def test_a_sample_reads_the_whole_source(job):
    assert job.source_bytes({"en": 1}) == job.text_bytes("en")
    assert replace(job, sampled=False).source_bytes({"en": 1}) == 1


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(source, corpus, tmp_path, build, contents):
    build(source, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(corpus)


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_in_a_thread_or_process_is_the_line_that_it_is_here(tmp_path, build, write_source, workers):
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
    return Job(
        source=FolderSource(source, "all"),
        out=tmp_path,
        chunks=5,
        seed=0,
        sampled=True,
        clean=CleanSettings(),
        keep_rejected=False,
    )


def test_the_slurm_script_asks_for_one_task_a_language_and_waits(job, tmp_path):
    tasks = Tasks(gather, job, (("en", 1), ("ru", 1), ("sw", 1)))
    executor = slurm_executor(tasks, tmp_path / "logs", 2, "cpu", "10:00:00", "source env/bin/activate")
    script = executor.get_launch_file_contents(executor.get_sbatch_args(3), "srun launch")
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    expected = ["array=0-2%2", "cpus-per-task=1", "job-name=halfling-gather", "mem-per-cpu=2G", "partition=cpu", "wait"]
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
    assert len(list(tmp_path.glob("script-*"))) >= 2  # gather and deal


@pytest.mark.slow
def test_two_processes_of_datatrove_give_the_bytes_of_one(source, corpus, tmp_path, build, contents):
    build(source, tmp_path / "out", languages=["hi", "sw"], executor="datatrove", workers=2)
    assert of(contents(tmp_path / "out"), "hi", "sw") == of(contents(corpus), "hi", "sw")


def test_an_error_under_datatrove_is_the_line_that_it_is_here(tmp_path, build, write_source):
    source = write_source(tmp_path / "source", {"en": ["short"]})
    with pytest.raises(HalflingError, match=r"en.txt.xz: cleaning leaves no document \(1 too_short\)"):
        build(source, tmp_path / "out", executor="datatrove", workers=1)


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
