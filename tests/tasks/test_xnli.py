import lzma
import re
from pathlib import Path

import pytest
from datasets import ClassLabel, Features, Value

from halfling.errors import HalflingError
from halfling.tasks.xnli import LABELS, NliExample, read_xnli


def features(names=LABELS):
    return Features(premise=Value("string"), hypothesis=Value("string"), label=ClassLabel(names=list(names)))


def test_files_are_read_in_order(tmp_path, write_xz):
    write_xz(tmp_path / "xnli/dev-ru.tsv.xz", "Да.\tНет.\tcontradiction\na\tb\tentailment\nc\td\tneutral\n")
    assert read_xnli(tmp_path, "dev", "ru") == [
        NliExample("Да.", "Нет.", 2),
        NliExample("a", "b", 0),
        NliExample("c", "d", 1),
    ]


def test_only_a_newline_ends_a_line(tmp_path, write_xz):
    write_xz(tmp_path / "xnli/dev-en.tsv.xz", "a\u2028b\rc\td\tneutral\n")
    assert read_xnli(str(tmp_path), "dev", "en") == [NliExample("a\u2028b\rc", "d", 1)]


def test_hub_form_gives_the_same_as_files(tmp_path, write_xz, write_hub_form):
    write_xz(tmp_path / "files/xnli/dev-en.tsv.xz", "a\tb\tcontradiction\nc\td\tentailment\n")
    rows = {"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [2, 0]}
    hub = write_hub_form(rows, features())
    assert read_xnli(hub, "dev", "en") == read_xnli(tmp_path / "files", "dev", "en")


def test_hub_labels_are_matched_by_name(write_hub_form):
    hub = write_hub_form({"premise": ["a"], "hypothesis": ["b"], "label": [0]}, features(LABELS[::-1]))
    assert read_xnli(hub, "dev", "en") == [NliExample("a", "b", 2)]


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (("yes", "no"), 0, "'yes' is outside the scheme: allowed are entailment"),
        (LABELS, -1, "row 0 has no label"),
    ],
)
def test_hub_labels_outside_the_scheme_are_refused(write_hub_form, names, label, message):
    hub = write_hub_form({"premise": ["a"], "hypothesis": ["b"], "label": [label]}, features(names))
    with pytest.raises(HalflingError, match=message):
        read_xnli(hub, "dev", "en")


def test_hub_form_without_the_language_is_one_line(write_hub_form):
    hub = write_hub_form({"premise": ["a"], "hypothesis": ["b"], "label": [0]}, features())
    with pytest.raises(HalflingError, match=r"de dev: cannot be loaded \(BuilderConfig 'de' not found") as caught:
        read_xnli(hub, "dev", "de")
    assert "\n" not in str(caught.value)


def test_hub_out_of_reach_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'facebook/xnli' on the Hub\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(HalflingError, match=r"^facebook/xnli, ru dev: cannot be loaded \(Couldn't") as caught:
        read_xnli("hub", "dev", "ru")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\tb\tneutral\na\tb\tmaybe\n",
            "line 2: label 'maybe' is outside the scheme: allowed are entailment, neutral",
        ),
        ("a\tb\n", "line 1: malformed: expected premise, hypothesis and label"),
        ("a\tb\tc\tneutral\n", "line 1: malformed"),
        ("\tb\tneutral\n", "line 1: malformed"),
        ("a\tb\tneutral\n\n", "line 2: malformed"),
        ("", "empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, write_xz, text, message):
    path = write_xz(tmp_path / "xnli/dev-en.tsv.xz", text)
    with pytest.raises(HalflingError, match=f"^{re.escape(str(path))}.*{re.escape(message)}") as caught:
        read_xnli(tmp_path, "dev", "en")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-20], "truncated"),
        (lambda whole: b"not xz" + whole, "not an xz file"),
        (lambda whole: b"", "empty"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, write_xz, damage, message):
    path = write_xz(tmp_path / "xnli/dev-en.tsv.xz", "a\tb\tneutral\n" * 50)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(HalflingError, match=f"{re.escape(str(path))}: .*{message}"):
        read_xnli(tmp_path, "dev", "en")


def test_other_than_utf8_is_refused(tmp_path, write_xz):
    path = write_xz(tmp_path / "xnli/dev-en.tsv.xz", "")
    path.write_bytes(lzma.compress("ä\tb\tneutral\n".encode("latin-1")))
    with pytest.raises(HalflingError, match="not UTF-8"):
        read_xnli(tmp_path, "dev", "en")


def test_a_missing_file_or_folder_is_named(tmp_path):
    (tmp_path / "panx").mkdir()
    with pytest.raises(HalflingError, match=r"xnli.dev-en.tsv.xz: no such file"):
        read_xnli(tmp_path, "dev", "en")
    with pytest.raises(HalflingError, match="nowhere: no such data folder"):
        read_xnli(Path("nowhere"), "dev", "en")


def test_training_is_in_english_only(tmp_path):
    with pytest.raises(HalflingError, match="train in 'ru': fine-tuning is in English only"):
        read_xnli(tmp_path, "train", "ru")
