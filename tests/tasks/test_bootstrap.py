import numpy as np
import pytest

from halfling.tasks.bootstrap import drop_bounds, resamples
from halfling.tasks.score import Tally


def test_the_bounds_are_quantiles_of_the_drops_of_both_models_on_the_same_resamples():
    # F1 of three sentences: sums of (2 x right spans, found and wanted spans).
    before = Tally(np.array([2.0, 4.0, 0.0]), np.array([2.0, 4.0, 2.0]))
    after = Tally(np.array([2.0, 2.0, 0.0]), np.array([2.0, 4.0, 3.0]))
    draws = np.array([[1, 1, 1]] * 9 + [[2, 1, 0]] * 8 + [[0, 0, 2]] * 4, np.uint8)
    # 6 / 8 less 4 / 9; 8 / 8 less 6 / 8; nothing right before or after.
    drops = [75 - 400 / 9] * 9 + [25.0] * 8 + [0.0] * 4
    assert drop_bounds(before, after, draws) == pytest.approx((0, 75 - 400 / 9))
    assert drop_bounds(after, before, draws) == pytest.approx((400 / 9 - 75, 0))
    ranked = np.concatenate([draws, np.repeat([[1, 3, 0]], 79, axis=0).astype(np.uint8)])  # 100 - 8 / 14 of 100
    drops = sorted([*drops, *[100 - 800 / 14] * 79])
    assert drop_bounds(before, after, ranked) == pytest.approx((drops[5], drops[94]))


def test_the_bound_covers_the_drop_and_shrinks_with_more_examples():
    def drop(examples: int) -> tuple[float, float]:
        random = np.random.default_rng(2)
        plain = random.random(examples) < 0.8
        early = np.where(random.random(examples) < 0.1, random.random(examples) < 0.6, plain)
        ones = np.ones(examples)
        tallies = [Tally(right.astype(float), ones) for right in (plain, early)]
        real = 100 * (tallies[0].score - tallies[1].score)
        return real, drop_bounds(*tallies, resamples(examples, 500, seed=0)).upper

    (few, few_bound), (many, many_bound) = drop(400), drop(20_000)
    # One-sided 95 % of a paired difference: 1.645 standard errors of sqrt(0.1 * P(differ)) / sqrt(n), roughly.
    assert 0.5 < few_bound - few < 3
    assert 0.05 < many_bound - many < 0.5


def test_a_model_that_answers_alike_has_no_drop_to_bound():
    same = Tally(np.array([1.0, 0.0, 1.0]), np.ones(3))
    assert drop_bounds(same, same, resamples(3, 100, seed=0)) == (0, 0)
