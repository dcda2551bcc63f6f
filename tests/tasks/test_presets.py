import re

import pytest
from datasets import ClassLabel, Features, Value

from halfling.errors import HalflingError
from halfling.tasks import presets
from halfling.tasks.examples import TaggedExample, TextExample, read_examples
from halfling.tasks.task import Task


def task(name, data, **changes):
    return Task(**presets.preset(name, str(data), changes))


def test_presets_are_found_by_name():
    assert presets.names() == ["wikiann", "xnli"]


@pytest.mark.parametrize("name", ["wikiann", "xnli"])
def test_a_preset_trains_in_english_and_is_judged_in_six_languages(name, tmp_path):
    for data in (tmp_path, "hub"):
        made = task(name, data)
        assert [*made.train] == ["en"]
        assert made.languages == ("en", "ru", "hi", "tr", "sw", "ur")
    assert [*task(name, tmp_path, languages=["sw"], train_languages=["en", "ru"]).train] == ["en", "ru"]


def test_pairs_are_read_in_order_and_only_a_newline_ends_a_line(tmp_path, write_xz):
    write_xz(
        tmp_path / "xnli/dev-ru.tsv.xz", 'Да.\t"Нет.\tcontradiction\na\u2028b\rc\td\tneutral\nNA\tnull\tentailment\n'
    )
    assert read_examples(task("xnli", tmp_path), "dev", "ru") == [
        TextExample("Да.", '"Нет.', "contradiction"),
        TextExample("a\u2028b\rc", "d", "neutral"),
        TextExample("NA", "null", "entailment"),
    ]


def test_names_are_read_from_xtremes_files(tmp_path, write_xz):
    write_xz(tmp_path / "panx/dev-ur.tsv.xz", "\u200b\tO\n\xa0\tB-LOC\n\nA\tI-PER\n")
    assert read_examples(task("wikiann", tmp_path), "dev", "ur") == [
        TaggedExample(("\u200b", "\xa0"), ("O", "B-LOC")),
        TaggedExample(("A",), ("I-PER",)),
    ]


def test_hub_form_gives_the_same_as_files_whatever_the_order_of_its_labels(tmp_path, write_xz, write_hub_form):
    write_xz(tmp_path / "files/xnli/dev-en.tsv.xz", "a\tb\tcontradiction\nc\td\tentailment\n")
    rows = {"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [0, 2]}
    names = ClassLabel(names=["contradiction", "neutral", "entailment"])
    write_hub_form(rows, Features(premise=Value("string"), hypothesis=Value("string"), label=names))
    found = read_examples(task("xnli", tmp_path / "hub-form"), "dev", "en")
    assert found == read_examples(task("xnli", tmp_path / "files"), "dev", "en")
    assert [one.label for one in found] == ["contradiction", "entailment"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\tb\tneutral\na\tb\tmaybe\n",
            "row 2: label 'maybe' is none of the task's (entailment, neutral, contradiction)",
        ),
        ("a\tb\n", "row 1: no label: ''"),
        ("a\tb\tc\tneutral\n", "malformed"),
        ("\tb\tneutral\n", "row 1: no premise: ''"),
        ("a\t \tneutral\n", "row 1: no hypothesis: ' '"),
        ("a\tb\tneutral\n\n", "row 2: no premise: ''"),
        ("", "empty"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path, write_xz, text, message):
    path = write_xz(tmp_path / "xnli/dev-en.tsv.xz", text)
    with pytest.raises(HalflingError, match=f"^{re.escape(str(path))}.*{re.escape(message)}") as caught:
        read_examples(task("xnli", tmp_path), "dev", "en")
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_folder_is_named(tmp_path):
    (tmp_path / "panx").mkdir()
    with pytest.raises(HalflingError, match=r"xnli.dev-en.tsv.xz: no such file"):
        read_examples(task("xnli", tmp_path), "dev", "en")
    with pytest.raises(HalflingError, match="nowhere: no such data folder"):
        presets.require_data("nowhere")
    presets.require_data("hub")
