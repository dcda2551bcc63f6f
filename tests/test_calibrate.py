"""Calibration of tiny early-exit models whose random exits disagree."""

import lzma
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import set_seed

from halfling.calibrate import CalibrateSettings, calibrate, choose, head_of
from halfling.cost.flops import flops
from halfling.errors import HalflingError
from halfling.evaluate.network import load_network
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.folder import load_tokenizer
from halfling.models.shapes import Dimensions, config_for, shape_of
from halfling.records import Calibration, ExitPolicy, TradeOff
from halfling.tasks import TASKS
from halfling.tasks.predict import predict

TASK_NAMES = ("xnli", "wikiann")


@pytest.fixture
def data(tmp_path):
    """English dev alone."""
    words = ["Anna lives in Rome", "no", "maybe Anna", "in Rome", "yes Anna lives", "Rome"]
    labels = ["entailment", "neutral", "contradiction"]
    pairs = [f"{words[n % 6]}\t{words[n * 5 % 6]}\t{labels[n % 3]}\n" for n in range(40)]
    tags = {"Anna": "B-PER", "Rome": "B-LOC"}
    tagged = ["".join(f"{word}\t{tags.get(word, 'O')}\n" for word in words[n % 6].split()) + "\n" for n in range(40)]
    for folder, text in (("xnli", "".join(pairs)), ("panx", "".join(tagged))):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "dev-en.tsv.xz").write_bytes(lzma.compress(text.encode()))
    return tmp_path / "data"


@pytest.fixture
def early_exit(tmp_path, tiny_tokenizer):
    """A function that writes a random early-exit model of three layers with exits after each."""

    def write(task: str, **changes) -> Path:
        set_seed(1)
        shape = Dimensions(num_layers=3, width=16, num_heads=2, max_tokens=40).with_vocabulary(len(tiny_tokenizer))
        values = config_for(shape).to_dict() | {"num_labels": len(TASKS[task].labels), "exit_layers": [1, 2, 3]}
        # Wide enough that random exits are sure of some inputs, and of different classes.
        model = EARLY_EXIT_MODELS[task](XLMRobertaEarlyExitConfig(**(values | {"initializer_range": 0.5} | changes)))
        model.save_pretrained(tmp_path / f"model-{task}")
        tiny_tokenizer.save_pretrained(tmp_path / f"model-{task}")
        return tmp_path / f"model-{task}"

    return write


def calibrated(task: str, model: Path, data: Path, out: Path, **changes) -> Calibration:
    out.mkdir(exist_ok=True)
    values = {"task": task, "max_tokens": 24, "thresholds": 6, "batch_size": 7}
    counts = calibrate(settings=CalibrateSettings(**(values | changes)), model=model, data=data, out=out)
    written = Calibration.read(out / "exit_policy.json")
    assert counts["thresholds"] == written.policy.thresholds
    return written


@pytest.mark.parametrize("task", TASK_NAMES)
def test_the_curve_is_what_running_the_model_with_each_threshold_gives(task, early_exit, data, tmp_path):
    model = early_exit(task)
    curve = calibrated(task, model, data, tmp_path / "out").curve
    network = load_network(task, model, tmp_path / "out")
    encoded = TASKS[task].encode(TASKS[task].read(data, "dev", "en"), load_tokenizer(model), 24)
    shape = shape_of(network.config)
    for point in curve:
        network.config.leave_by(ExitPolicy(layers=point.layers, thresholds=point.thresholds))
        ran = predict(network, encoded, 5)
        score = TASKS[task].score(encoded.gold, ran.labels)
        assert point.quality == getattr(score, TASKS[task].headline)
        assert point.mean_exit_layer == pytest.approx(sum(ran.exit_layers) / len(ran.exit_layers))
        plain = flops(shape, ran.num_tokens, [3] * 40, head_of(task)).total
        exits = (1, 2, 3) if any(point.thresholds) else ()
        spent = flops(shape, ran.num_tokens, ran.exit_layers, head_of(task, exits)).total
        assert point.flops_share == pytest.approx(spent / plain)
    # The model must be one whose exits are taken, and differ, or all of this holds for nothing.
    layers = [point.mean_exit_layer for point in curve]
    assert layers[0] == 3.0
    assert sorted(layers, reverse=True) == layers
    assert len(set(layers)) > 2
    assert len({point.quality for point in curve}) > 1


def test_the_labels_chosen_from_the_exits_are_those_that_the_model_gives(early_exit, data, tmp_path, monkeypatch):
    """Not only their score: the answers themselves."""
    model = early_exit("wikiann")
    scored = []
    task = TASKS["wikiann"]

    def score(gold, predicted):
        scored.append(predicted)
        return task.score(gold, predicted)

    with monkeypatch.context() as patched:
        patched.setitem(TASKS, "wikiann", replace(task, score=score))
        curve = calibrated("wikiann", model, data, tmp_path / "out").curve
    network = load_network("wikiann", model, tmp_path / "out")
    encoded = task.encode(task.read(data, "dev", "en"), load_tokenizer(model), 24)
    for point, chosen in zip(curve, scored, strict=True):
        network.config.leave_by(ExitPolicy(layers=point.layers, thresholds=point.thresholds))
        assert predict(network, encoded, 40).labels == chosen


@pytest.mark.parametrize("task", TASK_NAMES)
def test_no_loss_allowed_means_no_loss_and_threshold_zero_is_always_there(task, early_exit, data, tmp_path):
    found = calibrated(task, early_exit(task), data, tmp_path / "out", max_drop=0.0)
    chosen = next(point for point in found.curve if point.thresholds == found.policy.thresholds)
    assert found.curve[0].thresholds == (0, 0)
    assert found.curve[0].flops_share == 1
    assert chosen.quality >= found.curve[0].quality


def test_the_policy_names_the_models_exits(early_exit, data, tmp_path):
    found = calibrated("wikiann", early_exit("wikiann"), data, tmp_path / "out")
    assert (found.task, found.policy.layers) == ("wikiann", (1, 2, 3))


def points(*pairs: tuple[float, float]) -> list[TradeOff]:
    return [
        TradeOff(layers=(1, 2), thresholds=(number / 10,), quality=quality, flops_share=share, mean_exit_layer=1.0)
        for number, (quality, share) in enumerate(pairs)
    ]


def test_the_cheapest_point_within_the_drop_is_chosen():
    curve = points((0.80, 1.0), (0.81, 0.9), (0.795, 0.7), (0.785, 0.5), (0.60, 0.2))
    assert choose(curve, 0.0).flops_share == 0.9
    assert choose(curve, 1.0).flops_share == 0.7
    assert choose(curve, 2.0).flops_share == 0.5
    assert choose(curve, 100.0).flops_share == 0.2


def test_where_exits_cost_more_than_they_save_nobody_leaves():
    # An exit that nobody takes is computed all the same.
    assert choose(points((0.80, 1.0), (0.80, 1.02), (0.90, 1.01)), 1.0).thresholds == (0,)


def test_of_equally_cheap_points_the_lowest_threshold_is_chosen():
    assert choose(points((0.80, 1.0), (0.80, 0.5), (0.80, 0.5)), 0.0).thresholds == (0.1,)


def test_more_tokens_than_the_model_reads_are_refused(early_exit, data, tmp_path):
    with pytest.raises(HalflingError, match="reads at most 40 tokens, not max_tokens=41: set it lower"):
        calibrated("xnli", early_exit("xnli"), data, tmp_path / "out", max_tokens=41)
    assert not list((tmp_path / "out").iterdir())
