import numpy as np
import pytest

from halfling.corpus.chunk import choose, deal, seeded_order

DIGESTS = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
SIZES = np.random.default_rng(1).integers(1, 5000, 500, dtype=np.int64)


def test_each_next_document_goes_to_the_emptiest_chunk():
    sizes = np.array([5, 3, 1, 4, 2, 9], np.int64)
    # 5 -> 1; 3 -> 2; 1 -> 3; 4 -> 3 (holds 1); 2 -> 2 (holds 3); now 5, 5, 5: 9 -> 1.
    assert deal(np.arange(6), sizes, 3).tolist() == [1, 2, 3, 3, 2, 1]


def test_what_was_not_chosen_is_in_no_chunk():
    assert deal(np.array([2, 0]), np.array([5, 5, 5], np.int64), 2).tolist() == [2, 0, 1]


@pytest.mark.parametrize("num_chunks", [1, 2, 5, 7])
def test_chunks_are_equal_to_within_one_document(num_chunks):
    chunk_of = deal(seeded_order(DIGESTS, 0), SIZES, num_chunks)
    filled = [SIZES[chunk_of == number].sum() for number in range(1, num_chunks + 1)]
    assert max(filled) - min(filled) <= SIZES.max()
    assert sum(filled) == SIZES.sum()


def test_the_order_of_arrival_does_not_matter():
    arrival = np.random.default_rng(2).permutation(500)
    first = deal(seeded_order(DIGESTS, 3), SIZES, 5)
    other = deal(seeded_order(DIGESTS[arrival], 3), SIZES[arrival], 5)
    assert np.array_equal(first[arrival], other)


def test_another_seed_is_another_order():
    orders = [seeded_order(DIGESTS, seed) for seed in (0, 0, 1)]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert sorted(orders[2].tolist()) == list(range(500))


def test_a_larger_budget_takes_the_same_and_more():
    order = seeded_order(DIGESTS, 0)
    small, large = choose(order, SIZES, 100_000), choose(order, SIZES, 200_000)
    assert np.array_equal(small, large[: len(small)])
    assert SIZES[small].sum() <= 100_000 < SIZES[large[: len(small) + 1]].sum()


def test_a_budget_below_one_document_still_takes_one():
    assert len(choose(np.arange(3), np.array([9, 9, 9], np.int64), 1)) == 1
    assert len(choose(np.arange(3), np.array([9, 9, 9], np.int64), 18)) == 2
