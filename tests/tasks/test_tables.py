import bz2
import gzip
import json
import lzma
import re

import datasets
import pytest
from datasets import ClassLabel, Features, List, Value

from halfling.errors import HalflingError
from halfling.tasks.examples import TaggedExample, TextExample, read_examples, understood
from halfling.tasks.task import Task

TEXTS = [
    TextExample('Say "yes", please', None, "01"),
    TextExample("na\u2028não", None, "2"),
    TextExample("NA", None, "01"),
]
JSON_LINES = "".join(json.dumps({"text": one.text, "label": one.label}) + "\n" for one in TEXTS)
SAME = {
    "a.csv": 'text,label\n"Say ""yes"", please",01\nna\u2028não,2\nNA,01\n',
    "crlf.csv": '\ufefftext,label\r\n"Say ""yes"", please",01\r\nna\u2028não,2\r\nNA,01\r\n',
    "order.csv": 'no,label,text\n1,01,"Say ""yes"", please"\n2,2,na\u2028não\n3,01,NA\n',
    "a.tsv": 'text\tlabel\nSay "yes", please\t01\nna\u2028não\t2\nNA\t01\n',
    "crlf.tsv": '\ufefftext\tlabel\r\nSay "yes", please\t01\r\nna\u2028não\t2\r\nNA\t01\r\n',
    "a.jsonl": JSON_LINES,
    "bom.ndjson": "\ufeff" + JSON_LINES.replace("\n", "\r\n"),
    "array.json": "[" + ",".join(JSON_LINES.splitlines()) + "]",
}


def read(path, **fields):
    return read_examples(Task(dev={"sw": str(path)}, **fields), "dev", "sw")


@pytest.mark.parametrize("name", SAME)
def test_every_format_says_the_same(name, tmp_path):
    (tmp_path / name).write_bytes(SAME[name].encode())
    assert read(tmp_path / name) == TEXTS


def test_parquet_says_the_same(tmp_path):
    rows = {"text": [one.text for one in TEXTS], "label": [one.label for one in TEXTS]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == TEXTS


@pytest.mark.parametrize(("ending", "compress"), [("xz", lzma.compress), ("gz", gzip.compress), ("bz2", bz2.compress)])
def test_compressed_files_say_the_same(ending, compress, tmp_path):
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / f"{name}.{ending}").write_bytes(compress(SAME[name].encode()))
        assert read(tmp_path / f"{name}.{ending}") == TEXTS


def test_the_format_is_said_where_no_ending_tells_it(tmp_path):
    (tmp_path / "data").write_text(SAME["a.csv"])
    with pytest.raises(HalflingError, match=r"data: what format is this\? Name it .csv, .tsv"):
        read(tmp_path / "data")
    assert read(tmp_path / "data", format="csv") == TEXTS


