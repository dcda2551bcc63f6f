import pytest
from halfling.evaluate.network import load_network

from halfling.calibrate import head_of
from halfling.cost.flops import flops
from halfling.errors import HalflingError
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.models.load import load_tokenizer
from halfling.models.shapes import shape_of
from halfling.records import Quality
from halfling.tasks import TASKS
from halfling.tasks.predict import predict


def measured(task, model, data, out, policy=None, **changes) -> list[Quality]:
    out.mkdir(exist_ok=True)
    values = {"model": "any", "task": task, "languages": ("en", "sw"), "max_tokens": 24, "seed": 5}
    settings = QualitySettings(**(values | changes))
    counts = measure_quality(settings=settings, model=model, data=data, out=out, policy=policy)
    rows = [Quality.model_validate_json(line) for line in (out / "quality.jsonl").read_text().splitlines()]
    assert [*counts] == [row.language for row in rows] == list(settings.languages)
    return rows


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_a_plain_models_rows_hold_its_score_and_all_of_its_arithmetic(task, write_model, data, tmp_path):
    model = write_model("plain", task)
    network, _ = load_network(task, model, None)
    rows = measured(task, model, data, tmp_path / "out")
    for row in rows:
        encoded = TASKS[task].encode(TASKS[task].read(data, "dev", row.language), load_tokenizer(model), 24)
        answers = predict(network, encoded, 4)
        score = TASKS[task].score(encoded.gold, answers.labels)
        assert (row.model, row.task, row.seed, row.num_examples) == ("any", task, 5, 12)
        assert (row.accuracy, row.f1) == (score.accuracy, score.f1)
        assert (row.mean_exit_layer, row.exit_histogram) == (3.0, {3: 12})
        spent = flops(shape_of(network.config), answers.num_tokens, [3] * 12, head_of(task)).total
        assert row.gflops == pytest.approx(spent / 12 / 1e9)
        # 3 layers x 12 x 16^2 x 128 tokens
        assert row.gmacs_linear == pytest.approx(3 * 12 * 256 * 128 / 1e9)
    assert rows[1].gflops < rows[0].gflops  # real lengths: its Swahili is shorter


def test_rows_with_exits_hold_who_left_where_and_what_was_spent_until_then(write_model, write_policy, data, tmp_path):
    model, policy = write_model("early", "xnli", [1, 3]), write_policy("xnli", (1, 3), 0.8)
    network, chosen = load_network("xnli", model, policy)
    assert chosen.thresholds == (0.8,)
    for row in measured("xnli", model, data, tmp_path / "out", policy):
        encoded = TASKS["xnli"].encode(TASKS["xnli"].read(data, "dev", row.language), load_tokenizer(model), 24)
        answers = predict(network, encoded, 1, policy=chosen)
        left = answers.exit_layers
        assert row.exit_histogram == {layer: left.count(layer) for layer in sorted(set(left))}
        assert sum(row.exit_histogram.values()) == 12
        assert row.mean_exit_layer == pytest.approx(sum(left) / 12)
        spent = flops(shape_of(network.config), answers.num_tokens, left, head_of("xnli", (1, 3))).total
        assert row.gflops == pytest.approx(spent / 12 / 1e9)
        assert row.gmacs_linear == pytest.approx(sum(left) / 12 * 12 * 256 * 128 / 1e9)
    assert set(row.exit_histogram) <= {1, 3}


def test_some_leave_early_and_some_do_not(write_model, write_policy, data, tmp_path):
    """Or the test above would hold for a model that never stops."""
    model, policy = write_model("early", "xnli", [1, 3]), write_policy("xnli", (1, 3), 0.8)
    assert set(measured("xnli", model, data, tmp_path / "out", policy)[0].exit_histogram) == {1, 3}


def test_threshold_zero_costs_and_scores_what_the_last_exit_alone_does(write_model, write_policy, data, tmp_path):
    model = write_model("early", "wikiann", [1, 2, 3])
    plain, policy = load_network("wikiann", model, None)  # the last exit is the plain model's own classifier
    assert (type(plain), policy) == (TASKS["wikiann"].model_class, None)
    exits = measured("wikiann", model, data, tmp_path / "a", write_policy("wikiann", (1, 2, 3), 0.0))
    plain = measured("wikiann", model, data, tmp_path / "b")
    assert exits == [row.model_copy(update={"exits": True}) for row in plain]


def test_only_the_first_examples_are_answered_when_told_so(write_model, data, tmp_path):
    rows = measured("xnli", write_model("plain", "xnli"), data, tmp_path / "out", max_examples=5)
    assert [row.num_examples for row in rows] == [5, 5]


@pytest.mark.parametrize(("task", "layers"), [("xnli", (2, 3)), ("xnli", (1, 2)), ("wikiann", (1, 3))])
def test_a_policy_for_another_model_is_one_error_that_names_both(
    task, layers, write_model, write_policy, data, tmp_path
):
    model, policy = write_model("early", "xnli", [1, 3]), write_policy(task, layers, 0.5)
    with pytest.raises(HalflingError, match="calibrate this model") as raised:
        measured("xnli", model, data, tmp_path / "out", policy)
    assert str(policy) in str(raised.value)
    assert str(model) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_more_tokens_than_the_model_reads_are_refused(write_model, data, tmp_path):
    with pytest.raises(HalflingError, match="reads at most 40 tokens, not max_tokens=41"):
        measured("xnli", write_model("plain", "xnli"), data, tmp_path / "out", max_tokens=41)
