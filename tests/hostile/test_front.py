"""What stands before the work: configurations, tables, recipes and the environment, each refused in one line."""

import json
import os

import pytest

from halfling.cli.texts import shown_as
from halfling.engine.backends.native import VARIANT
from halfling.errors import HalflingError
from halfling.export.trained import load_trained
from halfling.models.classifier import read_checkpoint
from halfling.models.shapes import shape_at
from halfling.pipeline.recipe import read_recipe
from halfling.tasks.task import Task


@pytest.fixture
def model(write_classifier, tiny_tasks, tmp_path):
    """A classifier of three layers with an exit after the first."""
    return write_classifier(tmp_path / "model", tiny_tasks["moods"], [1])


@pytest.fixture
def served(halfling, tmp_path):
    """A function that exports a model folder."""

    def make(folder):
        assert halfling("export", folder, tmp_path / "served").status == 0
        return tmp_path / "served"

    return make


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_decoder": True}, "is_decoder=True: halfling reads false only"),
        ({"add_cross_attention": True}, "add_cross_attention=True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"id2label": {}, "num_labels": 10**9}, "num_labels=1000000000: a whole number from 1"),
        ({"id2label": {}, "num_labels": "x"}, "num_labels='x': a whole number from 1"),
        *(
            ({"exit_layers": exits}, f"exit_layers={exits!r}: a list of layers from 1 to 3")
            for exits in ("1", 5, ["1"], [[1]], {"1": 2}, None, [0], [4], [1.5])
        ),
        ({"exit_policy": {}}, "exit_policy: not a ExitPolicy (layers"),
        ({"exit_policy": {"layers": [1, 3], "thresholds": [0.5], "extra": 1}}, "exit_policy: not a ExitPolicy (extra"),
        ({"exit_policy": {"layers": [1, 3], "thresholds": [0.5], "model": 7}}, "exit_policy: not a ExitPolicy (model"),
        (
            {"exit_policy": {"layers": [1, 3], "thresholds": [0.5], "patience": 3.5, "criterion": "patience"}},
            "exit_policy: not a ExitPolicy (patience",
        ),
    ],
)
def test_a_model_that_would_be_served_as_another_is_refused(changes, said, model):
    assert read_checkpoint(model).exit_layers == (1, 3)
    change_config(model, **changes)
    with pytest.raises(HalflingError) as caught:
        load_trained(model, None)
    assert said in str(caught.value)
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "a gpt2 model"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers: Input should be less than"),
        ({"hidden_size": "16"}, "hidden_size='16'"),
        ({"hidden_size": 10**9}, "hidden_size: Input should be less than"),
        ({"num_attention_heads": 3}, "no multiple of num_attention_heads=3"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"vocab_size": None}, "vocab_size=None"),
        ({"max_position_embeddings": 2}, "max_position_embeddings=2: 3 at least"),
    ],
)
def test_flops_counts_no_shape_that_cannot_be(changes, said, error, model):
    assert shape_at(str(model)).num_layers == 3
    change_config(model, **changes)
    assert said in error("flops", "--shape", model)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "a nameless model"),
        ("[]", "no model's configuration"),
        ("null", "no model's configuration"),
        ('{"hidden_size": 16, "hidden_size": 32}', "two values named 'hidden_size'"),
    ],
)
def test_flops_reads_no_file_that_is_no_configuration(text, said, error, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert said in error("flops", "--shape", tmp_path)


def test_a_tagger_reads_a_table_s_column_of_the_text_alone(halfling, error, write_tagger, served, tmp_path):
    tagger, table = served(write_tagger(tmp_path / "tagger")), tmp_path / "two.csv"
    table.write_text("text,hypothesis\nAnna lives in Rome,in Rome\n")
    said = halfling("predict", tagger, "--file", table, "--json")
    assert json.loads(said.out)["text"] == "Anna lives in Rome"
    asked = error("predict", tagger, "--file", table, "--column", "text", "--column", "hypothesis")
    assert "answers one text, not 2 columns" in asked


def test_predict_refuses_what_is_no_plain_file_or_table(error, model, served, tmp_path, monkeypatch):
    exported = served(model)
    (tmp_path / "twice.csv").write_text("text,text\nAnna,no\n")
    assert "two columns are named 'text'" in error("predict", exported, "--file", tmp_path / "twice.csv")
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or device, not a file" in error("predict", exported, "--file", tmp_path / "pipe")
    assert "is a pipe or device, not a file" in error("predict", exported, "--file", "/dev/zero")
    assert "Is a directory" in error("predict", exported, "--file", exported)
    three = [word for _ in range(3) for word in ("--column", "text")]
    (tmp_path / "fine.csv").write_text("text\nno\n")
    assert "not 3 columns" in error("predict", exported, *three, "--file", tmp_path / "fine.csv")
    assert "columns are of a .csv or .tsv, and there is none" in error("predict", exported, *three, "no")
    for name, shown in {"\udcff": r"'\udcff'", "nonsense": "'nonsense'"}.items():
        monkeypatch.setenv(VARIANT, name)
        assert f"variant {shown}: this processor does not run it: choose from" in error("predict", exported, "no")


def test_labelled_data_that_are_a_folder_are_refused_before_it_is_walked(error, model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    os.mkfifo(data / "pipe")  # whoever walks meets it
    said = f"{data}: is a folder, not a file of labelled data"
    with pytest.raises(HalflingError, match=r"is a folder, not a file of labelled data"):
        Task(dev={"en": str(data)}).files()
    (model / "task-sources.json").write_text(json.dumps({"train": {}, "dev": {"en": str(data)}}))
    assert said in error("export", model, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "a\0b"}, "no place has a null character"),
        ({"tasks": {"t": {"train": "a\0b.csv", "dev": "c.csv"}}}, "no place has a null character"),
    ],
)
def test_a_place_with_a_null_character(changes, said, error, tmp_path):
    recipe = {"name": "x", "data": "sample", "text": "s", "tasks": {"t": {"train": "b.csv", "dev": "c.csv"}}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe | changes))
    assert said in error("run", tmp_path / "r.yaml", "--dry-run")


def test_a_task_s_name_that_is_a_list(tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\ndata: sample\ntext: s\ntasks: [[a]]\n")
    with pytest.raises(HalflingError, match=r"tasks: \['a'\] is no preset's name"):
        read_recipe(tmp_path / "r.yaml")


def test_what_steers_a_terminal_is_not_printed(halfling, write_tagger, served, tmp_path):
    tagger, text = served(write_tagger(tmp_path / "tagger")), "Anna \x1b[31mlives\x07 in\x9b Rome"
    for flags in ([], ["--in-text"]):
        shown = halfling("predict", tagger, *flags, text).out
        assert "[31m" in shown
        assert not {"\x1b", "\x07", "\x9b"} & {*shown}
    spans = json.loads(halfling("predict", tagger, "--json", text).out)["spans"]
    assert spans
    assert all(span["text"] == text[span["start"] : span["end"]] for span in spans)
    for span in spans:
        within = shown_as(text[span["start"] : span["end"]])
        assert f"[{within}]{span['label']}" in halfling("predict", tagger, "--in-text", text).out
