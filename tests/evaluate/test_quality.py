import json

import pytest

from halfling.calibrate.simulate import head_of
from halfling.cost.flops import flops
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.exits.policy import ExitPolicy
from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.models.shapes import shape_of
from halfling.results import Quality
from halfling.tasks.encode import encode
from halfling.tasks.examples import TaggedExample, read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers, predict
from halfling.tasks.score import score
from halfling.tasks.task import Task

THRESHOLDS = {"pairs": 0.8, "moods": 0.8, "intents": 0.8, "names": 0.65, "products": 0.5}
"""By task, what lets some leave early and others not."""


def measured(out, task=None, languages=("en", "sw"), max_examples=None, **models) -> list[Quality]:
    out.mkdir(exist_ok=True)
    settings = QualitySettings(languages=languages, max_examples=max_examples, seed=5)
    named = {name.replace("__", "/"): folder for name, folder in models.items()}
    measure_quality(settings=settings, models=named, out=out, task=task)
    return [Quality.model_validate_json(line) for line in (out / "quality.jsonl").read_text().splitlines()]


def scores(row: Quality) -> tuple[float, ...]:
    return row.score, row.accuracy, row.f1


def answered(model, language, policy=None):
    """Return what a row must say of a model in PyTorch: its scores, where who left, and the arithmetic."""
    network, task = load_classifier(model), task_of(model)
    examples = read_examples(task, "dev", language)
    encoded = encode(examples, load_tokenizer(model), 40)
    found = predict(network, encoded, 4, policy=policy)
    words = [len(one.tags) for one in examples if isinstance(one, TaggedExample)]
    given = score(task, examples, answers(found.logits, encoded, task.labels, words or None))
    head = head_of(task, () if policy is None else policy.layers)
    lengths = [len(one.ids) for one in encoded]
    spent = flops(shape_of(network.config), lengths, found.exit_layers, head).total / len(examples) / 1e9
    return (given.value, given.accuracy, given.f1), found.exits_taken, spent


@pytest.mark.parametrize("task", THRESHOLDS)
def test_rows_of_the_model_in_pytorch_hold_its_scores_and_all_of_its_arithmetic(task, write_model, tmp_path):
    model = write_model("plain", task)
    rows = measured(tmp_path / "out", any=model)
    for row, number in zip(rows, (40, 12), strict=True):
        expected, _, spent = answered(model, row.language)
        assert (row.model, row.task, row.seed, row.num_examples) == ("any", task, 5, number)
        assert row.form == ("any", "pytorch", "float32", False)
        assert scores(row) == expected
        assert (row.mean_exit_layer, row.exit_histogram) == (3.0, {3: number})
        assert row.gflops == pytest.approx(spent)
        # 3 layers x 12 x 16^2 x 128 tokens
        assert row.gmacs_linear == pytest.approx(3 * 12 * 256 * 128 / 1e9)
        assert row.trained_on == (row.language == "en")
        assert row.metric == {"intents": "macro F1", "names": "span F1", "products": "span F1"}.get(task, "accuracy")
    assert rows[1].gflops < rows[0].gflops  # real lengths: its Swahili is shorter


@pytest.mark.parametrize("task", THRESHOLDS)
def test_there_is_a_row_for_each_form_of_a_model_and_engine_and_pytorch_agree(task, write_model, serve, tmp_path):
    model = write_model("early", task, [1, 3])
    forms = {
        "any__torch": model,
        "any__plain": serve(model),
        "any__exits": serve(model, THRESHOLDS[task]),
        "any__int8": serve(model, precision="int8"),
    }
    rows = measured(tmp_path / "out", **forms)
    assert [(row.language, *row.form[1:]) for row in rows] == [
        (language, *form)
        for form in (
            ("pytorch", "float32", False),
            ("engine", "float32", False),
            ("engine", "float32", True),
            ("engine", "int8", False),
        )
        for language in ("en", "sw")
    ]
    assert {row.model for row in rows} == {"any"}
    for torch, plain, early in zip(rows[:2], rows[2:4], rows[4:6], strict=True):
        assert scores(plain) == pytest.approx(scores(torch))
        assert (plain.exit_histogram, plain.gflops) == (torch.exit_histogram, pytest.approx(torch.gflops))
        expected, left, spent = answered(model, early.language, ExitPolicy.uniform((1, 3), THRESHOLDS[task]))
        assert scores(early) == pytest.approx(expected)
        assert early.exit_histogram == {layer: left.count(layer) for layer in sorted(set(left))}
        assert early.mean_exit_layer == pytest.approx(sum(left) / len(left))
        assert early.gflops == pytest.approx(spent)
        assert early.gmacs_linear == pytest.approx(sum(left) / len(left) * 12 * 256 * 128 / 1e9)
    # Some leave early and some do not, or the above would hold for a model that never stops.
    assert set(rows[4].exit_histogram) == {1, 3}


def test_rows_of_token_exits_count_tokens(write_model, serve, tmp_path):
    model = write_model("early", "names", [1, 3])
    policy = ExitPolicy.uniform((1, 3), 0.65, granularity="token")
    row, _ = measured(tmp_path / "out", any=serve(model, 0.65, granularity="token"))
    expected, left, spent = answered(model, "en", policy)
    assert scores(row) == pytest.approx(expected)
    assert row.exit_histogram == {1: left.count(1), 3: left.count(3)}
    assert min(row.exit_histogram.values()) > 0
    assert row.gflops == pytest.approx(spent)


