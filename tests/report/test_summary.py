import pytest

from halfling.cost.latency import Ratio
from halfling.report import summary
from halfling.report.gather import join
from halfling.results import Form


def _rows(qualities, cost):
    form = {name: name for name in ("model", "task", "language", "runtime", "precision", "exits")}
    cases = {tuple(getattr(q, name) for name in form) for q in qualities}
    return join(qualities, [cost(**dict(zip(form, case, strict=True))) for case in sorted(cases)])


def test_mean_and_spread_over_three_seeds_are_known_by_hand(quality, cost):
    rows = _rows([quality(seed=seed, score=score) for seed, score in enumerate((0.5, 0.6, 0.7))], cost)
    mean = summary.over_seeds(rows, "score")
    assert mean == pytest.approx((0.6, 0.1))  # sample deviation: sqrt((0.01 + 0 + 0.01) / 2)


def test_one_seed_has_no_spread_however_many_languages(quality, cost):
    rows = _rows([quality(language="ru", score=0.4), quality(language="sw", score=0.6)], cost)
    assert summary.over_seeds(rows, "score") == (pytest.approx(0.5), None)
    assert summary.over_seeds([], "score") is None


def test_a_mean_over_languages_is_absent_when_any_seed_lacks_one_or_was_trained_on_it(quality, cost):
    rows = _rows([quality(language="ru"), quality(language="sw"), quality(language="sw", seed=1)], cost)
    assert summary.mean_score(rows, ["sw"], trained_on=False) == (pytest.approx(0.6), pytest.approx(0.0))
    assert summary.mean_score(rows, ["sw"], trained_on=True) is None
    assert summary.mean_score(rows, ["ru", "sw"], trained_on=False) is None
    assert summary.mean_score(rows, [], trained_on=False) is None


def test_the_cheapest_model_stands_first_and_what_is_served_last(quality, cost):
    forms = [
        {},
        {"exits": True},
        {"precision": "float32"},
        {"precision": "float32", "exits": True},
        {"runtime": "pytorch", "precision": "float32"},
    ]
    qualities = [quality("b", gflops=2, **form) for form in forms] + [quality("a", gflops=3), quality("c", gflops=1)]
    found = summary.forms(_rows(qualities, cost))
    assert [form.model for form in found] == ["c", *"bbbbb", "a"]
    assert [form.label for form in found[1:6]] == [
        "PyTorch",
        "engine float32",
        "engine float32, exits",
        "engine int8",
        "engine int8, exits",
    ]


def test_languages_stand_in_the_given_order_and_strangers_last(quality, cost):
    rows = _rows([quality(language=code) for code in ("xx", "en", "sw", "aa")], cost)
    assert summary.languages(rows, ("en", "ru", "sw")) == ["en", "sw", "aa", "xx"]


def test_savings_reproduce_the_thesis_own_failure(quality, cost):
    # Its Swahili rows: 7.46 of 10.88 of the arithmetic took 30.6 for 25.6 ms: realisation 1.74.
    qualities = [
        quality("student-exits", gflops=10.88, score=0.660),
        quality("student-exits", exits=True, gflops=7.46, score=0.623),
        quality("student", score=0.657),
    ]
    costs = [
        cost("student-exits", rounds_ms_b1=(25.6, 51.2), timed_gflops=10.88),
        cost("student-exits", exits=True, rounds_ms_b1=(30.6, 61.2), timed_gflops=7.46),
        cost("student", rounds_ms_b1=(1.0, 1.0)),
    ]
    (saving,) = summary.savings(join(qualities, costs), costs, "-exits", ())
    assert (saving.form, saving.language) == (Form("student-exits", "engine", "int8", True), "sw")
    assert saving.flops_share == pytest.approx(0.686, abs=5e-4)
    # The second round was slow for both: within rounds there is no spread.
    assert saving.time_b1.model_dump() == pytest.approx({"median": 1.195, "lower": 1.195, "upper": 1.195}, abs=5e-4)
    assert saving.realisation(saving.time_b1) == pytest.approx(1.74, abs=5e-3)
    assert saving.time_b32.median == pytest.approx(1)
    assert saving.score_change == (pytest.approx(-3.7), None)
    assert saving.plain_change == (pytest.approx(-3.4), None)


def test_a_change_is_taken_within_each_seed(quality, cost):
    scores = {False: (0.5, 0.7), True: (0.48, 0.66)}
    qualities = [quality(seed=n, exits=on, score=s[n]) for on, s in scores.items() for n in (0, 1)]
    costs = [cost(), cost(exits=True)]
    (saving,) = summary.savings(join(qualities, costs), costs, "-exits", ())
    assert saving.score_change == pytest.approx((-3, 2**0.5))
    assert saving.plain_change is None  # the model is no early-exit form of another


@pytest.mark.parametrize("other", [{"language": "ru"}, {"precision": "float32"}, {"model": "student"}])
def test_exits_are_judged_within_one_model_form_and_language(quality, cost, other):
    case = {"model": "student-exits"} | other
    costs = [cost("student-exits", exits=True), cost(**case)]
    rows = join([quality("student-exits", exits=True), quality(**case)], costs)
    assert summary.savings(rows, costs, "-exits", ()) == []


def test_what_holds_one_is_noise():
    assert summary.is_noise(Ratio(median=0.98, lower=0.95, upper=1.03))
    assert not summary.is_noise(Ratio(median=0.98, lower=0.95, upper=0.99))
