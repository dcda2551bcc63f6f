"""Which point of a curve meets a wish, the search for policies, and the bound of a drop."""

import itertools
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from halfling.calibrate.curve import Drawing
from halfling.calibrate.search import Options, search, taken
from halfling.calibrate.settings import Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock
from halfling.exits.calibration import TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.tasks.bootstrap import resamples
from halfling.tasks.examples import TaggedExample, TextExample, understood
from halfling.tasks.score import score, tally
from halfling.tasks.task import Task


def points(*values: tuple[float, float, float]) -> list[TradeOff]:
    """Return a curve of (drop_bound, flops_share, time_share)."""
    return [
        TradeOff(
            layers=(1, 2) if number else (2,),
            thresholds=(number / 10,) if number else (),
            quality=0.8 - bound / 100,
            drop=bound,
            drop_bound=bound,
            flops_share=share,
            time_share=time,
            mean_exit_layer=1.0,
        )
        for number, (bound, share, time) in enumerate(values)
    ]


def test_the_cheapest_point_within_the_drop_is_chosen():
    curve = points((0, 1, 1), (-1, 0.9, 0.9), (0.5, 0.7, 0.7), (1.5, 0.5, 0.5), (20, 0.2, 0.2))
    shares = {drop: Wish("max_drop", drop).choose(curve).flops_share for drop in (0.0, 1.0, 2.0, 100.0)}
    assert shares == {0: 0.9, 1: 0.7, 2: 0.5, 100: 0.2}


def test_where_times_are_measured_the_quickest_point_within_the_drop_is_chosen():
    curve = points((0, 1, 1), (0.5, 0.7, 0.9), (0.4, 0.8, 0.8))
    assert Wish("max_drop", 1.0).choose(curve).time_share == 0.8
    # Closer than a hundredth is noise.
    assert Wish("max_drop", 1.0).choose(points((0, 1, 1), (0.5, 0.7, 0.801), (0.4, 0.8, 0.8))).flops_share == 0.7


def test_the_best_point_within_the_arithmetic_or_the_time_is_chosen():
    curve = points((0, 1, 1), (0.4, 0.8, 0.9), (0.3, 0.75, 0.8), (2, 0.5, 0.6))
    assert Wish("flops_share", 0.8).choose(curve).drop == 0.3
    assert Wish("flops_share", 0.6).choose(curve).drop == 2
    assert Wish("flops_share", 0.4).choose(curve) is None
    assert Wish("latency_ms", 17.0).choose(curve, plain_ms=20.0).drop == 0.3
    assert Wish("latency_ms", 11.0).choose(curve, plain_ms=20.0) is None


def test_a_point_slower_than_no_exits_is_passed_over():
    curve = points((0, 1, 1), (0, 0.9, 0.95), (0, 0.7, 1.02))
    assert Wish("max_drop", 1.0).choose(curve).flops_share == 0.9
    # All that meets the wish is slower: no exits.
    assert Wish("flops_share", 0.8).choose(curve) == curve[0]


def test_where_exits_cost_more_than_they_save_nobody_leaves():
    curve = [point.model_copy(update={"time_share": None}) for point in points((0, 1, 1), (0, 1.02, 1), (-9, 1.01, 1))]
    assert Wish("max_drop", 1.0).choose(curve) == curve[0]


@pytest.fixture
def options():
    random = np.random.default_rng(0)
    exits, units = 4, 60
    unsure = np.sort(random.random((exits, units)), axis=0)[::-1].astype(np.float32)
    right = random.random((exits, units)) < np.array([[0.5], [0.6], [0.7], [0.8]]) + 0.3 * (1 - unsure)
    return Options(
        layers=(1, 2, 3, 4),
        unsure=unsure,
        gain=right / units,
        spent=np.repeat(np.array([[0.25], [0.5], [0.75], [1.0]]) / units, units, axis=1),
        head=np.full(units, 0.01 / units),
    )


def tried(options, granularity):
    """Texts whose every exit is as good: what a Drawing reads of them, where it does not measure."""
    every = replace(options, gain=options.gain[:1].repeat(4, axis=0))
    like = ExitPolicy(layers=(4,), thresholds=(), granularity=granularity)
    made = Mock(spec=Trial, like=like, learned_from=np.zeros(4, bool))
    made.options.return_value = every
    return made


