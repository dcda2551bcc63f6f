import pytest

from halfling.report.gather import join
from halfling.report.headline import headline

TEACHER = {"model": "teacher", "runtime": "pytorch", "precision": "float32"}


@pytest.fixture
def told(quality, cost):
    """Return a function that gives the headline of cases: (changes of the quality, changes of the cost)."""

    def of(*cases, teacher="teacher"):
        names = ("model", "language", "runtime", "precision", "exits")
        costs = [cost(**{k: v for k, v in case.items() if k in names}, **more) for case, more in cases]
        rows = join([quality(**case) for case, _ in cases], costs)
        return headline(rows, costs, teacher, "-exits")

    return of


def _ms(*rounds):
    return {"rounds_ms_b1": rounds, "rounds_ms_b32": rounds}


def test_the_three_figures_are_known_by_hand(told):
    line = told(
        (TEACHER | {"language": "sw", "score": 0.8}, _ms(30.0, 40.0) | {"disk_bytes": 2_240_000_000}),
        (TEACHER | {"language": "ur", "score": 0.5}, _ms(50.0, 40.0) | {"disk_bytes": 2_240_000_000}),
        ({"model": "s-exits", "language": "sw", "exits": True, "score": 0.76}, _ms(4.0, 4.0)),
        ({"model": "s-exits", "language": "ur", "exits": True, "score": 0.45}, _ms(4.0, 6.0)),
    )
    kept, faster, smaller = line.figures
    assert kept.number == "90.0 %"
    assert kept.meaning == "of teacher's span F1 in Urdu, the worst language; 92.5 % on average over 2 languages"
    # Means over languages: 40 and 40 ms against 4 and 5 ms.
    assert faster.number == "8.89×"
    assert faster.meaning == (
        "faster: a text alone takes 4.50 ms instead of 40.00 ms; quartiles over rounds [8.50,\u00a09.50]"
    )
    assert (smaller.number, smaller.meaning) == ("22.4×", "smaller on disk: 100 MB instead of 2,240 MB")
    assert "s-exits (engine int8, exits) with teacher (transformers, PyTorch float32)" in line.compared
    assert "one seed" in line.compared


def test_a_difference_whose_quartiles_hold_one_is_noise(told):
    line = told((TEACHER, _ms(9.0, 12.0)), ({"model": "s"}, _ms(10.0, 10.0)))
    assert line.figures[1].meaning.startswith("noise: ")


@pytest.mark.parametrize(
    ("there", "product"),
    [
        ([{"exits": True}, {}, {"precision": "float32", "exits": True}], "s (engine int8, exits)"),
        ([{}, {"precision": "float32", "exits": True}], "s (engine int8)"),
        ([{"precision": "float32"}, {"runtime": "pytorch", "precision": "float32"}], "s (engine float32)"),
        ([{"runtime": "pytorch", "precision": "float32"}], "s (PyTorch)"),
        ([{"score": 0.5}, {"model": "better", "score": 0.7}], "better (engine int8)"),
    ],
)
def test_the_product_is_what_is_served_and_of_several_models_the_best(told, there, product):
    line = told((TEACHER, {}), *(({"model": "s"} | case, {}) for case in there))
    assert line.compared.startswith(f"Compared: {product} with teacher")


def test_without_a_teacher_a_model_is_compared_with_itself_in_transformers(told):
    line = told(({"model": "mine", "runtime": "pytorch", "precision": "float32"}, {}), ({"model": "mine-exits"}, {}))
    assert "with mine (transformers" in line.compared


def test_one_model_in_one_form_is_no_comparison(told):
    assert told((TEACHER, {})) is None
    assert told(({"model": "s"}, {})) is None


def test_a_teacher_that_scores_nothing_leaves_nothing_to_keep(told):
    line = told((TEACHER | {"score": 0.0}, {}), ({"model": "s"}, {}))
    assert line.figures[0].number == "–"


def test_scores_are_compared_on_the_seeds_that_both_have(quality, cost):
    forms = [TEACHER, {"model": "s"}]
    scores = [(TEACHER, 0, 0.9), (TEACHER, 1, 0.5), (TEACHER, 2, 0.5), (forms[1], 0, 0.81)]
    rows = join(
        [quality(**form, seed=seed, score=score) for form, seed, score in scores], [cost(**form) for form in forms]
    )
    line = headline(rows, [cost(**form) for form in forms], "teacher", "-exits")
    assert line.figures[0].number == "90.0 %"
    assert "one seed" in line.compared
