"""Calibration of tiny early-exit models whose random exits disagree."""

import lzma
from pathlib import Path

import numpy as np
import pytest
from halfling.calibrate.score import resamples
from halfling.evaluate.network import load_network
from pydantic import ValidationError
from transformers import set_seed

from halfling.calibrate import CalibrateSettings, calibrate, head_of
from halfling.calibrate.curve import Drawing
from halfling.calibrate.in_engine import InEngine
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock, spread
from halfling.cost.flops import flops
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.models.shapes import Dimensions, config_for, shape_of
from halfling.tasks import TASKS
from halfling.tasks.predict import predict


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

    def write(task: str, seed: int = 1, **changes) -> Path:
        set_seed(seed)
        shape = Dimensions(num_layers=3, width=16, num_heads=2, max_tokens=40).with_vocabulary(len(tiny_tokenizer))
        values = config_for(shape).to_dict() | {
            "id2label": dict(enumerate(TASKS[task].labels)),
            "exit_layers": [1, 2, 3],
        }
        # Wide enough that random exits are sure of some inputs, and of different classes.
        model = EARLY_EXIT_MODELS[task](XLMRobertaEarlyExitConfig(**(values | {"initializer_range": 0.5} | changes)))
        folder = tmp_path / f"model-{task}-{seed}"
        model.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return write


class FakeTimes(dict):
    """A policy takes half of the time of no exits."""

    def __init__(self, calls):
        super().__init__({name: 5.0 if name == "policy" else 10.0 for name in calls})


def calibrated(task: str, model: Path, data: Path, out: Path, **changes) -> Calibration:
    out.mkdir(exist_ok=True)
    values = {"task": task, "max_tokens": 24, "batch_size": 7, "timing": "none", "resamples": 100}
    counts = calibrate(settings=CalibrateSettings(**(values | changes)), model=model, data=data, out=out)
    written = Calibration.read(out / "exit_policy.json")
    assert (counts["layers"], counts["thresholds"]) == (written.policy.layers, written.policy.thresholds)
    assert written.chosen is not None
    return written


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("xnli", {}),
        ("wikiann", {}),
        ("wikiann", {"token_pooling": "max", "criterion": "margin"}),
        ("xnli", {"criterion": "patience"}),
        ("wikiann", {"criterion": "patience"}),
        ("wikiann", {"granularity": "token"}),
        ("wikiann", {"granularity": "token", "criterion": "max_probability"}),
        ("wikiann", {"granularity": "token", "criterion": "patience"}),
    ],
)
def test_the_curve_is_what_running_the_model_with_each_policy_gives(task, changes, early_exit, data, tmp_path):
    model = early_exit(task)
    found = calibrated(task, model, data, tmp_path / "out", **changes)
    network, _ = load_network(task, model, tmp_path / "out")
    encoded = TASKS[task].encode(TASKS[task].read(data, "dev", "en"), load_tokenizer(model), 24)
    shape = shape_of(network.config)
    for point in found.curve:
        chosen = {"layers": point.layers, "thresholds": point.thresholds, "patience": point.patience}
        ran = predict(network, encoded, 5, policy=found.policy.model_copy(update=chosen))
        score = TASKS[task].score(encoded.gold, ran.labels)
        assert point.quality == pytest.approx(getattr(score, TASKS[task].headline))
        assert point.mean_exit_layer == pytest.approx(np.mean(ran.exits_taken))
        plain = flops(shape, ran.num_tokens, [3] * 40, head_of(task)).total
        used = point.layers if any(point.thresholds) else ()
        spent = flops(shape, ran.num_tokens, ran.exit_layers, head_of(task, used)).total
        assert point.flops_share == pytest.approx(spent / plain)
        assert point.drop == pytest.approx(100 * (found.curve[0].quality - point.quality))
    assert (found.curve[0].layers, found.curve[0].flops_share, found.curve[0].drop_bound) == ((3,), 1, 0)
    # The model must be one whose exits are taken, and differ, or all of this holds for nothing. Random exits hardly
    # ever confirm each other; that patience leaves is held by the tests of the model.
    if changes.get("criterion") != "patience":
        assert len({point.mean_exit_layer for point in found.curve}) > 1
        assert len({point.quality for point in found.curve}) > 1


