import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halfling.errors import HalflingError
from halfling.files import digest
from halfling.fingerprint import reading
from halfling.records import Manifest, Settings
from halfling.stage import Stage, View, run_stage, run_stages, state, states
from halfling.tasks.task import Task


class WordSettings(Settings):
    word: str = "hello"
    seed: int = 7


class Seen(View):
    """Remembers how every stage ended."""

    def __init__(self):
        self.ends = []
        self.reasons = []

    def made_anew(self, stage, why):
        self.reasons.append((stage.name, *why))

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
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "apart"}


def test_changed_content_of_an_input_makes_what_depends_on_it_again(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("before")
    stages = stage(tmp_path / "one", source=source), stage(tmp_path / "apart")
    assert ends(*stages) == ["done", "done"]
    os.utime(source, (1, 1))
    assert ends(*stages) == ["skipped", "skipped"]  # its content counts, not its age
    source.write_text("after!")
    assert ends(*stages) == ["done", "skipped"]


def test_what_changed_since_a_folder_was_made_is_said_before_it_is_made_again(tmp_path, monkeypatch):
    source, more = tmp_path / "source.txt", {"source": tmp_path / "source.txt"}
    source.write_text("before")

    def reasons(**inputs):
        seen = Seen()
        run_stage(stage(tmp_path / "one", **inputs), seen)
        return seen.reasons

    assert reasons(**more) == []
    assert reasons(**more) == []
    assert reasons(word="bye", **more) == [("one", 'word was "hello" and is "bye"')]
    source.write_text("after")
    assert reasons(word="x" * 60, **more) == [("one", f'word was "bye" and is "{"x" * 36}...', "another source")]
    (tmp_path / "one/word.txt").write_text("edited")
    assert reasons(word="x" * 60, **more) == [("one", "its files were edited")]
    assert reasons(word="x" * 60) == [("one", "another source")]
    monkeypatch.setattr("halfling.__version__", "99.0")
    (said,) = reasons(word="x" * 60)
    assert said[1].endswith(" and is 99.0")


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


def killed_at(number: int, *stages: Stage) -> bool:
    """Run stages in a process that kills itself before its so-many-th change of the file system; say if it did."""
    process = os.fork()
    if process == 0:
        left = itertools.count(number, -1)
        changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}

        def watch(event, arguments):
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in changes) and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        status = 1
        try:
            run_stages(stages)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@FORKS
@pytest.mark.parametrize("older", [False, True])
def test_killed_before_any_change_of_a_file_the_same_command_ends_the_same(older, tmp_path):
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        if older:
            run_stage(stage(folder / "one", word="older"))
            (folder / "one/deep/notes.txt").write_text("mine")
        was_killed = killed_at(number, stage(folder / "one"))
        assert state(stage(folder / "one")) in ("to do", "changed", "interrupted", "done")
        if older and was_killed and (folder / "one").exists():
            assert (folder / "one/word.txt").read_text() in ("older", "hello")
        run_stage(stage(folder / "one"))
        assert (folder / "one/word.txt").read_text() == "hello"
        assert [path.name for path in folder.iterdir()] == ["one"]
        assert (folder / "one/deep/notes.txt").exists() == older
        if not was_killed:
            break
    assert number > 12


@FORKS
def test_killed_again_and_again_with_other_settings_in_between_nothing_of_the_user_s_is_lost(tmp_path):
    chance = random.Random(0)
    run_stage(stage(tmp_path / "one", word="older"))
    (tmp_path / "one/notes.txt").write_text("mine")
    for _ in range(60):
        killed_at(chance.randrange(30), stage(tmp_path / "one", word=chance.choice("abc")))
    run_stage(stage(tmp_path / "one"))
    assert (tmp_path / "one/notes.txt").read_text() == "mine"
    assert (tmp_path / "one/word.txt").read_text() == "hello"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@FORKS
def test_killed_between_manifest_and_renaming_is_finished_without_work(tmp_path):
    once, number = stage(tmp_path / "one", write_once), itertools.count()
    while killed_at(next(number), once):
        if (tmp_path / ".one.halfling/partial/manifest.json").exists():
            break
        shutil.rmtree(tmp_path / ".one.halfling", ignore_errors=True)
    assert state(once) == "interrupted"
    assert ends(once) == ["done"]


