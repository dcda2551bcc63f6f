import json

import pytest

from halfling.errors import HalflingError
from halfling.settings import check
from halfling.tasks.task import Task, read_task


def test_one_source_stands_for_one_a_language():
    task = Task(train="a-{language}.csv", dev="b-{language}.csv", train_languages=["en"], languages=["sw", "ur"])
    assert task.train == {"en": "a-en.csv"}
    assert task.dev == {"sw": "b-sw.csv", "ur": "b-ur.csv"}
    assert Task(train="a.csv").train == {"en": "a.csv"}
    assert Task(dev={"sw": "a", "ur": "b", "hi": "c"}, languages=["ur", "sw"]).dev == {"ur": "b", "sw": "a"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dev": "b-{language}.csv"}, "say which with languages or train_languages"),
        ({"labels": ["a", "b", "a"]}, "a, b, a: one label stands there twice"),
        ({"labels": ["a"]}, "labels"),
        ({"kind": "regression"}, "kind"),
    ],
)
def test_what_is_no_task_is_one_line(fields, message):
    with pytest.raises(HalflingError, match=message) as caught:
        check(Task, fields, "recipe")
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_there_is_one_line_with_those_that_are():
    task = Task(name="intents", dev={"sw": "a.csv", "ur": "b.csv"})
    with pytest.raises(HalflingError, match=r"task intents: no dev data in 'de' \(there is sw, ur\): .*--dev de=FILE"):
        task.source("dev", "de")
    with pytest.raises(HalflingError, match=r"no train data in 'en' \(there is none at all\)"):
        task.source("train", "en")


def test_a_task_travels_with_a_model_and_its_sources_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub-form").mkdir()
    dev = {"sw": "dev.csv", "ur": "hub:hub-form:ur:test", "hi": "hub:some/set::test"}
    task = Task(name="t", kind="text_classification", labels=["b", "a"], metric="macro F1", dev=dev, text="said")
    task.write(tmp_path)
    absolute = {"sw": f"{tmp_path}/dev.csv", "ur": f"hub:{tmp_path}/hub-form:ur:test", "hi": "hub:some/set::test"}
    assert read_task(tmp_path) == task.model_copy(update={"dev": absolute})
    assert str(tmp_path) not in (tmp_path / "task.json").read_text()
    (tmp_path / "task-sources.json").unlink()
    assert read_task(tmp_path) == task.model_copy(update={"dev": {}})


def test_a_model_without_a_task_has_none_and_a_damaged_one_is_one_line(tmp_path):
    assert read_task(tmp_path) is None
    (tmp_path / "task.json").write_text(json.dumps({"name": "t", "labels": 3}))
    with pytest.raises(HalflingError, match=r"task.json: not a Task \(labels"):
        read_task(tmp_path)


def test_other_data_take_the_place_of_a_tasks_own_and_dev_that_nobody_names_stays():
    own = Task(name="own", labels=["a", "b"], train={"en": "a.csv"}, dev={"en": "d.csv", "sw": "b.csv"}, text="said")
    assert own.with_sources(None) == own
    changed = own.with_sources(Task(name="other", train={"sw": "e.csv"}, dev={"sw": "c.csv", "ur": "f.csv"}))
    dev = {"en": "d.csv", "sw": "c.csv", "ur": "f.csv"}
    assert changed == own.model_copy(update={"train": {"sw": "e.csv"}, "dev": dev})


def test_the_files_of_a_task_are_named_once():
    task = Task(train={"en": "a.csv"}, dev={"en": "a.csv", "sw": "b.csv", "ur": "hub:c:d:e"})
    assert [path.name for path in task.files()] == ["a.csv", "b.csv"]


def test_a_language_without_a_source_is_named_and_not_dropped():
    with pytest.raises(ValueError, match="dev has no source in 'swa': it has sw, ur"):
        Task(dev={"sw": "a.csv", "ur": "b.csv"}, languages=["sw", "swa"])
