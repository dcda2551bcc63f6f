import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from halfling import processes
from halfling.cores import usable_cores
from halfling.errors import HalflingError
from halfling.pipeline import side_by_side
from halfling.pipeline.side_by_side import run_side_by_side
from halfling.records import Settings
from halfling.stage import Stage, View

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def found_by_processes(monkeypatch):
    """Processes find the work below by the name of this module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


class Timed(Settings):
    @property
    def timed(self) -> bool:
        return True


class Notes(Settings):
    mine: Path
    other: Path | None = None


class Seen(View):
    def __init__(self):
        self.ends, self.told = [], []

    def start(self, stage):
        return lambda *said: self.told.append((stage.name, *said))

    def end(self, stage, how, seconds):
        self.ends.append((stage.name, how))


def write(*, settings, out, progress, **inputs):
    """Say who and with how many cores, after what was read."""
    progress(0, 1, "half way")
    (out / "who").write_text(f"{os.getpid()} {usable_cores()}")
    return {}


def meet(*, settings, out, progress, **inputs):
    """Wait until the other one is at work too."""
    settings.mine.touch()
    began = time.monotonic()
    while not settings.other.exists():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
    return write(settings=settings, out=out, progress=progress)


def refuse(*, settings, out, progress, **inputs):
    raise HalflingError("no: mend it")


def stop(*, settings, out, progress, **inputs):
    os.kill(os.getpid(), signal.SIGKILL)


class OddError(Exception):
    """It can be sent to another process, and not be read there."""

    def __init__(self, message, *, response):
        super().__init__(message)


def odd(*, settings, out, progress, **inputs):
    raise OddError("what really happened", response=None)


def chatty(*, settings, out, progress, **inputs):
    for number in range(2000):
        progress(number, 2000, "x" * 1000)
    return write(settings=settings, out=out, progress=progress)


def litter(*, settings, out, progress, **inputs):
    with tempfile.TemporaryDirectory() as folder:
        settings.mine.write_text(folder)
        time.sleep(PATIENCE)


def wait_for_note(*, settings, out, progress, **inputs):
    while not settings.mine.exists():
        time.sleep(0.01)
    raise HalflingError("no: mend it")


def linger(*, settings, out, progress, **inputs):
    settings.mine.write_text(str(os.getpid()))
    time.sleep(PATIENCE)
    return {}


def stage(out: Path, work=write, settings=None, **inputs) -> Stage:
    return Stage(out.name, work, settings or Settings(), out, inputs)


def who(folder: Path) -> tuple[int, int]:
    pid, cores = (folder / "who").read_text().split()
    return int(pid), int(cores)


def count_threads(*, settings, out, progress, **inputs):
    import torch

    (out / "who").write_text(f"{torch.get_num_threads()} {os.environ['RAYON_NUM_THREADS']}")
    return {}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stages_that_do_not_wait_run_at_once_in_processes_with_a_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("HALFLING_CORES", str(whole := usable_cores()))
    notes = tmp_path / "a.note", tmp_path / "b.note"
    first = stage(tmp_path / "first")
    one = stage(tmp_path / "one", meet, Notes(mine=notes[0], other=notes[1]), source=first.out)
    two = stage(tmp_path / "two", meet, Notes(mine=notes[1], other=notes[0]), source=first.out)
    last = stage(tmp_path / "last", one=one.out, two=two.out)
    seen = Seen()
    run_side_by_side([first, one, two, last], seen, 2)
    assert sorted(seen.ends) == [(name, "done") for name in ("first", "last", "one", "two")]
    assert {("one", 0, 1, "half way"), ("two", 0, 1, "half way")} <= {*seen.told}
    ours = os.getpid(), whole
    assert who(first.out) == who(last.out) == ours, "what has everything before or behind it has the machine"
    assert len({ours[0], who(one.out)[0], who(two.out)[0]}) == 3
    assert who(one.out)[1] == who(two.out)[1] == max(1, whole // 2)
    again = Seen()
    run_side_by_side([first, one, two, last], again, 2)
    assert sorted(again.ends) == [(name, "skipped") for name in ("first", "last", "one", "two")]


def test_libraries_have_the_share_too_and_the_parent_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HALFLING_CORES", "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    stages = [stage(tmp_path / name, count_threads) for name in ("one", "two")]
    run_side_by_side(stages, View(), 2)
    assert {who(one.out) for one in stages} == {(1, 1)}
    assert dict(os.environ) == before


def test_a_stage_that_measures_times_waits_until_nothing_else_runs(tmp_path):
    timed = stage(tmp_path / "timed", settings=Timed())
    others = [stage(tmp_path / f"other-{number}") for number in range(3)]
    seen = Seen()
    run_side_by_side([timed, *others], seen, 2)
    assert seen.ends[-1] == ("timed", "done")
    assert who(timed.out)[0] == os.getpid()


def test_one_that_fails_stops_the_others_and_says_why(tmp_path):
    slow, bad = stage(tmp_path / "slow", linger, Notes(mine=tmp_path / "note")), stage(tmp_path / "bad", refuse)
    began = time.monotonic()
    with pytest.raises(HalflingError, match=r"^no: mend it$"):
        run_side_by_side([slow, bad], View(), 2)
    assert time.monotonic() - began < PATIENCE / 2
    assert not slow.out.exists()
    assert not bad.out.exists()


def test_a_process_that_the_program_starts_meanwhile_is_not_ended(tmp_path):
    started = []

    class Starting(View):
        def start(self, stage):
            if not started:
                started.append(multiprocessing.get_context("spawn").Process(target=time.sleep, args=(PATIENCE,)))
                started[0].start()
            return super().start(stage)

    slow, bad = stage(tmp_path / "slow", linger, Notes(mine=tmp_path / "note")), stage(tmp_path / "bad", refuse)
    with pytest.raises(HalflingError, match="no: mend it"):
        run_side_by_side([slow, bad], Starting(), 2)
    try:
        assert started[0].is_alive()
    finally:
        started[0].kill()
        started[0].join()


def test_a_killed_process_is_one_line(tmp_path):
    with pytest.raises(HalflingError, match="a process was killed, perhaps for want of memory: run the same command"):
        run_side_by_side([stage(tmp_path / "one", stop), stage(tmp_path / "two")], View(), 2)


def test_after_a_stage_of_its_own_others_get_new_processes(tmp_path):
    first = [stage(tmp_path / name) for name in ("a", "b")]
    alone = stage(tmp_path / "alone", a=first[0].out, b=first[1].out)
    last = [stage(tmp_path / name, alone=alone.out) for name in ("c", "d")]
    run_side_by_side([*first, alone, *last], View(), 2)
    before, after = ({who(one.out)[0] for one in some} for some in (first, last))
    assert not before & after
    assert not any(is_alive(pid) for pid in before | after)


def test_an_error_that_no_process_can_read_is_told_all_the_same(tmp_path):
    with pytest.raises(RuntimeError, match="what really happened"):
        run_side_by_side([stage(tmp_path / "one", odd), stage(tmp_path / "two")], View(), 2)


def test_a_view_that_fails_ends_the_run_and_nobody_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "_SECONDS_BETWEEN_NEWS", 0.0)

    class Gone(View):
        def start(self, stage):
            raise SystemExit(1)  # as rich does where nobody reads

    with pytest.raises(SystemExit):
        run_side_by_side([stage(tmp_path / "one", chatty), stage(tmp_path / "two", chatty)], Gone(), 2)


def test_what_stopped_processes_left_behind_is_removed(tmp_path):
    note = tmp_path / "note"
    stages = [
        stage(tmp_path / name, work, Notes(mine=note)) for name, work in (("one", litter), ("two", wait_for_note))
    ]
    with pytest.raises(HalflingError, match="mend it"):
        run_side_by_side(stages, View(), 2)
    assert not Path(note.read_text()).exists()


def test_more_jobs_than_stages_start_no_more_processes_than_those(tmp_path):
    run_side_by_side([stage(tmp_path / "one"), stage(tmp_path / "two")], View(), 10**12)
    assert who(tmp_path / "one")[1] == 1


def test_an_input_that_nobody_makes_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(HalflingError, match=r"no source at .*/nowhere"):
        run_side_by_side([stage(tmp_path / "one"), stage(tmp_path / "two", source=tmp_path / "nowhere")], View(), 2)
    assert not (tmp_path / "one").exists()


def test_not_for_several_processes_of_torchrun(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "number", lambda: 2)
    with pytest.raises(HalflingError, match="leave --jobs out"):
        run_side_by_side([stage(tmp_path / "one")], View(), 2)


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_side_by_side import Notes, linger, stage
        from halfling.pipeline.side_by_side import run_side_by_side
        from halfling.stage import View

        if __name__ == "__main__":
            here = Path({str(tmp_path)!r})
            stages = [stage(here / name, linger, Notes(mine=here / f"{{name}}.note")) for name in "ab"]
            run_side_by_side(stages, View(), 2)
    """)
    (tmp_path / "main.py").write_text(script)
    notes = [tmp_path / "a.note", tmp_path / "b.note"]
    with subprocess.Popen([sys.executable, tmp_path / "main.py"]) as parent:
        began = time.monotonic()
        while not all(note.exists() and note.read_text() for note in notes):
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.05)
        parent.kill()
    while any(is_alive(int(note.read_text())) for note in notes):
        assert time.monotonic() - began < 2 * PATIENCE
        time.sleep(0.05)