@pytest.mark.parametrize(("what", "limit", "reached"), [("max_drop", 1.0, 0.8), ("flops_share", 0.686, 0.686)])
def test_where_every_price_overshoots_the_wish_thresholds_are_lowered_until_it_is_met(
    options, monkeypatch, what, limit, reached
):
    # Dearer than the price says, as leaving costs those who stay: 5 points for the whole of the thresholds.
    def measure(drawing, policy):
        low = np.mean(policy.thresholds) if policy.is_early else 0.0
        return TradeOff(
            layers=policy.layers,
            thresholds=policy.thresholds,
            quality=0.5 - low / 20,
            drop=5 * low,
            drop_bound=5 * low,
            flops_share=1 - low,
            time_share=None,
            mean_exit_layer=1.0,
        )

    monkeypatch.setattr(Drawing, "_measure", measure)
    trial = tried(options, "token")
    drawing, wish = Drawing(trial, None, resamples(4, 2, seed=0)), Wish(what, limit)
    drawing.close_in(wish, max_exits=3)
    assert wish.choose(drawing.curve).flops_share == pytest.approx(reached, abs=0.05)


@pytest.mark.parametrize("granularity", ["sentence", "token"])
def test_sentences_are_also_searched_for_by_time(options, granularity, monkeypatch):
    # By the clock only the exit after layer 3 spares any time.
    times = np.repeat(np.array([[1.0], [1.0], [0.2], [1.0]]) / 60, 60, axis=1)
    monkeypatch.setattr(Clock, "priced", lambda _, given: replace(given, spent=times))
    clock = Clock.__new__(Clock)
    clock.plain_ms = 1.0

    def measure(drawing, policy):
        shown = {"quality": 0.5, "drop": 0.0, "drop_bound": 0.0, "flops_share": 0.5, "mean_exit_layer": 1.0}
        return TradeOff(layers=policy.layers, thresholds=policy.thresholds, time_share=0.5, **shown)

    monkeypatch.setattr(Drawing, "_measure", measure)
    drawing = Drawing(tried(options, granularity), clock, resamples(4, 2, seed=0))
    drawing.close_in(Wish("max_drop", 1.0), max_exits=1)
    assert {(1, 4), (4,)} <= {policy.layers for policy in drawing.points}
    assert ((3, 4) in {policy.layers for policy in drawing.points}) == (granularity == "sentence")


def value(options, price, layers, thresholds):
    rows = [options.layers.index(layer) for layer in layers]
    at = taken(options.unsure[rows], thresholds)
    units = np.arange(options.unsure.shape[1])
    return sum(
        options.gain[rows[place], n] - price * (options.spent[rows[place], n] + (place + 1) * options.head[n])
        for n, place in zip(units, at, strict=True)
    )


@pytest.mark.parametrize("price", [0.02, 0.2, 0.5, 2.0])
def test_with_one_exit_the_search_finds_the_best_of_all_thresholds(options, price):
    found = search(options, price, max_exits=1)
    tried = [((4,), ())]
    tried += [
        ((layer, 4), (float(u) + 1e-4,)) for layer in (1, 2, 3) for u in options.unsure[options.layers.index(layer)]
    ]
    assert value(options, price, *found) == pytest.approx(max(value(options, price, *one) for one in tried))


@pytest.mark.parametrize("price", [0.1, 0.5])
def test_more_exits_are_never_worse_and_no_more_than_allowed(options, price):
    found = [search(options, price, max_exits=number) for number in (1, 2, 3)]
    values = [value(options, price, *one) for one in found]
    assert values == sorted(values)
    assert [len(one.layers) - 1 <= number for number, one in enumerate(found, start=1)] == [True] * 3
    grid = [round(x, 3) for x in np.linspace(0, 1, 12)]
    every = max(value(options, price, (1, 2, 3, 4), cuts) for cuts in itertools.product(grid, repeat=3))
    assert values[-1] >= every - 0.01


def test_what_costs_nothing_is_left_to_the_last_exit_unless_an_exit_is_better(options):
    assert search(options, 0.0, max_exits=0).layers == (4,)
    dear = search(options, 100.0, max_exits=3)
    assert value(options, 100.0, *dear) == pytest.approx(value(options, 100.0, (1, 4), (1.0,)), rel=1e-2)


@pytest.mark.parametrize("kind", ["text_classification", "tagging"])
def test_a_tallys_score_is_the_tasks_own(kind):
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    drawn = np.random.default_rng(1).choice(labels, (2, 50, 6)).tolist()
    task = understood(Task(kind=kind, labels=labels if kind == "tagging" else ("x", "y", *labels)))
    if kind == "tagging":
        examples, answers = [TaggedExample(("a",) * 6, tuple(tags)) for tags in drawn[0]], drawn[1]
    else:
        examples, answers = [TextExample("a", None, tags[0]) for tags in drawn[0]], [tags[0] for tags in drawn[1]]
    assert 0 < tally(task, examples, answers).score == pytest.approx(score(task, examples, answers).value)
