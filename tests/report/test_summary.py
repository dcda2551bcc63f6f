import pytest

from halfling.report import summary
from halfling.report.gather import join


def _rows(qualities, cost, **changes):
    cases = {(q.model, q.task, q.language) for q in qualities}
    return join(qualities, [cost(*case, **changes) for case in sorted(cases)])


def test_the_score_is_accuracy_for_xnli_and_f1_for_wikiann(quality, cost):
    both = [quality(task=task, accuracy=0.9, f1=0.6) for task in ("wikiann", "xnli")]
    assert [summary.score(row) for row in _rows(both, cost)] == [0.6, 0.9]


def test_mean_and_spread_over_three_seeds_are_known_by_hand(quality, cost):
    rows = _rows([quality(seed=seed, f1=f1) for seed, f1 in enumerate((0.5, 0.6, 0.7))], cost)
    mean = summary.over_seeds(rows, summary.score)
    assert mean == pytest.approx((0.6, 0.1))  # sample deviation: sqrt((0.01 + 0 + 0.01) / 2)


def test_one_seed_has_no_spread_however_many_languages(quality, cost):
    rows = _rows([quality(language="ru", f1=0.4), quality(language="sw", f1=0.6)], cost)
    assert summary.over_seeds(rows, summary.score) == (pytest.approx(0.5), None)
    assert summary.over_seeds([], summary.score) is None


def test_a_mean_over_languages_is_absent_when_any_seed_lacks_one(quality, cost):
    rows = _rows([quality(language="ru"), quality(language="sw"), quality(language="sw", seed=1)], cost)
    assert summary.mean_score(rows, "student", ["sw"]) == (pytest.approx(0.6), pytest.approx(0.0))
    assert summary.mean_score(rows, "student", ["ru", "sw"]) is None
    assert summary.mean_score(rows, "student", []) is None


def test_the_cheapest_model_stands_first(quality, cost):
    rows = _rows([quality("a", gflops=3), quality("b", gflops=1), quality("c", gflops=2)], cost)
    assert summary.models(rows) == ["b", "c", "a"]


def test_languages_stand_in_the_given_order_and_strangers_last(quality, cost):
    rows = _rows([quality(language=code) for code in ("xx", "en", "sw", "aa")], cost)
    assert summary.languages(rows, ("en", "ru", "sw")) == ["en", "sw", "aa", "xx"]


def test_savings_reproduce_the_thesis_own_failure(quality, cost):
    # Its Swahili WikiANN rows: 7.46 of 10.88 of the arithmetic took 30.6 for 25.6 ms: realisation 1.74.
    qualities = [quality(gflops=10.88, f1=0.657), quality("student-exits", gflops=7.46, f1=0.623)]
    costs = [cost(latency_ms_b1=25.6, timed_gflops=10.88), cost("student-exits", latency_ms_b1=30.6, timed_gflops=7.46)]
    (saving,) = summary.savings(join(qualities, costs), costs, "-exits")
    assert (saving.model, saving.plain) == ("student-exits", "student")
    assert saving.flops_share == pytest.approx(0.686, abs=5e-4)
    assert saving.time_share_b1 == pytest.approx(1.195, abs=5e-4)
    assert saving.realisation_b1 == pytest.approx(1.74, abs=5e-3)
    assert saving.time_share_b32 == pytest.approx(1)
    assert saving.quality_change == pytest.approx(-3.4)


def test_nothing_is_compared_across_languages_or_with_itself(quality, cost):
    rows = _rows([quality(language="ru"), quality("student-exits", language="sw")], cost)
    assert summary.savings(rows, [], "-exits") == []
