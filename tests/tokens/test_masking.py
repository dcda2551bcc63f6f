import numpy as np
import pytest
import torch

from halfling.errors import HalflingError
from halfling.tokens.masking import MaskedBlocks

MASK = 41


def read(packed, **changes):
    values = {"epochs": 5, "blocks_per_step": 2, "vocab_size": 42, "mask_id": MASK, "seed": 0}
    return MaskedBlocks(packed, **values | changes)


def unmasked(item):
    return item["input_ids"].where(item["labels"] == -100, item["labels"]).tolist()


@pytest.fixture
def chunks(full_blocks):
    return full_blocks(3, 6)


@pytest.fixture
def packed(tmp_path, write_packed, chunks):
    return write_packed(tmp_path / "packed", chunks)


def test_epoch_e_reads_chunk_e_and_begins_again_after_the_last(packed, chunks):
    blocks = read(packed)
    assert len(blocks) == 30
    for epoch, chunk in enumerate([0, 1, 2, 0, 1]):
        items = [unmasked(blocks[place]) for place in range(6 * epoch, 6 * epoch + 6)]
        assert sorted(items) == sorted(chunks[chunk])
    assert [unmasked(blocks[n]) for n in range(6)] != [unmasked(blocks[n]) for n in range(18, 24)]


def test_the_tenth_chunk_comes_after_the_ninth(tmp_path, write_packed):
    packed = write_packed(tmp_path / "ten", [[[0, *[10 + chunk] * 6, 2]] * 2 for chunk in range(11)])
    blocks = read(packed, epochs=11)
    assert [unmasked(blocks[2 * epoch])[1] for epoch in range(11)] == [10 + chunk for chunk in range(11)]


def test_masks_follow_from_seed_and_place_alone(packed):
    first, again = read(packed), read(packed, epochs=3)
    torch.manual_seed(5)
    for place in (7, 0, 12):  # not in order, as a resumed run or several workers read them
        assert all(torch.equal(first[place][key], again[place][key]) for key in first[place])
    places = [first.source(place) for place in range(30)]
    assert places[:18] == [again.source(place) for place in range(18)]
    # Chunk 1 comes back in epoch 4 under other masks.
    later = places.index(places[0], 18)
    assert not torch.equal(first[0]["labels"], first[later]["labels"])
    other = read(packed, seed=1)
    assert any(not torch.equal(first[n]["labels"], other[n]["labels"]) for n in range(6))


def test_no_seed_reads_in_the_order_of_anothers_next_epoch(packed):
    orders = {}
    for seed in range(3):
        blocks = read(packed, seed=seed, epochs=6)
        of_chunk_1 = [number for chunk, number in map(blocks.source, range(len(blocks))) if chunk == 0]
        half = len(of_chunk_1) // 2
        orders |= {(seed, 0): tuple(of_chunk_1[:half]), (seed, 3): tuple(of_chunk_1[half:])}
    assert len({*orders.values()}) == len(orders)


@pytest.mark.parametrize(("share", "masked"), [(0.15, 4), (0.5, 12), (0.001, 1), (0.74, 18)])
def test_a_fixed_share_of_each_block_is_masked(packed, share, masked):
    blocks = read(packed, mask_share=share)
    assert len({int((blocks[n]["input_ids"] == 0).sum()) for n in range(30)}) == 3, "not all of equally many sequences"
    assert {int((blocks[n]["labels"] != -100).sum()) for n in range(30)} == {masked}  # of 24 tokens


def test_padding_is_no_part_of_the_share(tmp_path, write_packed):
    blocks = read(write_packed(tmp_path / "p", [[[0, *range(4, 12), 2, *[1] * 10]] * 2]), mask_share=0.5)
    assert int((blocks[0]["labels"] != -100).sum()) == 5


