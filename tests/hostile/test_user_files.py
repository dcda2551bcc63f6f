"""Data that are the user's: what was found lost once, told with whole commands. The rest: `tests/test_stage.py`."""

import os
from pathlib import Path

import pytest

SMALL = ("lines=4", "train_sentences=8", "dev_sentences=4")
TEXT = "A document of some words, long enough to be kept.\n\n"


@pytest.fixture
def cc100(tmp_path: Path) -> Path:
    """A folder with texts of two languages."""
    folder = tmp_path / "cc100"
    folder.mkdir()
    for code in ("en", "sw"):
        (folder / f"{code}.txt").write_text(TEXT * 3)
    return folder


@pytest.fixture
def built(halfling, cc100, tmp_path):
    """A function that builds the English corpus of `cc100`, and returns how the command ended it."""

    def build(source: Path = cc100) -> str:
        said = halfling("corpus", "build", source, tmp_path / "corpus", "languages=en", "chunks=1")
        assert said.status == 0, said.err
        return "as it was" if "as it was" in said.err else "done"

    assert build() == "done"
    return build


def tree(folder: Path) -> dict[str, bytes | str]:
    """What lies in a folder, links not followed."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("name", ["x.old", "x.partial", "x.lock", "x.tmp", ".x.lock", ".x"])
def test_a_neighbour_of_the_output_is_never_touched(name, halfling, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    for lines in ("lines=4", "lines=5"):  # made, and made again
        assert halfling("sample", tmp_path / "x", *SMALL, lines).status == 0
    assert (tmp_path / name / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("place", ["corpus", "corpus/chunk-1", ".corpus.halfling/partial"])
def test_an_input_that_the_output_would_replace_is_refused(place, halfling, error, cc100, tmp_path):
    source = tmp_path / place
    source.parent.mkdir(parents=True, exist_ok=True)
    cc100.rename(source)
    before = tree(tmp_path)
    said = error("corpus", "build", source, tmp_path / "corpus", "chunks=1")
    assert "lies on the source that it is made from" in said or "was not made by halfling" in said
    assert tree(tmp_path) == before


def test_a_lock_that_is_a_link_does_not_empty_what_it_leads_to(error, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / ".x.halfling").mkdir()
    (tmp_path / ".x.halfling/lock").symlink_to(tmp_path / "thesis.tex")
    assert "was not made by halfling: move it away" in error("sample", tmp_path / "x", *SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_output_that_is_a_link_stays_one_and_is_found_done(halfling, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "x").symlink_to(tmp_path / "disk")
    assert " done " in halfling("sample", tmp_path / "x", *SMALL).err
    assert (tmp_path / "x").is_symlink()
    assert "as it was" in halfling("sample", tmp_path / "x", *SMALL).err
    assert (tmp_path / "disk/manifest.json").is_file()


def test_what_is_not_read_does_not_count(built, cc100, tmp_path):
    (cc100 / ".DS_Store").write_text("stray")
    (cc100 / "sw.txt").write_text(TEXT * 9)
    (cc100 / "tr.txt").write_text(TEXT)
    (cc100 / "notes.md").write_text("mine")
    (tmp_path / "corpus/notes.md").write_text("mine")
    os.utime(cc100 / "en.txt", (1, 1))
    assert built() == "as it was"


def test_what_is_read_counts_behind_a_link_too(built, cc100, tmp_path):
    (tmp_path / "linked").symlink_to(cc100)
    assert built(tmp_path / "linked") == "as it was"  # the same texts
    (cc100 / "en.txt").write_text(TEXT * 3 + "Another document, long enough to be kept as well.\n")
    assert built(tmp_path / "linked") == "done"


@pytest.mark.parametrize("harm", ["edit", "flip a byte", "delete", "truncate"])
def test_a_finished_folder_that_was_harmed_is_made_again(harm, built, tmp_path):
    path = tmp_path / "corpus/chunk-1/en.parquet"
    whole, times = path.read_bytes(), path.stat()
    if harm == "delete":
        path.unlink()
    else:
        harmed = {"edit": b"edited", "flip a byte": bytes([whole[0] ^ 1]) + whole[1:], "truncate": whole[:-9]}[harm]
        path.write_bytes(harmed)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert built() == "done"
    assert path.read_bytes() == whole
