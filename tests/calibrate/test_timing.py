"""What follows from measured times, with times that are given."""

from pathlib import Path

import numpy as np
import pytest

from halfling.calibrate.search import Options, search, taken
from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.timing import Clock
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded
from halfling.tasks.task import Task


@pytest.fixture
def times(monkeypatch):
    """The seconds for both sentences, by what is timed; "3" is with every exit checked and nobody leaving early."""
    given = {"plain": 10.0, "1": 4.0, "2": 9.0, "3": 12.0, "policy": 8.0}
    monkeypatch.setattr(Clock, "_load", lambda *_: None)
    monkeypatch.setattr(Clock, "_medians", lambda _, calls: {name: given[name] for name in calls})
    return given


def measured(exits=(1, 2, 3)):
    encoded = [Encoded(np.array([0, 2]), np.array([0]))] * 2
    like = ExitPolicy(layers=(exits[-1],), thresholds=())
    place = Path()
    return Clock(CalibrateSettings(), model=place, task=Task(), like=like, exits=exits, encoded=encoded, scratch=place)


def expected(found, layers, left):
    return found.expected(ExitPolicy.uniform(layers, 0.5), np.array(left))


def test_times_of_a_policy_follow_from_leaving_and_checking(times):
    # Each early exit costs 1 to check. Leaving after layer 2 was timed with the exit of layer 1 checked too, which a
    # policy without that exit does not pay.
    found = measured()
    assert found.plain_ms == 5000
    assert expected(found, (1, 2, 3), [1, 2, 3, 3]) == pytest.approx((4 + 9 + 2 * (10 + 2)) / 40)
    assert expected(found, (2, 3), [2, 3]) == pytest.approx((8 + (10 + 1)) / 20)


def test_exits_that_seem_to_cost_nothing_do_not_save_time(times):
    times["3"] = 9.0
    found = measured()
    assert expected(found, (1, 2, 3), [3, 3]) == 1


def test_no_exits_take_the_time_of_no_exits(times):
    found = measured()
    plain = ExitPolicy(layers=(3,), thresholds=())
    assert found.expected(plain, np.array([3])) == found.measured(plain) == 1
    assert found.measured(ExitPolicy.uniform((1, 3), 0.5)) == pytest.approx(0.8)


@pytest.fixture
def options():
    """Ten sentences, surer from exit to exit, for whom every exit is as good as the last."""
    unsure = np.linspace(0.9, 0.1, 10) * np.array([[1.0], [0.8], [0.6]])
    same = np.ones((3, 10))
    return Options((1, 2, 3), unsure, same / 10, np.array([[0.3], [0.6], [1.0]]) * same / 10, 0.01 * same[0] / 10)


def test_what_the_search_spends_is_the_time_that_is_expected(times, options):
    found = measured()
    priced = found.priced(options)
    for layers, thresholds in (((1, 2, 3), (0.5, 0.4)), ((2, 3), (0.5,)), ((1, 3), (0.3,))):
        rows = [layer - 1 for layer in layers]
        at = taken(options.unsure[rows], thresholds)
        units = np.arange(10)
        spent = (priced.spent[np.array(rows)[at], units] + (at + 1) * priced.head).sum()
        left = np.array(layers)[at]
        assert 0 < at.sum() < 2 * len(at)
        whole = (options.spent[-1] + options.head).sum()
        assert spent == pytest.approx(whole * found.expected(ExitPolicy(layers=layers, thresholds=thresholds), left))


def test_an_exit_that_spares_arithmetic_and_no_time_is_not_searched_for(times, options):
    # The exit after layer 2 spares 0.4 of the arithmetic, and less of the time than its check costs.
    found = measured()
    some = Options((2, 3), options.unsure[1:], options.gain[1:], options.spent[1:], options.head)
    assert search(some, 0.01, 3).layers == (2, 3)
    times["2"] = 11.5
    assert search(measured().priced(some), 0.01, 3).layers == (3,)
    assert search(found.priced(some), 0.01, 3).layers == (2, 3)