def test_special_unknown_and_padding_tokens_are_never_masked(tmp_path, write_packed):
    block = [0, 5, 3, 6, 2, 0, 3, 7, 2, 1, 1, 1]
    blocks = read(write_packed(tmp_path / "p", [[block] * 40]), epochs=1, mask_share=0.9)
    for n in range(40):
        assert (blocks[n]["labels"] != -100).nonzero().flatten().tolist() == [1, 3, 7]
        assert blocks[n]["input_ids"][[0, 2, 4, 5, 6, 8, 9, 10, 11]].tolist() == [0, 3, 2, 0, 3, 2, 1, 1, 1]


def test_labels_are_what_stood_there_and_eight_in_ten_become_the_mask(tmp_path, write_packed):
    block = [0, *range(4, 41), 2]
    blocks = read(write_packed(tmp_path / "p", [[block] * 200]), epochs=1, mask_share=0.5)
    fates = []
    for n in range(200):
        item = blocks[n]
        chosen = (item["labels"] != -100).nonzero().flatten()
        assert item["labels"][chosen].tolist() == [block[place] for place in chosen]
        rest = item["labels"] == -100
        assert item["input_ids"][rest].tolist() == torch.tensor(block)[rest].tolist()
        now, was = item["input_ids"][chosen], item["labels"][chosen]
        fates += np.where(now == MASK, 0, np.where(now == was, 2, 1)).tolist()
        assert now.min() >= 4
    masked, swapped, stayed = np.bincount(fates) / len(fates)
    assert masked == pytest.approx(0.8, abs=0.02)
    assert swapped == pytest.approx(0.1, abs=0.02)
    assert stayed == pytest.approx(0.1, abs=0.02)


def test_sequences_are_numbered_and_padding_is_zero(tmp_path, write_packed):
    blocks = read(write_packed(tmp_path / "p", [[[0, 5, 6, 2, 0, 7, 2, 1, 1]] * 2]), epochs=1)
    assert blocks[0]["sequence_ids"].tolist() == [1, 1, 1, 1, 2, 2, 2, 0, 0]


def test_an_epoch_ends_with_a_whole_step(tmp_path, write_packed, full_blocks):
    chunks = [full_blocks(1, count, seed=count)[0] for count in (7, 4, 9)]
    packed = write_packed(tmp_path / "uneven", chunks)
    blocks = read(packed, epochs=4)
    assert blocks.steps_at_epoch_end == [3, 5, 9, 12]
    assert len(blocks) == 24
    assert [blocks.source(place)[0] for place in range(24)] == [0] * 6 + [1] * 4 + [2] * 8 + [0] * 6


def test_a_budget_of_tokens_is_kept_in_every_epoch(packed):
    blocks = read(packed, tokens_per_epoch=24 * 5)
    assert blocks.steps_at_epoch_end == [2, 4, 6, 8, 10]
    assert read(packed, tokens_per_epoch=10**9).steps_at_epoch_end == [3, 6, 9, 12, 15]


def test_a_chunk_too_small_for_one_step_is_named(packed):
    with pytest.raises(HalflingError, match=r"chunk-1: 6 blocks do not fill one step of 7: .*lower batch_size"):
        read(packed, blocks_per_step=7)


@pytest.mark.parametrize("wrong", ["gone", "another"])
def test_a_chunk_that_is_not_whole_is_refused_before_anything_is_read(wrong, tmp_path, write_packed, chunks):
    packed = write_packed(tmp_path / "packed", chunks)
    (file,) = (packed / "chunk-3").glob("*.arrow")
    file.unlink()
    if wrong == "another":
        file.write_bytes((write_packed(tmp_path / "other", [chunks[2][:4]]) / "chunk-1" / file.name).read_bytes())
    assert len(read(packed, epochs=2)) == 12, "nobody reads chunk 3"
    said = {"gone": r"chunk-3: holds no blocks", "another": r"chunk-3: 4 blocks of \w+, not 6 as corpus\.json says"}
    with pytest.raises(HalflingError, match=f"{said[wrong]}.*: pack the corpus again"):
        read(packed, epochs=3)


def test_a_share_of_0_masks_nothing(packed, chunks):
    item = read(packed, mask_share=0.0)[0]
    assert MASK not in item["input_ids"].tolist()
    assert {*item["labels"].tolist()} == {-100}