def test_words_and_tags_are_lists_in_json_lines(tmp_path):
    rows = [{"tokens": ["Anna", "Bo"], "tags": ["B-PER", "E-PER"]}, {"tokens": ["Rome"], "tags": ["S-LOC"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert read(tmp_path / "a.jsonl") == [
        TaggedExample(("Anna", "Bo"), ("B-PER", "I-PER")),
        TaggedExample(("Rome",), ("B-LOC",)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\na\nb,x\n", "row 1: no label: '' is no label"),
        ("a.csv", "text,label\na,x\n \n", "row 2: no text: ' ' is no text"),
        ("a.csv", "text,label\na,x,y\nb,x,y\n", "malformed"),
        (
            "a.csv",
            "text,label\na,x\nb,x,y\n",
            "malformed: no csv (Error tokenizing data. C error: Expected 2 fields in",
        ),
        ("a.csv", 'text,label\n"a,x\n', "malformed: no csv"),
        ("a.csv", "text,label\n", "empty"),
        ("a.csv", "", "empty"),
        ("a.jsonl", '{"text": "a"', "malformed: no jsonl"),
        ("a.jsonl", '{"text": "a", "label": null}\n{"text": "b", "label": "x"}', "row 1: no label: None is no label"),
        ("a.jsonl", '{"text": null, "label": "x"}', "row 1: no text: None is no text"),
        ("a.jsonl", '{"text": "a", "label": ["x", "y"]}', "row 1: several labels a text (['x', 'y'])"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O", -1]}', "row 1: no tags: -1 is no label"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": [0, -1]}', "row 1: no tags: -1 is no label"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": [0, null]}', "row 1: no tags: None is no label"),
        (
            "a.jsonl",
            '{"tokens": ["a", null], "tags": ["O", "O"]}',
            "row 1: no tokens: ['a', None] holds what is no text",
        ),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', "row 1: expected a list of words and as many tags"),
        ("a.parquet", "PAR1 no", "malformed: no parquet"),
    ],
)
def test_bad_data_are_named_with_their_row(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(HalflingError, match=f"^{re.escape(str(tmp_path / name))}.*{re.escape(message)}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["xz", "gz", "bz2"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "truncated"),
        (lambda whole: b"not packed" + whole, "broken, or not an (xz|gz|bz2) file"),
        (lambda whole: b"", "empty"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, ending, damage, message):
    compress = {"xz": lzma.compress, "gz": gzip.compress, "bz2": bz2.compress}[ending]
    path = tmp_path / f"a.csv.{ending}"
    path.write_bytes(damage(compress(SAME["a.csv"].encode())))
    with pytest.raises(HalflingError, match=f"{re.escape(str(path))}: .*{message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.conll", "a.jsonl"])
def test_other_than_utf8_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes("text,label\nä\tb\n".encode("latin-1"))
    with pytest.raises(HalflingError, match=rf"{name}: .*(UTF-8|malformed)") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HalflingError, match=r"a.csv: no such file"):
        read(tmp_path / "a.csv")


SENTIMENT = {"text": ["good", "bad"], "label": [1, 0]}


def sentiment(*names):
    return Features(text=Value("string"), label=ClassLabel(names=list(names)))


def test_hub_form_and_a_parquet_file_of_it_give_classes_by_name(write_hub_form, tmp_path):
    source = write_hub_form(SENTIMENT, sentiment("neg", "pos"))
    file = next((tmp_path / "hub-form").rglob("*.parquet"))
    for place in (source, str(file)):
        assert read(place) == [TextExample("good", None, "pos"), TextExample("bad", None, "neg")]


def test_classes_have_the_order_that_the_data_set_declares(write_hub_form):
    source = write_hub_form(SENTIMENT, sentiment("pos", "neg", "absent"))
    assert understood(Task(train={"en": source})).labels == ("pos", "neg", "absent")


def test_hub_tags_are_matched_by_name(write_hub_form):
    features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=["B-PER", "O", "I-PER"])))
    source = write_hub_form({"tokens": [["Anna", "lives"]], "ner_tags": [[0, 1]]}, features)
    assert read(source) == [TaggedExample(("Anna", "lives"), ("B-PER", "O"))]
    assert understood(Task(train={"en": source})).labels == ("B-PER", "O", "I-PER")


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (("neg", "pos"), 1, r"row 1: label 'pos' is none of the task's \(good, bad\); the data have neg, pos$"),
        (("good", "bad"), -1, "row 1: no label: None is no label: label every example, or name another split"),
    ],
)
def test_hub_labels_that_do_not_fit_or_are_withheld_are_refused(write_hub_form, names, label, message):
    source = write_hub_form({"text": ["a", "b"], "label": [label, 0]}, sentiment(*names))
    with pytest.raises(HalflingError, match=message):
        read(source, labels=("good", "bad"))


def test_hub_form_without_the_language_is_one_line(write_hub_form):
    source = write_hub_form(SENTIMENT, sentiment("neg", "pos")).replace(":en:", ":de:")
    with pytest.raises(
        HalflingError, match=r"de validation: cannot be loaded \(BuilderConfig 'de' not found"
    ) as caught:
        read(source)
    assert "\n" not in str(caught.value)


def test_hub_out_of_reach_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'facebook/xnli' on the Hub\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(HalflingError, match=r"^facebook/xnli, ru validation: cannot be loaded \(Couldn't") as caught:
        read("hub:facebook/xnli:ru:validation")
    assert "\n" not in str(caught.value)


def test_a_hub_source_of_another_form_is_one_line():
    with pytest.raises(HalflingError, match="hub:a:b:c:d: expected hub:NAME:CONFIGURATION:SPLIT"):
        read("hub:a:b:c:d")