def test_a_drop_that_may_not_be_is_not_there(early_exit, data, tmp_path):
    found = calibrated("xnli", early_exit("xnli"), data, tmp_path / "out", max_drop=0.0)
    assert found.chosen.drop_bound <= 0
    assert found.max_drop == 0
    loose = calibrated("xnli", early_exit("xnli"), data, tmp_path / "loose", max_drop=100.0)
    assert loose.chosen.flops_share == min(point.flops_share for point in loose.curve) < 1


def test_arithmetic_that_is_asked_for_is_not_exceeded(early_exit, data, tmp_path):
    found = calibrated("wikiann", early_exit("wikiann"), data, tmp_path / "out", flops_share=0.8)
    assert found.chosen.flops_share <= 0.8
    assert (found.flops_share, found.max_drop) == (0.8, None)
    within = [point for point in found.curve if point.flops_share <= 0.8]
    assert found.chosen.quality == max(point.quality for point in within)


def test_arithmetic_out_of_reach_is_one_line_with_what_can_be_reached(early_exit, data, tmp_path):
    with pytest.raises(
        HalflingError, match=r"flops_share=0\.01 is out of reach: the cheapest policy has flops_share 0"
    ):
        calibrated("xnli", early_exit("xnli"), data, tmp_path / "out", flops_share=0.01)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("granularity", ["sentence", "token"])
def test_what_is_measured_to_be_slower_than_no_exits_is_not_chosen(
    granularity, early_exit, data, tmp_path, monkeypatch
):
    timed = {"timing": "measured", "rounds": 2, "timed_sentences": 2, "granularity": granularity}
    for name in ("expected", "measured"):
        monkeypatch.setattr(Clock, name, lambda *_: 0.5)
    model = early_exit("wikiann")
    assert calibrated("wikiann", model, data, tmp_path / "quick", max_drop=100.0, **timed).policy.is_early
    monkeypatch.setattr(Clock, "measured", lambda *_: 1.01)
    last = calibrated("wikiann", model, data, tmp_path / "slow", max_drop=100.0, **timed)
    assert not last.policy.is_early
    monkeypatch.setattr(Clock, "expected", lambda *_: 1.01)
    assert calibrated("wikiann", model, data, tmp_path / "slower", flops_share=0.9, **timed).policy.layers == (3,)


def test_what_was_chosen_must_still_meet_the_wish_when_it_is_measured(early_exit, data, tmp_path, monkeypatch):
    timed = {"timing": "measured", "rounds": 2, "timed_sentences": 2, "latency_ms": 6.0}
    monkeypatch.setattr(Clock, "__init__", lambda self, *_: setattr(self, "plain_ms", 10.0))
    monkeypatch.setattr(Clock, "expected", lambda _, policy, __: 0.5 if policy.is_early else 1.0)
    monkeypatch.setattr(Clock, "priced", lambda _, options: options)
    monkeypatch.setattr(Clock, "measured", lambda *_: 0.55)
    found = calibrated("xnli", early_exit("xnli"), data, tmp_path / "kept", **timed)
    assert found.chosen.time_share == 0.55
    monkeypatch.setattr(Clock, "measured", lambda *_: 0.7)
    with pytest.raises(HalflingError, match="latency_ms=6 is out of reach"):
        calibrated("xnli", early_exit("xnli"), data, tmp_path / "missed", **timed)


