from collections import Counter

import numpy as np
import torch

from halfling.training.order import epochs_order


def test_every_epoch_reads_each_example_once_in_an_order_of_its_own():
    order = epochs_order([5] * 10, epochs=3, batch_size=5, seed=0)
    epochs = [order[i : i + 10] for i in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_follows_from_the_seed_alone():
    np.random.seed(1)
    first = epochs_order(range(50), epochs=2, batch_size=4, seed=7)
    np.random.seed(2)
    torch.manual_seed(2)
    assert epochs_order(range(50), epochs=2, batch_size=4, seed=7) == first
    assert epochs_order(range(50), epochs=2, batch_size=4, seed=8) != first


def test_the_first_epochs_of_a_longer_training_are_those_of_a_shorter():
    short = epochs_order(range(30), epochs=2, batch_size=4, seed=0)
    assert epochs_order(range(30), epochs=5, batch_size=4, seed=0)[: len(short)] == short


def test_batches_hold_examples_of_like_length():
    lengths = np.random.default_rng(0).integers(5, 100, 400).tolist()

    def spread(order):
        batches = np.array(lengths)[order].reshape(-1, 8)
        return (batches.max(axis=1) - batches.min(axis=1)).mean()

    alike = epochs_order(lengths, epochs=1, batch_size=8, seed=0)
    assert sorted(alike) == list(range(400))
    assert spread(alike) < spread(np.random.default_rng(0).permutation(400)) / 10
    means = np.array(lengths)[alike].reshape(-1, 8).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(50))[0, 1]) < 0.3, "the batches themselves are not in order of length"


def test_what_an_epoch_leaves_out_is_chance():
    lengths = list(range(43))
    left_out = Counter()
    for seed in range(30):
        order = epochs_order(lengths, epochs=1, batch_size=4, seed=seed)
        assert len(order) == len(set(order)) == 40
        left_out.update(set(range(43)) - set(order))
    assert len(left_out) > 20


def test_examples_that_are_shared_out_are_read_in_one_epoch_each():
    order = epochs_order([5] * 14, epochs=3, batch_size=1, seed=0, once=7)
    assert Counter(order) == Counter({**dict.fromkeys(range(7), 3), **dict.fromkeys(range(7, 14), 1)})
    epochs = [order[:10], order[10:19], order[19:]]
    assert [{*epoch} >= {*range(7)} for epoch in epochs] == [True] * 3
    assert sorted(epochs_order([5] * 2, epochs=3, batch_size=1, seed=0, once=2)) == [0, 1], "an epoch has none"


def test_fewer_examples_than_a_batch_are_one_batch():
    assert sorted(epochs_order([5, 6, 7], epochs=1, batch_size=8, seed=0)) == [0, 1, 2]
