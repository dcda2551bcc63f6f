"""Labels, words and texts that are none: refused with file, row and value, in every kind of task and split."""

import json
import re

import datasets
import pytest
from datasets import ClassLabel, Features, List, Value

from halfling.errors import HalflingError
from halfling.tasks.examples import read_examples, understood
from halfling.tasks.task import Task
from halfling.training.exits import ExitsSettings, train_exits
from halfling.training.finetune import FinetuneSettings, finetune

CLASSES = ["O", "B-PER", "I-PER"]
NO_LABELS = [-1, -100, None, True, 1.0, float("nan"), "", "  "]


@pytest.fixture(params=["train", "dev"])
def refused(request, tmp_path):
    """A function that writes rows as JSON lines or as Parquet and returns why they are refused, in either split."""

    def write(rows, features=None, **said):
        names = rows[0].keys()
        columns = {name: [row[name] for row in rows] for name in names}
        if features is None:
            path = tmp_path / "data.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path = tmp_path / "data.parquet"
            datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
        task = Task(**{request.param: {"en": str(path)}}, **said)
        with pytest.raises(HalflingError) as caught:
            read_examples(understood(task), request.param, "en")
        line = str(caught.value)
        assert line.startswith(str(path))
        assert "\n" not in line
        return line

    return write


@pytest.mark.parametrize("value", NO_LABELS, ids=repr)
def test_a_text_s_label_that_is_none_is_refused(value, refused):
    # A column of one kind: readers refuse or convert others themselves.
    other = {bool: False, float: 2.0, str: "x"}.get(type(value), 2)
    said = refused([{"text": "a", "label": other if value is None else value}, {"text": "b", "label": value}])
    assert "no label: " in said


@pytest.mark.parametrize("value", [-1, -100, None, True, 1.0, "", "  "], ids=repr)
def test_a_tag_that_is_none_is_refused(value, refused):
    other = {bool: False, float: 2.0, str: "O"}.get(type(value), 2)
    said = refused([{"tokens": ["a"], "tags": [other]}, {"tokens": ["a", "b"], "tags": [other, value]}])
    assert "no tags: " in said


@pytest.mark.parametrize("number", [-1, -100, None])
def test_a_tag_that_a_data_set_withholds_is_not_its_last_label(number, refused):
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=CLASSES))})
    said = refused([{"tokens": ["a", "b"], "ner_tags": [1, number]}], features)
    assert "row 1: no ner_tags: None is no label" in said


@pytest.mark.parametrize("number", [-1, None])
def test_a_class_that_a_data_set_withholds_is_not_its_last_label(number, refused):
    features = Features({"text": Value("string"), "label": ClassLabel(names=CLASSES)})
    assert "row 2: no label: None is no label" in refused(
        [{"text": "a", "label": 1}, {"text": "b", "label": number}], features
    )


@pytest.mark.parametrize("number", [3, 99, -2])
def test_whole_numbers_beyond_the_labels_are_refused(number, refused):
    said = refused([{"text": "a", "label": 0}, {"text": "b", "label": number}], labels=("0", "1", "2"))
    assert f"row 2: label '{number}' is none of the task's (0, 1, 2)" in said
    said = refused([{"tokens": ["a", "b"], "tags": [0, number]}], labels=("0", "1", "2"))
    assert f"row 1: label '{number}' is none of the task's (0, 1, 2)" in said


@pytest.mark.parametrize("column", ["premise", "hypothesis"])
@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_text_of_a_pair_that_is_none_is_refused(value, column, refused):
    pair = {"premise": "a", "hypothesis": "b", "label": "x"}
    assert f"row 2: no {column}: {value!r} is no text" in refused([pair, {**pair, column: value}])


def test_a_word_that_is_none_is_refused(refused):
    rows = [{"tokens": ["a", "b"], "tags": ["O", "O"]}, {"tokens": ["a", None], "tags": ["O", "B-PER"]}]
    assert "row 2: no tokens: ['a', None] holds what is no text" in refused(rows)
    features = Features({"tokens": List(Value("string")), "tags": List(Value("string"))})
    assert "row 2: no tokens" in refused(rows, features)
    assert "row 2: expected a list of words and as many tags" in refused([rows[0], {"tokens": None, "tags": ["O"]}])


@pytest.mark.parametrize("stage", ["finetune", "exits"])
def test_a_label_of_dev_that_training_has_not_is_found_before_training(
    stage, write_masked_lm, write_classifier, tiny_tasks, tmp_path
):
    task = tiny_tasks["moods"]
    finetuned = write_classifier(tmp_path / "finetuned", task)
    path = tmp_path / "typo.csv"
    path.write_text("text,label\nin Rome,glad\nno,sadd\n")
    task = task.model_copy(update={"dev": {"en": str(path)}})
    out = tmp_path / "out"
    out.mkdir()

    def trained(task):
        if stage == "finetune":
            encoder = write_masked_lm(tmp_path / "encoder")
            return finetune(settings=FinetuneSettings(max_tokens=30, epochs=1), encoder=encoder, task=task, out=out)
        return train_exits(settings=ExitsSettings(max_tokens=30), finetuned=finetuned, task=task, out=out)

    with pytest.raises(HalflingError, match=f"^{re.escape(str(path))}, row 2: label 'sadd' is none of the task's"):
        trained(task)
    assert not list(out.iterdir())
    path.unlink()
    with pytest.raises(HalflingError, match=f"^{re.escape(str(path))}: no "):
        trained(task)
    path.write_text("text,label\nin Rome,glad\nno,sad\n")
    assert trained(task)["steps"]