@pytest.mark.parametrize("really", [lambda time: 2 * time, lambda time: 0.6 if time < 0.31 else 0.9])
def test_what_layers_add_up_to_may_be_too_little_everywhere(really, early_exit, data, tmp_path, monkeypatch):
    """Early policies seem to take 0.3 to 0.7 of the time and take more: only the quickest meet 0.7."""
    model, plain = early_exit("xnli"), {"timing": "none", "max_drop": 100.0}
    curve = calibrated("xnli", model, data, tmp_path / "curve", **plain).curve
    least = min(point.mean_exit_layer for point in curve)
    expected = {}

    def expect(_, policy, left):
        expected[policy] = 0.3 + 0.4 * (float(left.mean()) - least) / (3 - least) if policy.is_early else 1.0
        return expected[policy]

    monkeypatch.setattr(Clock, "__init__", lambda self, *_: setattr(self, "plain_ms", 10.0))
    monkeypatch.setattr(Clock, "priced", lambda _, options: options)
    monkeypatch.setattr(Clock, "expected", expect)
    monkeypatch.setattr(Clock, "measured", lambda _, policy: really(expected[policy]))
    timed = {"timing": "measured", "rounds": 2, "timed_sentences": 2, "latency_ms": 7.0}
    assert calibrated("xnli", model, data, tmp_path / "kept", **timed).chosen.time_share <= 0.7
    assert sum(0.35 < time <= 0.7 for time in expected.values()) > 3


@pytest.mark.parametrize("granularity", ["sentence", "token"])
def test_thresholds_are_fitted_to_one_half_of_dev_and_their_drop_is_bounded_on_the_other(granularity, early_exit, data):
    model, task = early_exit("wikiann"), TASKS["wikiann"]
    encoded = task.encode(task.read(data, "dev", "en"), load_tokenizer(model), 24)
    network = EARLY_EXIT_MODELS["wikiann"].from_pretrained(model)
    like = ExitPolicy(layers=(3,), thresholds=(), granularity=granularity)
    trial = Trial("wikiann", network, encoded, like, batch_size=8)
    fitted = trial.learned_from
    assert fitted.sum() == len(fitted) / 2 == 20
    words = np.array([len(one) for one in trial.logits[0]])
    assert len(trial.options().head) == (20 if granularity == "sentence" else words[fitted].sum())
    drawing = Drawing(trial, None, resamples(40, 50, seed=0), confidence=0.95)
    assert not drawing.draws[:, fitted].any()
    assert drawing.draws[:, ~fitted].any()


def test_a_model_that_answers_with_no_numbers_is_refused(early_exit, data):
    model, task = early_exit("wikiann"), TASKS["wikiann"]
    encoded = task.encode(task.read(data, "dev", "en"), load_tokenizer(model), 24)
    network = EARLY_EXIT_MODELS["wikiann"].from_pretrained(model)
    network.classifier.bias.data[0] = float("nan")
    with pytest.raises(HalflingError, match="logits are not all finite"):
        Trial("wikiann", network, encoded, ExitPolicy(layers=(3,), thresholds=()), batch_size=8)


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_times_can_be_those_of_the_engine(task, early_exit, data, tmp_path, monkeypatch):
    model = early_exit(task)
    followed = []
    follow = InEngine.follow
    monkeypatch.setattr(InEngine, "follow", lambda self, policy: followed.append(policy) or follow(self, policy))
    monkeypatch.setattr(Clock, "expected", lambda *_: 0.5)
    more = {"timing": "measured", "rounds": 2, "timed_sentences": 3, "max_drop": 100.0, "engine": "onnx"}
    found = calibrated(task, model, data, tmp_path / "out", **more)
    assert found.timed == "onnx float32"
    assert found.plain_ms > 0
    # What was chosen was exported and raced; slower than no exits, it is not taken.
    assert 1 <= len(followed) <= 3
    policy = followed[0]
    assert policy.is_early
    assert found.policy in (*followed, policy.model_copy(update={"layers": (3,), "thresholds": ()}))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["exit_policy.json"]


