"""Labelled data on the command line: `halfling tasks show`, and what `--train`, `--dev` and their like say."""

import json
import re

import pytest

CSV = "".join(f"{text},{intent}\n" for text, intent in [("text", "intent"), ("Hi", "greeting"), ("Pay", "billing")])
CONLL = "Anna I-PER\nRome I-LOC\n\nno O\n\n"
OTHER = "text,intent\nAnna,happy\nno,sad\n"


@pytest.fixture
def write(tmp_path):
    """A function that writes a text."""

    def at(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return at


@pytest.fixture
def usage(halfling, tmp_path):
    """A function that calls `halfling`, checks that it refuses how it was called, and returns the sentence."""

    def call(*argv):
        before = sorted(tmp_path.rglob("*"))
        said = halfling(*argv)
        assert (said.status, said.out) == (2, "")
        assert sorted(tmp_path.rglob("*")) == before
        return " ".join(re.sub("[│╭╮╰╯─]", " ", said.err).split()).partition("Invalid value: ")[2]

    return call


def test_a_csv_is_shown_with_its_columns_read_and_the_labels_counted(halfling, write):
    train, dev = write("train.csv", CSV), write("dev.csv", CSV)
    said = halfling("tasks", "show", train, "--dev", dev, "--dev", f"sw={dev}", "--task", "intents")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [
        "intents: text_classification, judged by accuracy",
        "labels: billing, greeting",
        f"train en: 2 examples of {train}: billing 1, greeting 1",
        f"dev en: 2 examples of {dev}: billing 1, greeting 1",
        f"dev sw: 2 examples of {dev}: billing 1, greeting 1",
        '{"text": "Hi", "label": "greeting"}',
        '{"text": "Pay", "label": "billing"}',
    ]


def test_a_conll_file_is_shown_with_its_scheme_and_in_iob2(halfling, write):
    train, dev = write("train.conll", CONLL), write("dev.conll", CONLL)
    said = halfling("tasks", "show", train, "--dev", dev, "--json")
    found = json.loads(said.out)
    assert (found["task"]["kind"], found["task"]["metric"]) == ("tagging", "span F1")
    assert found["task"]["labels"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert found["splits"]["train en"] == {
        "source": str(train),
        "examples": 2,
        "scheme": "IOB1",
        "labels": {"O": 1, "B-LOC": 1, "I-LOC": 0, "B-PER": 1, "I-PER": 0},
    }
    assert found["examples"][0] == {"words": ["Anna", "Rome"], "tags": ["B-PER", "B-LOC"]}
    printed = halfling("tasks", "show", train, "--dev", dev).out
    assert f"train en: 2 examples of {train}, written in IOB1: O 1, B-LOC 1, " in printed


def test_columns_that_are_named_are_read(halfling, write):
    path = write("odd.tsv", "a\tb\tc\tgood\nd\te\tf\tbad\n")
    columns = ("--columns", "id,one,two,mark", "--text", "one", "--text-pair", "two", "--label", "mark", "--dev", path)
    said = halfling("tasks", "show", path, *columns, "--labels", "good,bad", "--metric", "macro F1")
    assert said.out.splitlines()[:2] == ["task: pair_classification, judged by macro F1", "labels: good, bad"]
    assert '{"text": "b", "text_pair": "c", "label": "good"}' in said.out


def test_a_model_s_folder_is_shown_with_its_task_and_other_data_if_they_are_named(halfling, write_tagger, write):
    model = write_tagger(write("models/keep", "").parent / "model")
    shown = halfling("tasks", "show", model).out
    assert shown.startswith("names: tagging, judged by span F1\nlabels: O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC\n")
    assert "dev en: 80 examples of " in shown
    dev = write("sw.conll", CONLL)
    other = halfling("tasks", "show", model, "--dev", f"sw={dev}").out
    assert other.splitlines()[0] == shown.splitlines()[0]
    assert f"dev sw: 2 examples of {dev}, " in other
    assert "dev en: 80 examples of " in other  # what the model's own training language is judged by stays


def test_a_ready_model_s_folder_needs_data_and_its_labels_keep_their_order(
    halfling, error, write_tagger, write, tmp_path
):
    model = write_tagger(tmp_path / "model")
    (model / "task.json").unlink()
    assert error("tasks", "show", model) == f"{model}: no task travels with it: name its data with --train and --dev"
    shown = halfling("tasks", "show", model, "--dev", write("dev.conll", CONLL)).out
    assert "labels: O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC\n" in shown


def test_a_preset_is_shown_from_its_data_folder(halfling, write_xz, tmp_path):
    path = write_xz(tmp_path / "data/xnli/train-en.tsv.xz", "a\tb\tneutral\n" * 3)
    preset = ("--task", "xnli", "--data", tmp_path / "data")
    said = halfling("tasks", "show", *preset, "--dev", path)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[:3] == [
        "xnli: pair_classification, judged by accuracy",
        "labels: entailment, neutral, contradiction",
        f"train en: 3 examples of {path}: entailment 0, neutral 3, contradiction 0",
    ]
    missing = halfling("tasks", "show", *preset)
    assert missing.status == 1
    assert missing.err.startswith(f"error: {tmp_path}/data/xnli/dev-en.tsv.xz: no such file")


def test_what_cannot_be_shown_is_one_line(error, write, tmp_path):
    assert error("tasks", "show") == (
        "tasks show: no data: name a file, a model's folder, or --task PRESET --data PLACE"
    )
    assert error("tasks", "show", tmp_path / "no.csv").startswith(f"{tmp_path}/no.csv: no such file")
    assert error("tasks", "show", tmp_path).startswith(f"{tmp_path}: no model here (no config.json)")
    assert error("tasks", "show", "--task", "xnli", "--data", tmp_path / "no") == (
        f'{tmp_path}/no: no such data folder: give one, or "hub"'
    )
    strange = write("odd.csv", "one,two\na,b\n")
    assert error("tasks", "show", strange) == (
        f"{strange}: no column of the text: there are one, two: say which with --text NAME"
    )
    assert error("tasks", "show", strange, "--text", "three") == (f"{strange}: no column 'three': there are one, two")
    assert error("tasks", "show", write("data.xls", "a,b\n")).startswith(f"{tmp_path}/data.xls: what format is this?")
    assert error("tasks", "show", write("a.csv", CSV), "--kind", "regression").startswith("the task: kind: ")


def test_a_language_has_one_file_of_each_split(usage, write):
    train = write("a.csv", CSV)
    said = usage("tasks", "show", train, "--train", train)
    # The terminal's box breaks long paths.
    assert said.replace(" ", "") == f"--train{train}:enhasafilealready:nameanotherlanguage"
    for option in ("--train", "--dev"):
        said = usage("finetune", "encoder", "out", "--train", train, option, f"sw={train}", option, f"sw={train}")
        assert said.replace(" ", "") == f"{option}sw={train}:swhasafilealready:nameanotherlanguage"


def test_a_file_whose_name_has_an_equals_sign_is_a_file(halfling, write, tmp_path, monkeypatch):
    write("en=a.csv", CSV)
    monkeypatch.chdir(tmp_path)
    said = halfling("tasks", "show", "--train", "en=a.csv", "--dev", "sw=en=a.csv", "--dev", "en=a.csv")
    assert "train en: 2 examples of en=a.csv: " in said.out
    assert "dev sw: 2 examples of en=a.csv: " in said.out


def test_a_data_folder_is_for_a_preset(usage, tmp_path):
    for more in ([], ["--task", "mine"]):
        said = usage("finetune", "encoder", "out", "--data", tmp_path, *more)
        assert said == "--data is for a preset: name it with --task wikiann or --task xnli"


def test_training_without_labelled_data_is_refused(usage, error, write_masked_lm, write, tmp_path):
    encoder, out = write_masked_lm(tmp_path / "encoder"), tmp_path / "out"
    said = usage("finetune", encoder, out)
    assert said == "no labelled data: give them with --train FILE, or --task PRESET --data PLACE"
    said = error("finetune", encoder, out, "--task", "mine", "--dev", write("dev.csv", CSV))
    assert said == "task mine: no training data: give them with --train FILE"


def test_labels_that_are_none_of_the_named_ones_are_refused_and_both_sets_are_said(
    error, write_masked_lm, write, tmp_path
):
    encoder, train = write_masked_lm(tmp_path / "encoder"), write("train.csv", OTHER)
    said = error("finetune", encoder, tmp_path / "out", "--train", train, "--dev", train, "--labels", "glad,sad")
    assert said == f"{train}, row 1: label 'happy' is none of the task's (glad, sad); the data have happy, sad"


def test_labels_of_dev_that_training_does_not_have_are_seen_before_training(error, write):
    train, dev = write("train.csv", CSV), write("dev.csv", OTHER)
    said = error("tasks", "show", train, "--dev", train, "--dev", f"sw={dev}")
    assert said == (f"{dev}, row 1: label 'happy' is none of the task's (billing, greeting); the data have happy, sad")


@pytest.mark.parametrize("travels", [True, False], ids=["task travels", "ready model"])
@pytest.mark.parametrize(
    ("command", "option"),
    [("exits", "--train"), ("calibrate", "--dev"), ("export", "--dev"), ("quality", "--dev"), ("costs", "--dev")],
)
def test_labels_that_do_not_fit_the_model_are_refused_and_both_sets_are_said(
    command, option, travels, error, write_classifier, tiny_tasks, write, tmp_path
):
    model = write_classifier(tmp_path / "model", tiny_tasks["moods"], None if command == "exits" else [1, 3])
    if not travels:
        (model / "task.json").unlink()
    other, out = write("other.csv", OTHER), tmp_path / "out"
    places = [out, "--model", f"any={model}"] if command in ("quality", "costs") else [model, out]
    short = ["--max-tokens", 16] * (command in ("exits", "calibrate"))
    said = error(command, *places, option, other, *short)
    assert said == f"{other}, row 1: label 'happy' is none of the task's (glad, sad); the data have happy, sad"


def test_a_model_without_a_task_asks_for_data(error, write_classifier, tiny_tasks, tmp_path):
    model = write_classifier(tmp_path / "model", tiny_tasks["moods"], [1, 3])
    (model / "task.json").unlink()
    for command, *places in (("calibrate", model), ("export", model), ("quality", "--model", f"any={model}")):
        said = error(command, *places, tmp_path / "out")
        assert said == f"{model}: no task travels with it: name its data with --train and --dev"
