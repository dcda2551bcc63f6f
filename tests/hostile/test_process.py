"""What surrounds the process: closed streams, strange names, no memory, no disk, a container's share of a machine."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from halfling import cores
from halfling.corpus.executors import ExecutorSettings, Workers
from halfling.errors import one_line
from halfling.files import digest
from halfling.sample.write import SampleSettings, write_sample

SOURCE = Path(cores.__file__).parents[1]
SMALL = ("lines=4", "train_sentences=8", "dev_sentences=4")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **more}


def shell(script: str, *words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a script of bash in which `h` is halfling and $1, $2, ... are `words`."""
    whole = f'h() {{ "{sys.executable}" -m halfling "$@"; }}\n{script}'
    command = ["bash", "-c", whole, "bash", *map(os.fspath, words)]
    return subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False, **options)


def one_error(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a command that failed with status 1."""
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert len(said.splitlines()) == 1, said
    assert said.startswith("error: ")
    return said.removeprefix("error: ").strip()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small sample, made within this process."""
    out = tmp_path_factory.mktemp("sample")
    write_sample(settings=SampleSettings(lines=4, train_sentences=8, dev_sentences=4), out=out)
    return out


@pytest.fixture(scope="module")
def _models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def exported(halfling, write_tagger, _models) -> Path:
    """An exported tagger, made once."""
    if not (_models / "served").exists():
        said = halfling("export", write_tagger(_models / "model"), _models / "served")
        assert said.status == 0, said.err
    return _models / "served"


def test_a_closed_standard_input_is_no_text(exported):
    assert one_error(shell('h predict "$1" <&-', exported)).startswith("predict: no text: give texts, --file")


def test_bytes_that_are_not_utf_8_on_standard_input_are_one_line_in_any_locale(exported):
    said = one_error(shell('printf "Anna\\xff" | LC_ALL=C PYTHONCOERCECLOCALE=0 h predict "$1"', exported))
    assert said == "standard input: not UTF-8 (byte 4)"


def test_a_closed_standard_output_is_one_line_and_nothing_is_made(tmp_path):
    done = shell('h sample "$1" lines=4 >&-', tmp_path / "out")
    assert one_error(done) == "standard output is closed: give it a place, /dev/null for none"
    assert not [*tmp_path.iterdir()]


def test_a_closed_standard_error_changes_no_byte_of_what_is_made(sample, tmp_path, contents):
    done = shell('h sample "$1" "${@:2}" 2>&-', tmp_path / "out", *SMALL)
    assert done.returncode == 0
    made = contents(tmp_path / "out")
    made.pop("manifest.json")
    assert made == contents(sample)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    done = shell('h sample --help | head -1 >/dev/null; exit "${PIPESTATUS[0]}"')
    assert done.stderr == b""
    assert done.returncode in (0, 1, -signal.SIGPIPE)  # 0: all of it went into the pipe
    done = shell('h --help | { exec <&-; sleep 3; }; exit "${PIPESTATUS[0]}"')
    assert done.stderr == b""
    assert done.returncode == 1


def test_answers_that_do_not_fit_on_the_disk_are_one_line():
    assert "No space left on device" in one_error(shell("h --help >/dev/full"))


def test_an_argument_that_is_not_utf_8_is_one_line(tmp_path):
    done = shell('h sample "$1/$(printf "a\\xffb")"', tmp_path)
    assert one_error(done) == f"{tmp_path}/a\\udcffb: not UTF-8: rename the file, or write the text in UTF-8"
    assert not [*tmp_path.iterdir()]


def test_a_file_beside_whose_name_is_not_utf_8_is_read_or_left(error, halfling, tmp_path):
    folder = tmp_path / "cc100"
    folder.mkdir()
    (folder / "en.txt").write_text("A document of some words, long enough to be kept.\n")
    stray = Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.csv"))
    stray.write_text("stray")
    assert len(digest(folder)) == 64
    said = halfling("corpus", "build", folder, tmp_path / "out", "chunks=1")
    assert said.status == 0, said.err
    shutil.copy(stray, tmp_path / "out")  # somebody adds it
    assert "as it was" in halfling("corpus", "build", folder, tmp_path / "out", "chunks=1").err


@pytest.mark.parametrize("name", ["a[red]b[", "[bold]c", "new\nline", "escape\x1b[31m", "-n", "\\", "한글", " "])
def test_any_name_of_a_folder_is_one_line_of_the_view(name, halfling, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = halfling("sample", "--", name, *SMALL)
    assert said.status == 0, said.err
    assert (tmp_path / name / "manifest.json").is_file()
    assert len(said.err.split("\n")) == 2
    assert "\x1b" not in said.err
    assert one_line(name).strip() in said.err
    said = halfling("sample", "--", f"{name}/inner", "line=4")
    assert said.err == "error: SampleSettings: unknown key line: the nearest known is lines\n"


def test_an_error_is_one_line_whatever_name_it_tells(halfling, tmp_path):
    said = halfling("predict", tmp_path / "a\nb\x1b[2J[red]", "text")
    assert said.status == 1
    assert said.err.startswith(f"error: {tmp_path}/a b\\x1b[2J[red]: no exported model here")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 80 GB"),
        RuntimeError("Exception from core.cpp:117:\nException from plugin.cpp:54:\nResource temporarily unavailable\n"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda raised: str(raised)[:20],
)
def test_no_more_memory_is_one_line_whoever_says_so(raised, error, tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise raised

    monkeypatch.setattr("halfling.sample.write._documents", fails)
    said = error("sample", tmp_path / "out")
    assert "memory" in said.lower()
    assert str(raised).strip().splitlines()[-1:] == [] or str(raised).strip().splitlines()[-1][-20:] in said


@pytest.mark.parametrize("megabytes", [200, 270, 330])
def test_a_limit_of_memory_that_a_library_runs_into_is_one_line(megabytes, exported):
    """What runs out first, and where, is the machine's; an answer is as good as a line."""
    done = subprocess.run(
        [sys.executable, "-m", "halfling", "predict", exported, "Anna lives in Rome"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes * 10**6,) * 2),
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert (done.returncode, bool(done.stdout)) in ((0, True), (1, False))


def test_a_folder_that_nobody_may_write_to_is_one_line():
    if not Path("/sys/kernel").is_dir():
        pytest.skip("no folder here that root itself may not write to")
    said = one_error(shell('h sample /sys/kernel/halfling "$@"', *SMALL))
    assert said.startswith("/sys/kernel/.halfling.halfling: ")
    assert "disk is full" not in said


def test_a_disk_that_is_read_only_or_full_is_one_line_and_holds_nothing_new(tmp_path):
    """On disks of our own; not every system lets us have one. See `tests/test_stage.py` too."""
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "-rm", "bash", "-c"]
    if subprocess.run([*own, f"mount -t tmpfs none {disk}"], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    for options, expected in (("ro", "Read-only file system"), ("size=16k", "the disk is full")):
        script = (
            f'mount -t tmpfs -o {options} none {disk} && "$0" -m halfling sample {disk}/out lines=90; s=$?; ls {disk}'
        )
        done = subprocess.run(
            [*own, f"{script}; exit $s", sys.executable], capture_output=True, env=environment(), check=False
        )
        assert expected in one_error(done)
        assert done.stdout == b""


def cgroup(root: Path, lines: str, **files: str) -> Path:
    """A machine with these cgroups: `lines` of /proc/self/cgroup, and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


V2 = "0::/user.slice/job\n"
V1 = "4:memory:/docker/9a\n2:cpu,cpuacct:/docker/9a\n1:name=systemd:/\n0::/\n"
QUOTAS = [
    ("one core of version 2", V2, {"user.slice/job/cpu.max": "100000 100000"}, 1),
    ("of the group around", V2, {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "300000 100000"}, 3),
    ("of the root of a container", "0::/\n", {"cpu.max": "200000 100000"}, 2),
    ("half a core more is none", V2, {"user.slice/job/cpu.max": "250000 100000"}, 2),
    ("half a core is one", V2, {"user.slice/job/cpu.max": "50000 100000"}, 1),
    ("no quota", V2, {"user.slice/job/cpu.max": "max 100000"}, 16),
    ("more than there is", V2, {"user.slice/job/cpu.max": "6400000 100000"}, 16),
    ("version 1", V1, {"cpu/docker/9a/cpu.cfs_quota_us": "400000", "cpu/docker/9a/cpu.cfs_period_us": "100000"}, 4),
    ("version 1 mounted as the root", V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
    ("both names", V1, {"cpu,cpuacct/cpu.cfs_quota_us": "90000", "cpu,cpuacct/cpu.cfs_period_us": "30000"}, 3),
    ("version 1 without", V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ("what nobody writes", V2, {"user.slice/job/cpu.max": "many cores"}, 16),
    ("a place above", "0::/../..\n", {"cpu.max": "100000 100000"}, 1),
    ("no cgroups", "", {}, 16),
]


@pytest.mark.parametrize(("what", "lines", "files", "expected"), QUOTAS, ids=[one[0] for one in QUOTAS])
def test_the_quota_of_a_container_decides_how_many_cores_there_are(what, lines, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert cores.usable_cores(cgroup(tmp_path, lines, **files)) == expected


@pytest.mark.parametrize(("said", "expected"), [("2", 2), ("0", 1), ("\u00b2", 16), ("9" * 5000, 16), ("abc", 16)])
def test_a_limit_that_is_no_number_limits_nothing(said, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setenv("HALFLING_CORES", said)
    assert cores.usable_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("lines", "files"),
    [(V2, {"user.slice/memory.max": str(3 * 2**30)}), (V1, {"memory/memory.limit_in_bytes": str(3 * 2**30)})],
    ids=["version 2", "version 1"],
)
def test_the_memory_of_a_container_decides_how_many_workers_there_are(lines, files, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    root = cgroup(tmp_path, lines, **files)
    assert cores.usable_memory(root) <= 3 * 2**30
    assert cores.workers(2**30, root) <= 3
    assert cores.workers(2**40, root) == 1


def test_the_corpus_and_packing_take_as_many_workers_as_the_share_of_the_machine(monkeypatch):
    wanted = dict.fromkeys("abcdefgh", 10**9)

    def processes(**settings: int) -> int:
        workers = object.__new__(Workers)  # of a job that is large
        workers._settings = ExecutorSettings(**settings)
        workers._job = SimpleNamespace(source=SimpleNamespace(text_bytes=lambda code: 10**9))
        return workers._num_processes(wanted)

    for share in (1, 3):
        monkeypatch.setattr("halfling.cores.usable_cores", lambda root=None, share=share: share)
        monkeypatch.setattr("halfling.cores.usable_memory", lambda root=None: 2**40)
        assert processes() == share
    monkeypatch.setattr("halfling.cores.usable_memory", lambda root=None: 2**31)
    assert processes() == 2
    assert processes(workers=5) == 5


LIBRARIES = """
import os, sys
from pathlib import Path
from halfling import cores
cores.limit_libraries(Path(sys.argv[1]))
import pyarrow, torch
print(cores.usable_cores(Path(sys.argv[1])), torch.get_num_threads(), pyarrow.cpu_count())
"""


def test_libraries_that_count_cores_themselves_are_told_of_a_quota(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core here: nobody can take too many")
    root = cgroup(tmp_path, V2, **{"user.slice/job/cpu.max": "100000 100000"})
    plain = {name: value for name, value in environment().items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", LIBRARIES, root]
    done = subprocess.run(command, capture_output=True, text=True, env=plain, check=True)
    assert done.stdout.split() == ["1"] * 3


def test_affinity_decides_how_many_cores_there_are():
    there = sorted(os.sched_getaffinity(0))
    count = "from halfling import cores; print(cores.usable_cores())"
    for number in {1, len(there)}:
        command = ["taskset", "-c", ",".join(map(str, there[:number])), sys.executable, "-c", count]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        assert 1 <= int(done.stdout) <= number


def test_nobody_else_counts_cores():
    for path in SOURCE.glob("halfling/**/*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "cores.py":
            assert not [word for word in ("cpu_count", "sched_getaffinity") if word in text], path