def test_the_engine_is_timed_with_the_segments_of_the_policy(early_exit, data, tmp_path):
    model = early_exit("wikiann")
    encoded = TASKS["wikiann"].encode(TASKS["wikiann"].read(data, "dev", "en"), load_tokenizer(model), 24)
    computes = InEngine(
        model=model,
        like=ExitPolicy(layers=(3,), thresholds=(), criterion="margin"),
        task="wikiann",
        exits=(1, 2, 3),
        sentences=spread(encoded, 3),
        backend="onnx",
        precision="int8",
        fixed_rows=False,
        data=data,
        scratch=tmp_path / "scratch",
    )
    assert computes.without.exported.policy.layers == (3,)
    assert computes.with_all.exported.policy.layers == (1, 2, 3)
    assert computes.with_all.exported.policy.criterion == "margin"
    assert computes.with_all.exported.precision == "int8"
    assert [computes.checks(layer) for layer in (1, 2)] == [1, 2]
    for threshold in (0.4, 0.6):
        policy = ExitPolicy.uniform((2, 3), threshold, criterion="margin")
        followed = computes.follow(policy)
        followed()
        assert followed.args[0].exported.policy == followed.args[0].loop.policy == policy
        assert followed.args[0].exported.segments == ((1, 2), (3, 3))
    # One export for both thresholds.
    assert sorted(path.name for path in (tmp_path / "scratch").glob("exits-*[0-9]")) == [
        "exits-1-2-3",
        "exits-2-3",
        "exits-3",
    ]


def test_times_of_token_exits_can_be_those_of_the_engine(early_exit, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Clock, "_medians", lambda self, calls: [call() for call in calls.values()] and FakeTimes(calls))
    more = {"timing": "measured", "timed_sentences": 3, "engine": "onnx", "granularity": "token"}
    found = calibrated("wikiann", early_exit("wikiann"), data, tmp_path / "out", max_drop=100.0, **more)
    assert found.policy.granularity == "token"
    assert found.policy.is_early
    assert {point.time_share for point in found.curve} == {1.0, 0.5}


def test_a_time_out_of_reach_is_one_line(early_exit, data, tmp_path):
    with pytest.raises(HalflingError, match="latency_ms=1e-06 is out of reach"):
        calibrated(
            "xnli", early_exit("xnli"), data, tmp_path / "out", timing="measured", latency_ms=1e-6, timed_sentences=2
        )
    found = calibrated(
        "xnli", early_exit("xnli"), data, tmp_path / "out", timing="measured", latency_ms=1e6, timed_sentences=2
    )
    assert found.plain_ms > 0
    assert all(point.time_share is not None for point in found.curve)


def test_the_policy_names_the_model_and_is_refused_by_another(early_exit, data, tmp_path):
    model = early_exit("wikiann")
    found = calibrated("wikiann", model, data, tmp_path / "out", granularity="token")
    assert found.task == "wikiann"
    assert found.policy.model == weights_sha256(model)
    assert found.policy.granularity == "token"
    other = early_exit("wikiann", seed=2)
    with pytest.raises(HalflingError, match=r"for other weights than .* has: calibrate this model"):
        load_network("wikiann", other, tmp_path / "out")


@pytest.mark.parametrize("granularity", ["sentence", "token"])
def test_two_runs_write_the_same_bytes_when_nothing_is_timed(granularity, early_exit, data, tmp_path):
    model = early_exit("wikiann")
    for name in ("one", "two"):
        calibrated("wikiann", model, data, tmp_path / name, granularity=granularity)
    one, two = ((tmp_path / name / "exit_policy.json").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_drop": 1, "flops_share": 0.5}, "max_drop and flops_share: ask for one of them"),
        ({"latency_ms": 5, "timing": "none"}, "latency_ms asks for a time"),
        ({"task": "xnli", "granularity": "token"}, "only taggers"),
        ({"engine": "onnx", "timing": "none"}, "engine=onnx is for times"),
        ({"precision": "int8"}, "set engine to openvino or onnx"),
        ({"precision": "int8", "engine": "torch"}, "set engine to openvino or onnx"),
        ({"fixed_rows": True, "engine": "onnx"}, "fixed_rows is of the engine openvino"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        CalibrateSettings(**{"task": "wikiann"} | values)


def test_more_tokens_than_the_model_reads_are_refused(early_exit, data, tmp_path):
    with pytest.raises(HalflingError, match="reads at most 40 tokens, not max_tokens=41: set it lower"):
        calibrated("xnli", early_exit("xnli"), data, tmp_path / "out", max_tokens=41)
    assert not list((tmp_path / "out").iterdir())
