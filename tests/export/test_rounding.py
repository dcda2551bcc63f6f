"""Weights in 8 bits, rounded for what they read."""

import numpy as np
import pytest

from halfling.export.rounding import Evening, Inputs, evening, quantise, rounded, steps


@pytest.fixture
def rows():
    """A function that makes inputs whose channels go together, some of them large."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(12, 96)) * np.exp(random.normal(size=96))

    def make(num):
        return (random.normal(size=(num, 12)) @ mixed + 0.1 * random.normal(size=(num, 96)) + 3).astype(np.float32)

    return make


@pytest.fixture
def weight():
    return np.random.default_rng(1).normal(size=(70, 96)).astype(np.float32)


def seen(rows):
    mean = rows.mean(axis=0)
    return Inputs(mean, np.abs(rows - mean).max(axis=0), np.cov(rows.T, bias=True).astype(np.float32))


def test_rounding_for_what_is_read_changes_outputs_less_than_to_the_nearest(rows, weight):
    scales = steps(weight)
    nearest = np.round(weight / scales[:, None])
    found = rounded(weight, scales, seen(rows(2000)).covariance)
    assert np.abs(found).max() <= 127
    new = rows(500)
    new = new - new.mean(axis=0)
    errors = [np.square(new @ (each * scales[:, None] - weight).T).mean() for each in (found, nearest)]
    assert errors[0] < 0.3 * errors[1]


def test_channels_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest(weight):
    scales, variances = steps(weight), np.random.default_rng(2).uniform(0.1, 9, 96)
    np.testing.assert_array_equal(rounded(weight, scales, np.diag(variances)), np.round(weight / scales[:, None]))


def test_inputs_that_were_never_seen_are_no_error(weight):
    scales = steps(weight)
    np.testing.assert_array_equal(rounded(weight, scales, np.zeros((96, 96))), np.round(weight / scales[:, None]))
    np.testing.assert_array_equal(evening(np.zeros(96, np.float32), weight), 1)


def test_the_mean_output_stays_whatever_is_done_to_the_channels(rows, weight):
    inputs, bias = seen(rows(300)), np.arange(70, dtype=np.float32)
    for even in (Evening.none(96), Evening(inputs.mean + 1, evening(inputs.reach, weight))):
        found = quantise(weight, bias, inputs, even)
        factors, shifts = even.rows()
        given = (found.values * found.scales[:, None]) @ (inputs.mean * factors + shifts) + found.bias
        np.testing.assert_allclose(given, weight @ inputs.mean + bias, rtol=1e-3, atol=1e-3)


def test_what_layers_read_is_counted_over_all_tokens():
    import torch

    from halfling.export.int8 import Moments

    parts = [torch.randn(1, num, 5) * 0.1 + 100 for num in (1, 7, 30)]
    moments = Moments(5)
    for part in parts:
        moments.add(part)
    found, rows = moments.inputs(), torch.cat(parts, dim=1)[0].double().numpy()
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.reach, np.abs(rows - rows.mean(axis=0)).max(axis=0), atol=1e-4)
