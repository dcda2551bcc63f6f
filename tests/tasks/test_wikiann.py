import re

import pytest
from datasets import ClassLabel, Features, List, Value

from halfling.errors import HalflingError
from halfling.tasks.wikiann import LABELS, NerExample, read_wikiann

TWO = [NerExample(("Anna", "Bo", "."), (1, 2, 0)), NerExample(("Rome",), (5,))]


def features(names=LABELS):
    return Features(
        tokens=List(Value("string")),
        ner_tags=List(ClassLabel(names=list(names))),
        langs=List(Value("string")),
    )


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
def test_sentences_end_at_blank_lines_or_at_the_end(tmp_path, write_xz, end):
    text = "Anna\tB-PER\nBo\tI-PER\n.\tO\n\nRome\tB-LOC" + end
    write_xz(tmp_path / "panx/dev-sw.tsv.xz", text)
    assert read_wikiann(tmp_path, "dev", "sw") == TWO


def test_a_token_may_be_any_space_but_a_tab_or_newline(tmp_path, write_xz):
    write_xz(tmp_path / "panx/dev-ur.tsv.xz", "\u200b\tO\n\xa0\tB-LOC\n")
    assert read_wikiann(tmp_path, "dev", "ur") == [NerExample(("\u200b", "\xa0"), (0, 5))]


def test_hub_form_gives_the_same_as_files(write_hub_form):
    rows = {
        "tokens": [["Anna", "Bo", "."], ["Rome"]],
        "ner_tags": [[1, 2, 0], [5]],
        "langs": [["en"] * 3, ["en"]],
    }
    assert read_wikiann(write_hub_form(rows, features()), "dev", "en") == TWO


def test_hub_tags_are_matched_by_name(write_hub_form):
    rows = {"tokens": [["Anna"]], "ner_tags": [[0]], "langs": [["en"]]}
    hub = write_hub_form(rows, features(("B-PER", *(label for label in LABELS if label != "B-PER"))))
    assert read_wikiann(hub, "dev", "en") == [NerExample(("Anna",), (1,))]


def test_hub_tags_outside_the_scheme_are_refused(write_hub_form):
    rows = {"tokens": [["Anna"]], "ner_tags": [[0]], "langs": [["en"]]}
    hub = write_hub_form(rows, features((*LABELS, "B-MISC")))
    with pytest.raises(HalflingError, match="'B-MISC' is outside the scheme: allowed are O, B-PER"):
        read_wikiann(hub, "dev", "en")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Anna\tB-PER\n\nBo\tB-MISC\n",
            "line 3: label 'B-MISC' is outside the scheme: allowed are O, B-PER, I-PER",
        ),
        ("Anna B-PER\n", "line 1: malformed: expected a token, a tab and a tag, found 'Anna B-PER'"),
        ("a\tb\tO\n", "line 1: malformed"),
        ("\tO\n", "line 1: malformed"),
        ("\n\n", "empty"),
        ("", "empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, write_xz, text, message):
    path = write_xz(tmp_path / "panx/dev-en.tsv.xz", text)
    with pytest.raises(HalflingError, match=f"^{re.escape(str(path))}.*{re.escape(message)}"):
        read_wikiann(tmp_path, "dev", "en")


def test_training_is_in_english_only():
    with pytest.raises(HalflingError, match="English only"):
        read_wikiann("hub", "train", "sw")
