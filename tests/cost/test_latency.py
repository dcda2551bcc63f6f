from statistics import median

import pytest

from halfling.cost.latency import interleaved, paired_ratio, spread


class Clock:
    """A clock that moves only when a call says so."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def __call__(self):
        return self.now

    def call(self, name, seconds):
        takes = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(takes)

        return run


def test_calls_take_turns_and_every_second_round_runs_backwards():
    clock = Clock()
    calls = {name: clock.call(name, [1] * 3) for name in "ab"}
    interleaved(calls, rounds=3, warmup=0, clock=clock)
    assert "".join(clock.order) == "abbaab"


def test_the_warm_up_is_run_and_not_counted():
    clock = Clock()
    seconds = interleaved({"a": clock.call("a", [9, 9, 2, 3])}, rounds=2, warmup=2, clock=clock)
    assert len(clock.order) == 4
    assert seconds == {"a": [2, 3]}


def test_the_spread_is_known_by_hand():
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == pytest.approx((4 - 2) / 3)  # it does not see the outlier


def test_a_clock_that_stands_still_gives_no_time_and_no_spread():
    seconds = interleaved({"a": lambda: None}, rounds=2, warmup=0, clock=lambda: 5.0)
    assert (seconds["a"], spread(seconds["a"])) == ([0, 0], 0)


def test_the_real_clock_sees_a_slower_call():
    seconds = interleaved({"slow": lambda: sum(range(200_000)), "fast": lambda: None}, rounds=5, warmup=1)
    assert median(seconds["slow"]) > median(seconds["fast"])


def test_a_ratio_is_taken_within_each_round_before_the_median():
    # The third round was slow for both; the ratio of the medians would be 4 / 3.
    ratio = paired_ratio([2.0, 2.0, 40.0, 4.0, 4.0], [1.0, 1.0, 20.0, 3.0, 4.0])
    assert ratio.median == 2.0
    assert (ratio.lower, ratio.upper) == (pytest.approx(4 / 3), 2.0)


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1.0, 2.0], [1.0, 2.0, 3.0])