@pytest.mark.parametrize("task", ["intents", "products"])
def test_labels_in_another_order_give_the_same_scores(task, write_model, serve, permute_labels, tmp_path):
    model = write_model("one", task, [1, 3])
    before = measured(tmp_path / "before", torch=model, engine=serve(model), early=serve(model, THRESHOLDS[task]))
    permute_labels(model, [3, 1, 4, 0, 2])
    (tmp_path / "one").rename(tmp_path / "two")
    model = tmp_path / "two"
    after = measured(tmp_path / "after", torch=model, engine=serve(model), early=serve(model, THRESHOLDS[task]))
    assert len({row.score for row in before}) > 1
    assert [scores(row) for row in after] == [pytest.approx(scores(row)) for row in before]
    assert [row.exit_histogram for row in after] == [row.exit_histogram for row in before]


def test_threshold_zero_costs_and_scores_what_the_last_exit_alone_does(write_model, serve, tmp_path):
    model = write_model("early", "names", [1, 2, 3])
    never = measured(tmp_path / "a", any=serve(model, 0.0, layers=(1, 2, 3)))
    assert never == measured(tmp_path / "b", any=serve(model))
    assert not any(row.exits for row in never)


def test_all_languages_of_the_task_are_measured_and_only_the_first_examples_when_told_so(write_model, tmp_path):
    rows = measured(tmp_path / "out", languages=None, max_examples=5, any=write_model("plain", "pairs"))
    assert [(row.language, row.num_examples) for row in rows] == [("en", 5), ("sw", 5)]


def test_other_data_may_be_given(write_model, serve, tmp_path):
    model = write_model("plain", "moods")
    (tmp_path / "dev.csv").write_text("text,label\nAnna,glad\nno,sad\nyes,glad\n")
    given = Task(dev={"tr": str(tmp_path / "dev.csv")})
    rows = measured(tmp_path / "out", task=given, languages=("tr",), torch=model, engine=serve(model))
    assert [(row.language, row.num_examples, row.trained_on) for row in rows] == [("tr", 3, False)] * 2
    assert scores(rows[0]) == scores(rows[1])


@pytest.mark.parametrize("served", [False, True], ids=["pytorch", "engine"])
def test_labels_that_do_not_fit_are_one_line_that_names_both_sets(served, write_model, serve, tiny_tasks, tmp_path):
    model = write_model("plain", "moods")
    folder = serve(model) if served else model
    given = Task(dev=tiny_tasks["intents"].dev)
    said = r"label 'cancel' is none of the task's \(glad, sad\); the data have billing, cancel, greeting"
    with pytest.raises(HalflingError, match=said) as raised:
        measured(tmp_path / "out", task=given, any=folder)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_without_a_task_is_refused(write_model, serve, tmp_path):
    model = write_model("plain", "moods")
    for folder, said in ((serve(model), "export the model again"), (model, "name its data with --train and --dev")):
        (folder / "task.json").unlink()
        with pytest.raises(HalflingError, match=f"no task travels with it: {said}"):
            measured(tmp_path / "out", any=folder)


def test_a_task_without_dev_data_is_one_line_and_no_empty_result(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    (model / "task-sources.json").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(HalflingError, match="no dev data: give them with --dev FILE"):
        measure_quality(settings=QualitySettings(), models={"any": model}, out=tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]


def test_what_a_converted_model_was_made_of_is_said_once_for_each_model(write_model, tmp_path):
    model = write_model("plain", "moods")
    config = json.loads((model / "config.json").read_text())
    made_of = {"model": "some/where", "note": "weights of some/where"}
    (model / "config.json").write_text(json.dumps(config | {"origin": made_of}))
    measured(tmp_path / "out", max_examples=2, any__pytorch=model, any__again=model)
    (line,) = (tmp_path / "out" / "origins.jsonl").read_text().splitlines()
    assert json.loads(line) == {"name": "any", "origin": made_of}
    measured(tmp_path / "other", max_examples=2, any=write_model("other", "moods"))
    assert not (tmp_path / "other" / "origins.jsonl").exists()


def test_what_int8_cost_at_export_goes_along_with_the_scores(write_model, serve, tmp_path):
    model = write_model("plain", "moods")
    served = serve(model, precision="int8")
    measured(tmp_path / "out", max_examples=2, any__int8=served, any__pytorch=model)
    lines = [json.loads(line) for line in (tmp_path / "out" / "int8.jsonl").read_text().splitlines()]
    own = [json.loads(drop.model_dump_json()) for drop in read_exported(served).int8]
    assert [one["language"] for one in own] == ["en", "sw"]
    whose = {"model": "any", "task": "moods", "seed": 5, "exits": False, "wide_layers": []}
    assert lines == [drop | whose for drop in own]
    measured(tmp_path / "float32", max_examples=2, any=serve(model))
    assert not (tmp_path / "float32" / "int8.jsonl").exists()
