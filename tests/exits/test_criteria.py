import math

import numpy as np
import pytest

from halfling.exits.criteria import Doubt, improbability, leaves, narrowness, normalised_entropy, pool_tokens
from halfling.exits.policy import ExitPolicy


def test_entropy_of_one_half_one_quarter_one_quarter_is_known_by_hand():
    # -(1/2 ln 1/2 + 2 * 1/4 ln 1/4) = 1.5 ln 2
    logits = np.log(np.array([[0.5, 0.25, 0.25]], dtype=np.float32))
    assert normalised_entropy(logits)[0] == pytest.approx(1.5 * math.log(2) / math.log(3), abs=1e-6)


def test_entropy_of_four_of_seven_equal_classes_is_known_by_hand():
    # Four classes share everything, three have nothing: ln 4 of at most ln 7.
    logits = np.array([[0, 0, 0, 0, -1e4, -1e4, -1e4]], dtype=np.float32)
    assert normalised_entropy(logits)[0] == pytest.approx(math.log(4) / math.log(7), abs=1e-6)


def test_margin_and_maximum_probability_of_one_half_three_tenths_one_fifth_are_known_by_hand():
    logits = np.log(np.array([[0.2, 0.5, 0.3]]))
    assert narrowness(logits).item() == pytest.approx(1 - (0.5 - 0.3))
    assert improbability(logits).item() == pytest.approx((1 - 0.5) / (1 - 1 / 3))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_uniform_logits_are_entirely_uncertain(classes):
    uncertainty = normalised_entropy(np.full((2, classes), 3.25, dtype=np.float32))
    assert uncertainty == pytest.approx(np.ones(2), abs=1e-6)
    assert (uncertainty <= 1).all()


@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_surest_input_is_zero_and_not_nan(scale, classes, dtype):
    logits = np.full((1, classes), -scale, dtype=dtype)
    logits[0, 1] = scale
    uncertainty = normalised_entropy(logits)
    assert uncertainty.dtype == np.float32
    assert uncertainty.tolist() == [0.0]


def test_half_precision_logits_are_judged_in_float32():
    logits = np.array([[0.3, -1.7, 2.2, 0.9, 0.0, -0.4, 1.1]], dtype=np.float16)
    assert normalised_entropy(logits).tolist() == normalised_entropy(logits.astype(np.float32)).tolist()


def test_entropy_does_not_see_a_constant_added_to_the_logits():
    logits = np.array([[1.0, -2.0, 0.5]], dtype=np.float32)
    assert normalised_entropy(logits + 1000) == pytest.approx(normalised_entropy(logits), abs=1e-4)


def test_entropy_leaves_the_logits_and_every_leading_axis_as_they_were():
    logits = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    before = logits.copy()
    uncertainty = normalised_entropy(logits)
    assert uncertainty.shape == (2, 5)
    assert uncertainty[1, 3] == normalised_entropy(logits[1, 3])
    assert (logits == before).all()


def test_threshold_zero_lets_nobody_leave_and_one_keeps_only_the_uniform():
    uncertainty = np.array([0.0, 0.5, 1.0], dtype=np.float32)
    assert leaves(uncertainty, 0.0).tolist() == [False, False, False]
    assert leaves(uncertainty, 0.5).tolist() == [True, False, False]
    assert leaves(uncertainty, 1.0).tolist() == [True, True, False]


def test_nan_never_leaves():
    assert leaves(np.array([np.nan], dtype=np.float32), 1.0).tolist() == [False]


TOKENS = np.array([0.2, 0.4, 0.1, 0.3], dtype=np.float32)
COUNTS = np.array([2, 2])


@pytest.mark.parametrize(("how", "expected"), [("mean", [0.3, 0.2]), ("max", [0.4, 0.3])])
def test_pooling_keeps_to_each_sentence(how, expected):
    pooled = pool_tokens(TOKENS, COUNTS, how)
    assert pooled.dtype == np.float32
    assert pooled == pytest.approx(expected)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_pooling_does_not_see_who_else_is_there(how):
    counts = np.array([7, 200, 1, 31])
    tokens = np.random.default_rng(0).random(counts.sum(), dtype=np.float32)
    each = np.split(tokens, np.cumsum(counts)[:-1])
    alone = [pool_tokens(own, np.array([len(own)]), how)[0] for own in each]
    assert pool_tokens(tokens, counts, how).tolist() == alone


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_sentence_without_tagged_tokens_never_leaves_early(how):
    pooled = pool_tokens(TOKENS[:2], np.array([0, 2]), how)
    assert pooled[0] == 1.0
    assert not leaves(pooled[:1], 1.0).any()


def test_patience_of_a_sentence_that_stays_is_its_own():
    doubt = Doubt(ExitPolicy(layers=(1, 2, 3), thresholds=(0.0, 0.0), criterion="patience", patience=2))
    counts, first = np.array([2, 1, 2]), np.eye(3)[[0, 1, 2, 0, 1]]
    assert doubt(first, counts).tolist() == [1, 1, 1]
    doubt.stay(np.array([0, 2]))
    # The first changes its second answer, the last keeps both.
    assert doubt(np.eye(3)[[0, 2, 0, 1]], np.array([2, 2])).tolist() == [1, 0.5]
