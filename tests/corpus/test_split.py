import numpy as np
import pytest

from halfling.corpus.digests import seeded_keys
from halfling.corpus.split import Splitter

DIGESTS = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
SIZES = np.random.default_rng(1).integers(1, 5000, 500, dtype=np.int64)


def test_each_next_document_goes_to_the_emptiest_chunk():
    sizes = np.array([5, 3, 1, 4, 2, 9], np.int64)
    # 5 -> 0; 3 -> 1; 1 -> 2; 4 -> 2 (holds 1); 2 -> 1 (holds 3); now 5, 5, 5: 9 -> 0.
    assert Splitter(3, 100).deal(sizes).tolist() == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize("num_chunks", [1, 2, 5, 7])
def test_chunks_are_equal_to_within_one_document(num_chunks):
    chunk_of = Splitter(num_chunks, 10**9).deal(SIZES)
    filled = [SIZES[chunk_of == number].sum() for number in range(num_chunks)]
    assert max(filled) - min(filled) <= SIZES.max()
    assert sum(filled) == SIZES.sum()


def test_dealing_in_batches_is_dealing_at_once():
    splitter = Splitter(5, 700_000)
    batches = [splitter.deal(batch) for batch in np.array_split(SIZES, 7)]
    assert np.array_equal(np.concatenate(batches), Splitter(5, 700_000).deal(SIZES))


def test_the_first_document_that_does_not_fit_ends_the_dealing():
    splitter = Splitter(2, 10)
    assert splitter.deal(np.array([4, 5, 3, 1], np.int64)).tolist() == [0, 1]
    assert splitter.full
    assert splitter.deal(np.array([1], np.int64)).tolist() == []


def test_a_budget_below_one_document_still_deals_one():
    splitter = Splitter(2, 1)
    assert splitter.deal(np.array([9, 9], np.int64)).tolist() == [0]
    assert splitter.full


def test_the_order_follows_from_seed_and_digests_alone():
    keys = [seeded_keys(DIGESTS, seed) for seed in (3, 3, 1)]
    assert np.array_equal(keys[0], keys[1])
    assert np.array_equal(keys[0][::-1], seeded_keys(DIGESTS[::-1], 3))
    assert len(set(keys[0].tolist())) == 500
    assert not np.array_equal(np.argsort(keys[0]), np.argsort(keys[2]))


def test_a_larger_budget_takes_the_same_and_more():
    small, large = (len(Splitter(1, budget).deal(SIZES)) for budget in (100_000, 200_000))
    assert SIZES[:small].sum() <= 100_000 < SIZES[: small + 1].sum()
    assert small < large
