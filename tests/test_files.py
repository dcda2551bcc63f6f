import hashlib
import json

import pytest

from halfling import files
from halfling.files import beside, digest, whole_file, write_json


def test_a_file_appears_only_when_its_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as partial:
        partial.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_never_written_through_a_link_nor_over_a_neighbour(tmp_path):
    for name in ("mine.txt", "a.txt.partial"):
        (tmp_path / name).write_text("precious")
    beside(tmp_path / "a.txt").symlink_to("mine.txt")
    write_json(tmp_path / "a.txt", 1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "1\n",
        "mine.txt": "precious",
        "a.txt.partial": "precious",
    }


def test_json_keeps_letters_of_every_script(tmp_path):
    write_json(tmp_path / "a.json", {"слово": ["नदी"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"слово": ["नदी"]}
    assert "नदी" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"halfling")
    assert digest(tmp_path / "a") == hashlib.sha256(b"halfling").hexdigest()


def folder(path, **contents):
    for name, content in contents.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return path


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path):
    one = digest(folder(tmp_path / "one", a="x", sub__b="y"))
    assert digest(folder(tmp_path / "same", sub__b="y", a="x")) == one
    assert digest(folder(tmp_path / "content", a="x", sub__b="z")) != one
    assert digest(folder(tmp_path / "name", a="x", sub__c="y")) != one
    assert digest(folder(tmp_path / "place", a="x", b="y")) != one


def test_a_manifest_does_not_count_for_its_folder(tmp_path):
    folder(tmp_path, a="x")
    before = digest(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert digest(tmp_path) == before


def test_of_a_huge_file_the_size_and_both_ends_count(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SAMPLED_ABOVE", 20)
    monkeypatch.setattr(files, "_SAMPLE", 4)

    def of(content):
        (tmp_path / "a").write_bytes(content)
        return digest(tmp_path / "a")

    whole = of(b"head" + b"." * 20 + b"tail")
    assert of(b"head" + b"-" * 20 + b"tail") == whole  # the price of not reading half a terabyte
    assert of(b"HEAD" + b"." * 20 + b"tail") != whole
    assert of(b"head" + b"." * 20 + b"TAIL") != whole
    assert of(b"head" + b"." * 21 + b"tail") != whole


def test_what_is_read_ahead_is_the_file_as_it_is_when_asked(tmp_path, monkeypatch):
    same, changed, gone = (tmp_path / name for name in ("same", "changed", "gone"))
    for path in (same, changed, gone):
        path.write_bytes(path.name.encode() * 2**20)
    (small := tmp_path / "small").write_text("small")
    files.read_ahead([same, changed, gone, small])
    files._ahead.join()
    changed.write_bytes(b"other" * 2**20)
    gone.unlink()
    asked = []
    read = files.opened
    monkeypatch.setattr(files, "opened", lambda path: asked.append(path.name) or read(path))
    for path in (same, changed, small):
        assert files.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert asked == ["changed", "small"], "what was read, and has not changed, is not read again"
    with pytest.raises(FileNotFoundError):
        files.sha256(gone)
    files.read_ahead([tmp_path / "nowhere"])  # whoever needs it says so
