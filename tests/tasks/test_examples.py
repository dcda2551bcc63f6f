import json
from pathlib import Path

import pytest

from halfling.errors import HalflingError
from halfling.tasks.examples import TextExample, describe, read_examples, understood
from halfling.tasks.task import Task

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def write(tmp_path):
    """A function that writes a text as a file, and its path."""

    def write_text(text, name="train.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_text


def test_usual_columns_are_found_and_others_are_told_by_name(write):
    usual = write("intent,id,utterance\nbye,1,farewell\nhi,2,good day\n")
    odd = write("what,id,said,also\nbye,1,farewell,x\nhi,2,good day,y\n", "odd.csv")
    plain = [TextExample("farewell", None, "bye"), TextExample("good day", None, "hi")]
    assert read_examples(Task(dev={"en": usual}), "dev", "en") == plain
    assert read_examples(Task(dev={"en": odd}, text="said", label="what"), "dev", "en") == plain
    pairs = read_examples(Task(dev={"en": odd}, text="said", text_pair="also", label="what"), "dev", "en")
    assert pairs == [TextExample("farewell", "x", "bye"), TextExample("good day", "y", "hi")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no column of the text: there are what, said: say which with --text NAME"),
        ({"text": "said"}, "no column of the label: there are what, said: say which with --label NAME"),
        ({"text": "say"}, "no column 'say': there are what, said"),
        ({"kind": "pair_classification", "text": "said"}, "no column of the text_pair.*--text-pair NAME"),
        ({"kind": "tagging", "format": "jsonl"}, "malformed"),
    ],
)
def test_a_column_that_is_not_there_is_one_line_with_those_that_are(write, fields, message):
    source = write("what,said\nbye,farewell\n")
    with pytest.raises(HalflingError, match=message) as caught:
        read_examples(Task(dev={"en": source}, **fields), "dev", "en")
    assert "\n" not in str(caught.value)


def test_the_kind_follows_from_the_columns(write):
    assert understood(Task(train={"en": write("text,label\na,x\nb,y\n")})).kind == "text_classification"
    pairs = {"en": write("premise,hypothesis,label\na,b,x\nc,d,y\n")}
    assert understood(Task(train=pairs)).kind == "pair_classification"
    assert understood(Task(train=pairs, kind="text_classification")).kind == "text_classification"
    assert understood(Task(train={"en": write("a B-X\nb O\n", "a.conll")})).kind == "tagging"


def test_labels_are_those_of_all_training_files_in_a_fixed_order(write):
    train = {"en": write("text,label\na,no\nb,yes\n"), "sw": write("text,label\na,maybe\n", "sw.csv")}
    assert understood(Task(train=train)).labels == ("maybe", "no", "yes")
    tagged = {"en": write("a I-B\nb B-B\nc O\n", "a.conll"), "sw": write("a B-A\nb O\n", "b.conll")}
    assert understood(Task(train=tagged)).labels == ("O", "B-A", "I-A", "B-B", "I-B")
    words = {"en": write("a VERB\nb NOUN\n", "c.conll")}
    assert understood(Task(train=words)).labels == ("NOUN", "VERB")


def test_whole_numbers_are_sorted_as_numbers(write):
    def labels(*given):
        return understood(Task(train={"en": write("text,label\n" + "".join(f"a,{one}\n" for one in given))})).labels

    assert labels("10", "9", "-1") == ("-1", "9", "10")
    assert labels("10", "9", "b") == ("10", "9", "b")
    assert labels("²", "1") == ("1", "²")
    # Equal numbers have an order too: a set has another one in each process.
    assert labels("1", "01", "001", "0001") == ("0001", "001", "01", "1")


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("text,label\na,x\n", {}, "one label alone, 'x': nothing to learn"),
        ("text,label\na,x\nb,y\n", {"metric": "span F1"}, "metric span F1 does not fit its labels x, y"),
        (
            "text,label\na,x\nb,y\n",
            {"labels": ["x", "z"]},
            r"row 2: label 'y' is none of the task's \(x, z\); the data .* x, y$",
        ),
    ],
)
def test_labels_that_make_no_task_are_one_line(write, text, fields, message):
    task = Task(train={"en": write(text)}, **fields)
    with pytest.raises(HalflingError, match=message):
        read_examples(understood(task), "train", "en")


def test_a_task_without_data_is_one_line():
    with pytest.raises(HalflingError, match="task t: no data to tell its labels: give --train FILE"):
        understood(Task(name="t"))


def test_tags_that_are_no_spans_are_judged_by_accuracy(write):
    assert understood(Task(train={"en": write("a VERB\nb NOUN\n", "c.conll")})).metric == "accuracy"
    assert understood(Task(train={"en": write("a B-X\nb O\n", "c.conll")})).metric == "span F1"


def test_every_tenth_training_example_is_dev_where_no_training_language_has_dev(write):
    source = write("text,label\n" + "".join(f"{n},{n % 2}\n" for n in range(1, 26)))
    held = Task(train={"en": source}, dev={"sw": source})
    assert held.held == ("en",)
    assert held.languages == ("en", "sw")
    assert held.source_languages == ("en",)
    assert [one.text for one in read_examples(held, "dev", "en")] == ["10", "20"]
    assert len(read_examples(held, "train", "en")) == 23
    assert len(read_examples(held, "dev", "sw")) == 25
    own = Task(train={"en": source, "ru": source}, dev={"en": source, "sw": source})
    assert not own.held
    assert own.source_languages == ("en",)
    assert len(read_examples(own, "train", "ru")) == len(read_examples(own, "dev", "en")) == 25


def test_too_few_examples_to_hold_some_out_are_one_line(write):
    source = write("text,label\n" + "a,x\n" * 9)
    with pytest.raises(HalflingError, match="9 training examples in 'en' are too few to hold out every tenth as dev"):
        read_examples(Task(train={"en": source}), "dev", "en")


def test_a_description_shows_kind_labels_with_counts_and_examples():
    task = Task(train={"en": str(DATA / "intents-train-en.csv")}, dev={"sw": str(DATA / "intents-dev-sw.csv")})
    said = describe(task)
    assert said["task"].kind == "text_classification"
    assert said["task"].labels == ("billing", "cancel", "greeting", "network", "roaming")
    assert [*said["splits"]] == ["train en", "dev en", "dev sw"]
    assert [split["examples"] for split in said["splits"].values()] == [180, 20, 25]
    assert sum(said["splits"]["dev sw"]["labels"].values()) == 25
    assert len(said["examples"]) == 3
    json.dumps(said["splits"])


def test_a_description_of_tags_says_the_scheme():
    sources = {code: str(DATA / f"products-dev-{code}.conll") for code in ("sw", "ur")}
    said = describe(Task(train={"en": str(DATA / "products-train-en.conll")}, dev=sources))
    assert said["task"].labels == ("O", "B-DATE", "I-DATE", "B-PRODUCT", "I-PRODUCT")
    assert {split["scheme"] for split in said["splits"].values()} == {"IOB2"}
    assert said["splits"]["dev sw"]["labels"]["B-PRODUCT"] > 0
