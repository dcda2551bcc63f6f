import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halfling.errors import HalflingError
from halfling.files import digest
from halfling.records import Manifest, Settings
from halfling.stage import NoView, Stage, run_stage, run_stages


class WordSettings(Settings):
    word: str = "hello"
    seed: int = 7


class Seen(NoView):
    """Remembers how every stage ended."""

    def __init__(self):
        self.ends = []

    def end(self, stage, how, seconds):
        self.ends.append((stage.name, how))


def write_word(*, settings, out, progress, **inputs):
    """Write the setting, and after it what the inputs hold."""
    progress(0, 1, "")
    read = [file.read_text() for path in inputs.values() for file in ([path] if path.is_file() else path.glob("*.txt"))]
    (out / "word.txt").write_text(" ".join([settings.word, *read]))
    (out / "deep").mkdir(exist_ok=True)
    (out / "deep" / "more.txt").write_text("more")
    return {"words": 1 + len(read)}


def stage(out: Path, work=write_word, **inputs) -> Stage:
    settings = WordSettings(word=inputs.pop("word", "hello"))
    return Stage(out.name, work, settings, out, inputs)


def ends(*stages: Stage) -> list[str]:
    seen = Seen()
    run_stages(stages, seen)
    return [how for _, how in seen.ends]


def chain(folder: Path, first: str = "hello") -> tuple[Stage, Stage, Stage]:
    """Two stages, one after the other, and a third beside them."""
    one = stage(folder / "one", word=first)
    return one, stage(folder / "two", source=one.out), stage(folder / "apart", word="apart")


def test_a_finished_stage_is_skipped(tmp_path):
    assert ends(*chain(tmp_path)) == ["done"] * 3
    before = (tmp_path / "two/word.txt").stat().st_mtime_ns
    assert ends(*chain(tmp_path)) == ["skipped"] * 3
    assert (tmp_path / "two/word.txt").stat().st_mtime_ns == before


def test_changed_settings_make_a_stage_and_what_depends_on_it_again(tmp_path):
    ends(*chain(tmp_path))
    assert ends(*chain(tmp_path, "changed")) == ["done", "done", "skipped"]
    assert (tmp_path / "two/word.txt").read_text() == "hello changed"
    assert not list(tmp_path.glob("*.old")) + list(tmp_path.glob("*.partial"))


def test_changed_content_of_an_input_makes_what_depends_on_it_again(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("before")
    stages = stage(tmp_path / "one", source=source), stage(tmp_path / "apart")
    assert ends(*stages) == ["done", "done"]
    os.utime(source, (1, 1))
    assert ends(*stages) == ["skipped", "skipped"]  # its content counts, not its age
    source.write_text("after!")
    assert ends(*stages) == ["done", "skipped"]


def test_the_same_result_from_changed_settings_leaves_what_depends_on_it(tmp_path):
    def same(*, settings, out, progress):
        (out / "word.txt").write_text("same")
        return {}

    first = stage(tmp_path / "one", same, word="a"), stage(tmp_path / "two", source=tmp_path / "one")
    assert ends(*first) == ["done", "done"]
    changed = stage(tmp_path / "one", same, word="b"), first[1]
    assert ends(*changed) == ["done", "skipped"]


@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_finished_folder_that_was_harmed_is_made_again(harm, tmp_path):
    run_stage(stage(tmp_path / "one"))
    file = tmp_path / "one/deep/more.txt"
    if harm == "delete":
        file.unlink()
    else:
        file.write_text("mor")
    assert ends(stage(tmp_path / "one")) == ["done"]
    assert file.read_text() == "more"


def test_a_file_that_somebody_added_is_kept_and_no_reason_to_work_again(tmp_path):
    run_stage(stage(tmp_path / "one"))
    added = tmp_path / "one/notes.txt"
    added.write_text("mine")
    assert ends(stage(tmp_path / "one")) == ["skipped"]
    assert added.read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_halfling_did_not_make_is_never_replaced(kind, tmp_path):
    theirs = tmp_path / "thesis"
    file = theirs if kind == "file" else theirs / "chapter.tex"
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work")
    with pytest.raises(HalflingError, match="was not made by halfling"):
        run_stage(stage(theirs))
    assert file.read_text() == "years of work"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "one").mkdir()
    assert ends(stage(tmp_path / "one")) == ["done"]


@pytest.mark.parametrize("out", ["data", "data/inner", "."])
def test_a_stage_never_replaces_or_grows_within_what_it_reads(out, tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "en.txt").write_text("text")
    with pytest.raises(HalflingError):
        run_stage(stage(tmp_path / out, source=source))
    assert (source / "en.txt").read_text() == "text"


def test_an_input_that_nobody_makes_is_named_before_the_first_stage_runs(tmp_path):
    first, second = stage(tmp_path / "one"), stage(tmp_path / "two", source=tmp_path / "nowhere")
    with pytest.raises(HalflingError, match="nowhere"):
        run_stages([first, second])
    assert not (tmp_path / "one").exists()


