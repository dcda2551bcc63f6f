"""The task of a model, whoever trained it."""

import json

import pytest
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
)

from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.tasks.examples import read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task


@pytest.fixture
def ready(tmp_path, tiny_config):
    """A function that writes a checkpoint as somebody else would have trained it, without a task."""

    def write(*labels, token=False, **more):
        tiny_config.id2label = dict(enumerate(labels))
        tiny_config.label2id = {label: number for number, label in enumerate(labels)}
        model = (XLMRobertaForTokenClassification if token else XLMRobertaForSequenceClassification)(tiny_config)
        model.save_pretrained(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
        return tmp_path / "model"

    return write


def texts(tmp_path, *labels):
    (tmp_path / "dev.csv").write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
    return Task(dev={"sw": str(tmp_path / "dev.csv")})


def test_a_ready_checkpoint_needs_data_alone_and_keeps_the_order_of_its_labels(ready, tmp_path):
    task = task_of(ready("no", "yes", "maybe"), texts(tmp_path, "yes", "no"))
    assert (task.kind, task.labels, task.metric) == ("text_classification", ("no", "yes", "maybe"), "accuracy")
    assert (task.languages, task.source_languages) == (("sw",), ("sw",))
    assert [one.label for one in read_examples(task, "dev", "sw")] == ["yes", "no"]
    with pytest.raises(HalflingError, match="model: no task travels with it: name its data with --train and --dev"):
        task_of(tmp_path / "model")


def test_a_ready_tagger_of_another_scheme_is_a_task_of_spans(ready, tmp_path):
    (tmp_path / "dev.conll").write_text("Anna B-PER\nBo I-PER\nRome B-LOC\n")
    model = ready("B-LOC", "I-LOC", "I-PER", "O", token=True)
    task = task_of(model, Task(dev={"sw": str(tmp_path / "dev.conll")}))
    assert (task.kind, task.labels, task.metric) == ("tagging", ("B-LOC", "I-LOC", "I-PER", "O"), "span F1")
    assert read_examples(task, "dev", "sw")[0].tags == ("B-PER", "I-PER", "B-LOC")


def test_a_task_that_travels_is_read_and_other_data_stand_beside_its_own(ready, tmp_path):
    model, given = ready("no", "yes"), texts(tmp_path, "yes", "no")
    Task(name="own", kind="text_classification", labels=("yes", "no"), metric="macro F1", dev={"ur": "/x"}).write(model)
    assert [*task_of(model).dev] == ["ur"]
    task = task_of(model, given)
    assert (task.name, task.metric, task.labels, task.dev) == (
        "own",
        "macro F1",
        ("no", "yes"),
        {"ur": "/x"} | given.dev,
    )


def test_labels_that_do_not_fit_are_one_line_that_names_both_sets(ready, tmp_path):
    model = ready("LABEL_0", "LABEL_1")
    with pytest.raises(
        HalflingError, match=r"'yes' is none of the task's \(LABEL_0, LABEL_1\); the data have no, yes$"
    ):
        task_of(model, texts(tmp_path, "yes", "no"))
    named = texts(tmp_path, "yes", "no").model_copy(update={"labels": ("no", "yes")})
    with pytest.raises(HalflingError, match="its labels are LABEL_0, LABEL_1, not those of task task, no, yes: name a"):
        task_of(model, named)


def test_a_model_and_a_task_of_another_kind_are_one_line(ready, tmp_path):
    tags = Task(kind="tagging", dev={"sw": "x"})
    with pytest.raises(HalflingError, match="model: classifies texts, and task task is tagging"):
        task_of(ready("no", "yes"), tags)
    with pytest.raises(HalflingError, match="model: a tagger, and task task is text_classification"):
        task_of(ready("O", "B-X", token=True), texts(tmp_path).model_copy(update={"kind": "text_classification"}))


def test_a_checkpoint_says_its_head_its_labels_and_its_exits(ready, write_tagger, tmp_path):
    assert read_checkpoint(ready("no", "yes")) == ("sequence", ("no", "yes"), (2,), False)
    early = read_checkpoint(write_tagger(tmp_path / "early"))
    assert (early.head, early.exit_layers, early.has_exits, len(early.labels)) == ("token", (1, 2), True, 7)


def test_two_classes_without_names_are_numbered(ready):
    model = ready("LABEL_0", "LABEL_1")
    path = model / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key not in ("id2label", "label2id")}))
    assert read_checkpoint(model).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "problem_type multi_label_classification: .*one label a text"),
        ({"problem_type": "regression"}, "problem_type regression"),
        ({"id2label": {"0": "a", "2": "b"}}, r"id2label numbers \[0, 2\] have a gap: name every class from 0"),
        ({"id2label": {"0": "a", "1": "a"}}, "its labels are a, a: two at least are needed, all different"),
        ({"id2label": {"0": "a"}}, "its labels are a: two at least"),
        ({"id2label": {"x": "a"}}, "config.json: no model's configuration"),
        ({"model_type": "deberta-v2"}, "a deberta-v2 model .*: halfling reads XLM-R's architecture"),
        ({"architectures": ["XLMRobertaForQuestionAnswering"]}, r"\(XLMRobertaForQuestionAnswering\): halfling reads"),
        ({"architectures": None}, r"\(no architecture\): halfling reads"),
    ],
)
def test_a_checkpoint_that_is_not_read_is_one_line(ready, change, message):
    with pytest.raises(HalflingError, match=message) as caught:
        load_classifier(ready("a", "b", **change))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_architecture_or_without_a_classifier_is_one_line(tmp_path, tiny_config):
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(HalflingError, match=r"bert: a bert model \(BertForSequenceClassification\): .*xlm-roberta"):
        load_classifier(tmp_path / "bert")
    XLMRobertaForMaskedLM(tiny_config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(HalflingError, match=r"a xlm-roberta model \(XLMRobertaForMaskedLM\): halfling reads"):
        load_classifier(tmp_path / "encoder")
    with pytest.raises(HalflingError, match=r"nowhere: no model here \(no config.json\)"):
        load_classifier(tmp_path / "nowhere")
