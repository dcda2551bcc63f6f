import numpy as np
import pytest

from halfling.corpus.split import Dealer, choose, seeded_keys, seeded_order

DIGESTS = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
SIZES = np.random.default_rng(1).integers(1, 5000, 500, dtype=np.int64)


def test_each_next_document_goes_to_the_emptiest_chunk():
    sizes = np.array([5, 3, 1, 4, 2, 9], np.int64)
    # 5 -> 0; 3 -> 1; 1 -> 2; 4 -> 2 (holds 1); 2 -> 1 (holds 3); now 5, 5, 5: 9 -> 0.
    assert Dealer(3, 100).deal(sizes).tolist() == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize("num_chunks", [1, 2, 5, 7])
def test_chunks_are_equal_to_within_one_document(num_chunks):
    chunk_of = Dealer(num_chunks, 10**9).deal(SIZES)
    filled = [SIZES[chunk_of == number].sum() for number in range(num_chunks)]
    assert max(filled) - min(filled) <= SIZES.max()
    assert sum(filled) == SIZES.sum()


def test_dealing_in_batches_is_dealing_at_once():
    dealer = Dealer(5, 700_000)
    batches = [dealer.deal(batch) for batch in np.array_split(SIZES, 7)]
    assert np.array_equal(np.concatenate(batches), Dealer(5, 700_000).deal(SIZES))


def test_the_first_document_that_does_not_fit_ends_the_dealing():
    dealer = Dealer(2, 10)
    assert dealer.deal(np.array([4, 5, 3, 1], np.int64)).tolist() == [0, 1]
    assert dealer.full
    assert dealer.deal(np.array([1], np.int64)).tolist() == []


def test_a_budget_below_one_document_still_deals_one():
    dealer = Dealer(2, 1)
    assert dealer.deal(np.array([9, 9], np.int64)).tolist() == [0]
    assert dealer.full


def test_the_order_follows_from_seed_and_digests_alone():
    arrival = np.random.default_rng(2).permutation(500)
    assert np.array_equal(DIGESTS[seeded_order(DIGESTS, 3)], DIGESTS[arrival][seeded_order(DIGESTS[arrival], 3)])
    assert len(set(seeded_keys(DIGESTS, 3).tolist())) == 500


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