def test_a_stage_that_fails_leaves_no_folder_and_an_older_one_untouched(tmp_path):
    def fails(*, settings, out, progress):
        (out / "half.txt").write_text("half")
        raise HalflingError("no more")

    with pytest.raises(HalflingError, match="no more"):
        run_stage(stage(tmp_path / "new", fails))
    assert not (tmp_path / "new").exists()
    run_stage(stage(tmp_path / "old"))
    before = digest(tmp_path / "old")
    with pytest.raises(HalflingError, match="no more"):
        run_stage(stage(tmp_path / "old", fails))
    assert digest(tmp_path / "old") == before
    assert ends(stage(tmp_path / "old")) == ["skipped"]


def test_an_interrupted_try_at_the_same_work_is_gone_on_from(tmp_path):
    tries = []

    def slow(*, settings, out, progress):
        tries.append((out / "half.txt").exists())
        (out / "half.txt").write_text("half")
        if len(tries) == 1:
            raise KeyboardInterrupt
        (out / "half.txt").rename(out / "whole.txt")
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_stage(stage(tmp_path / "one", slow))
    manifest = run_stage(stage(tmp_path / "one", slow))
    assert tries == [False, True]
    assert manifest.files == {"whole.txt": 4}


def test_a_partial_folder_of_other_settings_is_thrown_away(tmp_path):
    def slow(*, settings, out, progress):
        assert not list(out.glob("half*"))
        (out / f"half-{settings.word}.txt").write_text("half")
        if settings.word == "a":
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_stage(stage(tmp_path / "one", slow, word="a"))
    assert run_stage(stage(tmp_path / "one", slow, word="b")).files == {"half-b.txt": 4}


@pytest.mark.parametrize(("older", "killed_at"), [(False, 1), (True, 1), (True, 2)])
def test_killed_between_manifest_and_renaming_is_finished_without_work(killed_at, older, tmp_path, monkeypatch):
    """The renames are out -> out.old (where there is an older one) and out.partial -> out."""
    if older:
        run_stage(stage(tmp_path / "one", word="older"))
    count, rename = [], Path.rename

    def killed(self, target):
        count.append(target)
        if len(count) == killed_at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(stage(tmp_path / "one"))
    assert len(count) == killed_at
    worked = []

    def never(**_):
        worked.append(1)
        return {}

    never.__name__ = write_word.__name__
    assert ends(stage(tmp_path / "one", never)) == ["done"]
    assert not worked
    assert (tmp_path / "one/word.txt").read_text() == "hello"
    assert not list(tmp_path.glob("*.old")) + list(tmp_path.glob("*.partial"))


def test_a_second_process_at_the_same_folder_is_refused_and_a_killed_one_gives_it_back(tmp_path):
    holder = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, tmp_path / ".one.lock"], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(HalflingError, match="one: another halfling is making this folder") as raised:
            run_stage(stage(tmp_path / "one"))
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "one").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert ends(stage(tmp_path / "one")) == ["done"]


def test_a_stage_at_work_holds_its_folder(tmp_path):
    def inner(**_):
        return {}

    def outer(*, settings, out, progress):
        with pytest.raises(HalflingError, match="another halfling"):
            run_stage(stage(tmp_path / "one", inner))
        return {}

    run_stage(stage(tmp_path / "one", outer))


def test_the_manifest_says_what_was_made_from_what(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("hello")
    began = time.monotonic()
    run_stage(stage(tmp_path / "one", source=source))
    manifest = Manifest.read(tmp_path / "one/manifest.json")
    assert manifest.stage == "write_word"
    # printf hello | sha256sum
    assert manifest.inputs == {"source": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    assert manifest.settings == {"word": "hello", "seed": 7}
    assert manifest.seed == 7
    assert manifest.counts == {"words": 2}
    assert manifest.files == {"deep/more.txt": 4, "word.txt": 11}
    assert manifest.digest == digest(tmp_path / "one")
    assert 0 <= manifest.seconds <= time.monotonic() - began
    assert {"torch", "transformers", "python"} <= set(manifest.versions)
    assert json.loads((tmp_path / "one/manifest.json").read_text())["fingerprint"] == manifest.fingerprint


def test_an_input_that_is_not_there_is_named_with_its_role_before_anything_is_written(tmp_path):
    with pytest.raises(HalflingError, match=r"one: no source at .*nowhere: run the stage that makes it"):
        run_stage(stage(tmp_path / "runs/one", source=tmp_path / "nowhere"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("basic_ios::clear: iostream error")],
    ids=["said by the system", "said by a library in its own words"],
)
def test_a_full_disk_is_said_in_one_line(error, tmp_path, monkeypatch):
    def fails(*, settings, out, progress):
        raise error

    free = 0 if isinstance(error, RuntimeError) else 10**12
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(HalflingError, match=r"one\.partial: the disk is full: make room"):
        run_stage(stage(tmp_path / "one", fails))
    assert not (tmp_path / "one").exists()


def test_a_fault_of_the_code_is_not_called_a_full_disk(tmp_path):
    def fails(*, settings, out, progress):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_stage(stage(tmp_path / "one", fails))