def write_once(*, settings, out, progress):
    (out / "word.txt").open("x").close()
    return {}


@FORKS
def test_checkpoints_are_there_to_go_on_from_until_the_folder_is_whole_and_then_they_go(tmp_path):
    for number in itertools.count():
        one, partial = stage(tmp_path / f"{number}", train), tmp_path / f".{number}.halfling/partial"
        if not killed_at(number, one):
            break
        whole, kept = (partial / "manifest.json").exists(), (partial / "checkpoints/two").exists()
        made = run_stage(one)
        assert made.counts["went_on"] == (kept and not whole)
        assert {*made.files} == {"word.txt"} == {path.name for path in one.out.iterdir()} - {"manifest.json"}
    assert number > 12


def train(*, settings, out, progress):
    """Write two checkpoints, the second last, and a result."""
    went_on = (out / "checkpoints/two").exists()
    for name in ("one", "two"):
        (out / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
        (out / "checkpoints" / name / "weights").write_text(name)
    (out / "word.txt").write_text(settings.word)
    return {"went_on": went_on}


def test_a_second_process_at_the_same_folder_is_refused_and_a_killed_one_gives_it_back(tmp_path):
    holder = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    lock = tmp_path / ".one.halfling/lock"
    lock.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", holder, lock], stdout=subprocess.PIPE)
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


def test_labelled_data_that_are_not_there_are_named_with_the_option_that_says_them(tmp_path):
    task = Task(train={"en": str(tmp_path / "nowhere.csv")})
    said = r"^one: no labelled data at .*nowhere.csv: name a file that is there \(--train, --dev\)$"
    with pytest.raises(HalflingError, match=said):
        run_stage(stage(tmp_path / "runs/one", task=task))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("basic_ios::clear: iostream error"),
        ValueError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
    ],
    ids=["said by the system", "said by a library in its own words", "a quota"],
)
def test_a_full_disk_is_said_in_one_line(error, tmp_path, monkeypatch):
    def fails(*, settings, out, progress):
        raise error

    free = 0 if isinstance(error, RuntimeError) else 10**12
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free, "total": 10**12}))
    with pytest.raises(HalflingError, match="one: the disk is full: make room"):
        run_stage(stage(tmp_path / "one", fails))
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    "error", [OSError(27, "File too large"), ValueError("Error while serializing: I/O error: it is (os error 27)")]
)
def test_what_cannot_be_written_is_one_line_with_its_place(error, tmp_path):
    def fails(*, settings, out, progress):
        raise error

    with pytest.raises(HalflingError, match=r"one: cannot be written \(File too large\): mend that"):
        run_stage(stage(tmp_path / "one", fails))


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), BrokenPipeError(32, "Broken pipe")])
def test_a_fault_of_another_kind_is_not_called_one_of_the_disk(error, tmp_path):
    def fails(*, settings, out, progress):
        raise error

    with pytest.raises(type(error), match=r"shapes differ|Broken pipe"):
        run_stage(stage(tmp_path / "one", fails))


def tree(folder: Path) -> dict[str, str | None]:
    """What lies in a folder: names, contents, and where links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def test_neighbours_that_are_the_user_s_stay(tmp_path):
    for name in ("one.old", "one.partial", "one.lock", ".one.lock", "one.halfling"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("precious")
    before = tree(tmp_path)
    for word in "ab":
        run_stage(stage(tmp_path / "one", word=word))
    assert before.items() <= tree(tmp_path).items()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [".one.lock"]


@pytest.mark.parametrize("inside", [["partial/mine.txt"], ["old/mine.txt"], ["lock", "mine.txt"], ["work"], ["lock"]])
def test_what_lies_where_a_stage_is_made_and_is_not_halfling_s_is_refused_and_stays(inside, tmp_path):
    for name in inside:
        file = tmp_path / ".one.halfling" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("precious")
    before = tree(tmp_path)
    with pytest.raises(HalflingError, match=r"\.one\.halfling: was not made by halfling"):
        run_stage(stage(tmp_path / "one"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("link", [".one.halfling", ".one.halfling/lock"])
def test_a_link_where_a_stage_is_made_is_refused_and_its_target_untouched(link, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(target if link == ".one.halfling" else target / "mine.txt")
    before = tree(tmp_path)
    with pytest.raises(HalflingError, match="was not made by halfling"):
        run_stage(stage(tmp_path / "one"))
    assert tree(tmp_path) == before


def test_an_output_that_is_a_link_stays_one_and_the_next_run_finds_it_done(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "one").symlink_to("disk/one")
    assert ends(stage(tmp_path / "one", word="a")) == ["done"]
    assert ends(stage(tmp_path / "one")) == ["done"]
    assert ends(stage(tmp_path / "one")) == ["skipped"]
    assert (tmp_path / "one").readlink() == Path("disk/one")
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "one"}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["one"]


def test_an_output_that_is_a_link_to_itself_is_refused_before_any_work(tmp_path):
    (tmp_path / "one").symlink_to("one")
    with pytest.raises(HalflingError, match="link"):
        run_stage(stage(tmp_path / "one"))
    assert tree(tmp_path) == {"one": "one"}


@pytest.mark.parametrize("kind", ["web page's manifest", "other folder"])
def test_a_folder_with_a_manifest_of_another_kind_is_the_user_s(kind, tmp_path):
    (tmp_path / "one").mkdir()
    name = "manifest.json" if kind == "web page's manifest" else "notes.json"
    (tmp_path / "one" / name).write_text('{"name": "my page", "icons": []}')
    before = tree(tmp_path)
    with pytest.raises(HalflingError, match="was not made by halfling"):
        run_stage(stage(tmp_path / "one"))
    assert tree(tmp_path) == before


def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(HalflingError, match="is the working folder"):
        run_stage(stage(Path()))


@pytest.mark.parametrize("place", [".one.halfling/old", ".one.halfling", "inner/../one/deep", "link/deep"])
def test_an_input_that_lies_on_what_would_be_touched_is_refused_and_untouched(place, tmp_path):
    (tmp_path / "inner").mkdir()
    run_stage(stage(tmp_path / "one"))
    (tmp_path / "link").symlink_to("one")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "mine.txt").write_text("the only copy")
    before = tree(tmp_path)
    with pytest.raises(HalflingError, match="lies on the source that it is made from"):
        run_stage(stage(tmp_path / "one", word="new", source=tmp_path / place))
    assert tree(tmp_path) == before


def test_an_input_made_of_links_into_the_output_is_refused(tmp_path):
    run_stage(stage(tmp_path / "one"))
    (tmp_path / "best").mkdir()
    (tmp_path / "best/word.txt").symlink_to("../one/word.txt")
    with pytest.raises(HalflingError, match="lies on the source"):
        run_stage(stage(tmp_path / "one", word="new", source=tmp_path / "best"))


def test_files_that_somebody_added_stay_when_a_folder_is_made_again(tmp_path):
    run_stage(stage(tmp_path / "one", word="a"))
    (tmp_path / "thesis.txt").write_text("years")
    (tmp_path / "folder").mkdir()
    for name in ("notes.txt", ".DS_Store", "deep/notes.txt"):
        (tmp_path / "one" / name).write_text("mine")
    (tmp_path / "one/thesis").symlink_to("../thesis.txt")
    (tmp_path / "one/folder").symlink_to("../folder")
    added = tree(tmp_path / "one")
    assert ends(stage(tmp_path / "one")) == ["done"]
    found = tree(tmp_path / "one")
    assert found["word.txt"] == "hello"
    assert {name: found.get(name) for name in added if name not in ("word.txt", "manifest.json")} == {
        name: content for name, content in added.items() if name not in ("word.txt", "manifest.json")
    }
    assert ends(stage(tmp_path / "one")) == ["skipped"]


def test_an_added_file_whose_name_is_wanted_stays_and_the_work_waits_for_it(tmp_path):
    def one_file(*, settings, out, progress):
        (out / f"{settings.word}.txt").open("x").close()
        return {}

    run_stage(stage(tmp_path / "one", one_file, word="a"))
    (tmp_path / "one/b.txt").write_text("mine")
    with pytest.raises(HalflingError, match=r"b\.txt: halfling makes a file of that name.*move it"):
        run_stage(stage(tmp_path / "one", one_file, word="b"))
    assert (tmp_path / "one/b.txt").read_text() == "mine"
    assert (tmp_path / "one/a.txt").exists()
    (tmp_path / "one/b.txt").unlink()
    assert ends(stage(tmp_path / "one", one_file, word="b")) == ["done"]  # or its file would be there: no second time


@pytest.mark.parametrize(
    "error", [HalflingError("refused"), ValueError("a fault"), KeyboardInterrupt()], ids=["refused", "fault", "Ctrl-C"]
)
def test_work_that_ends_before_its_first_file_leaves_nothing(error, tmp_path):
    def refuses(*, settings, out, progress):
        (out / "empty/deep").mkdir(parents=True)
        raise error

    with pytest.raises(type(error)):
        run_stage(stage(tmp_path / "runs/new/one", refuses))
    assert not list(tmp_path.iterdir())


def test_a_finished_folder_is_neither_locked_nor_written_to(tmp_path):
    run_stage(stage(tmp_path / "runs/one"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "runs").chmod(0o555)
    assert ends(stage(tmp_path / "runs/one")) == ["skipped"]
    (tmp_path / "runs").chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("stray", [".DS_Store", "notes.txt", ".git/config", "deep/notes.txt"])
def test_a_stray_file_in_a_finished_stage_s_folder_changes_nothing_of_what_reads_it(stray, tmp_path):
    ends(*chain(tmp_path))
    (tmp_path / "one" / stray).parent.mkdir(exist_ok=True)
    (tmp_path / "one" / stray).write_text("stray")
    assert ends(*chain(tmp_path)) == ["skipped"] * 3


def test_a_hidden_file_in_the_user_s_folder_changes_nothing_and_another_file_does(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "en.txt").write_text("text")
    reader = stage(tmp_path / "one", source=source)
    assert ends(reader) == ["done"]
    (source / ".DS_Store").write_text("stray")
    assert ends(reader) == ["skipped"]
    (source / "de.txt").write_text("text")
    assert ends(reader) == ["done"]


def test_what_a_stage_does_not_read_of_a_folder_does_not_count(tmp_path):
    def wanted(settings, folder):
        return [folder / f"{settings.word}.txt"]

    def reads_one(*, settings, out, progress, source):
        (out / "copy.txt").write_text((source / f"{settings.word}.txt").read_text())
        return {}

    source = tmp_path / "source"
    source.mkdir()
    (source / "en.txt").write_text("text")
    work = reading(source=wanted)(reads_one)
    reader = Stage("one", work, WordSettings(word="en"), tmp_path / "one", {"source": source})
    assert ends(reader) == ["done"]
    (source / "de.txt").write_text("text")
    assert ends(reader) == ["skipped"]
    (source / "en.txt").write_text("next")
    assert ends(reader) == ["done"]


def test_a_changed_text_behind_a_linked_folder_counts(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/en.txt").write_text("text")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/back").symlink_to(tmp_path / "source")
    reader = stage(tmp_path / "one", source=tmp_path / "source")
    assert ends(reader) == ["done"]
    assert ends(reader) == ["skipped"]
    (tmp_path / "elsewhere/en.txt").write_text("next")
    assert ends(reader) == ["done"]


def flip(path: Path) -> None:
    """Change a file in place, its size and its time kept."""
    stat = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_flipped_byte_of_a_finished_folder_is_noticed_and_mended(tmp_path):
    ends(*chain(tmp_path))
    flip(tmp_path / "one/deep/more.txt")
    assert states(chain(tmp_path)) == ["changed", "changed", "done"]
    assert ends(*chain(tmp_path)) == ["done", "skipped", "skipped"]
    assert (tmp_path / "one/deep/more.txt").read_text() == "more"


def test_an_edited_input_of_a_stage_counts_though_its_manifest_is_as_it_was(tmp_path):
    one, two, _ = chain(tmp_path)
    ends(one, two)
    (tmp_path / "one/word.txt").write_text("HELLO")
    assert ends(two) == ["done"]
    assert (tmp_path / "two/word.txt").read_text() == "hello HELLO"


def test_a_part_of_a_stage_s_folder_is_what_the_stage_made_there(tmp_path):
    run_stage(stage(tmp_path / "one"))
    reader = stage(tmp_path / "two", source=tmp_path / "one/deep")
    assert ends(reader) == ["done"]
    (tmp_path / "one/deep/notes.txt").write_text("stray")
    assert ends(reader) == ["skipped"]
    flip(tmp_path / "one/deep/more.txt")
    assert ends(reader) == ["done"]


def test_a_copied_folder_is_as_it_was(tmp_path):
    run_stage(stage(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # other inodes and times
    assert ends(stage(tmp_path / "two")) == ["skipped"]


def test_files_are_not_read_again_while_nobody_touched_them(tmp_path, monkeypatch):
    run_stage(stage(tmp_path / "one"))

    def never(path):
        raise AssertionError(path)

    monkeypatch.setattr("halfling.fingerprint.sha256", never)
    assert ends(stage(tmp_path / "one")) == ["skipped"]


def test_another_release_of_the_code_makes_everything_again(tmp_path, monkeypatch):
    assert ends(*chain(tmp_path)) == ["done"] * 3
    monkeypatch.setattr("halfling.__version__", "99.0")
    assert states(chain(tmp_path)) == ["changed"] * 3
    assert ends(*chain(tmp_path)) == ["done"] * 3


def test_a_password_in_an_address_is_not_written_down(tmp_path):
    def fetch(*, settings, out, progress, source):
        return {}

    manifest = run_stage(stage(tmp_path / "one", fetch, source="https://me:secret@host/cc-100/"))
    assert manifest.inputs == {"source": "https://host/cc-100/"}
    assert "secret" not in (tmp_path / "one/manifest.json").read_text()


def test_states_say_what_a_run_would_meet_and_change_nothing(tmp_path):
    one, two, apart = chain(tmp_path)
    lost = stage(tmp_path / "lost", source=tmp_path / "nowhere")
    after = stage(tmp_path / "after", source=lost.out / "part")
    assert states([one, two, apart, lost, after]) == [
        *["to do"] * 3,
        f"missing source at {tmp_path}/nowhere",
        "to do",
    ]
    assert not list(tmp_path.iterdir())
    run_stages([one, two])

    def stops(*, settings, out, progress):
        (out / "half.txt").write_text("half")
        raise KeyboardInterrupt

    stops.__name__ = write_word.__name__
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage(tmp_path / "apart", stops, word="apart"))
    before = tree(tmp_path)
    assert states([one, two, apart]) == ["done", "done", "interrupted"]
    assert states(chain(tmp_path, "changed")) == ["changed", "changed", "interrupted"]
    assert state(two) == "done"
    assert state(stage(tmp_path / "two", source=tmp_path / "one", word="new")) == "changed"
    assert state(stage(tmp_path / "new", source=tmp_path / "one/epoch-9")).startswith("missing source at")
    assert tree(tmp_path) == before


def test_the_data_of_a_models_task_count_though_their_places_do_not(tmp_path):
    (tmp_path / "dev.csv").write_text("text,label\n")
    model = stage(tmp_path / "model")
    run_stage(model)
    places = {"train": {}, "dev": {"en": str(tmp_path / "dev.csv")}}
    (model.out / "task-sources.json").write_text(json.dumps(places))
    seen = Seen()
    reader = stage(tmp_path / "reader", model=model.out)
    run_stage(reader, seen)
    (model.out / "task-sources.json").write_text(json.dumps(places, indent=1))
    run_stage(reader, seen)
    (tmp_path / "dev.csv").write_text("text,label\na,b\n")
    run_stage(reader, seen)
    (tmp_path / "dev.csv").rename(tmp_path / "moved.csv")
    places["dev"]["en"] = str(tmp_path / "moved.csv")
    (model.out / "task-sources.json").write_text(json.dumps(places))
    run_stage(reader, seen)
    places["dev"] = {"sw": places["dev"]["en"]}
    (model.out / "task-sources.json").write_text(json.dumps(places))
    run_stage(reader, seen)
    places["dev"]["ur"] = "hub:xnli:ur:validation"
    (model.out / "task-sources.json").write_text(json.dumps(places))
    run_stage(reader, seen)
    places["dev"]["ur"] = "hub:xnli:ur:test"
    (model.out / "task-sources.json").write_text(json.dumps(places))
    run_stage(reader, seen)
    assert [how for _, how in seen.ends] == ["done", "skipped", "done", "skipped", "done", "done", "done"]
