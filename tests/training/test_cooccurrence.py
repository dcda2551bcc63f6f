import numpy as np
import pytest
from scipy import sparse

from halfling.errors import HalflingError
from halfling.training.cooccurrence import WordStatistics, count_words, embeddings_from_counts, log_frequency


def counted(packed, window=2, chunks=9):
    words = count_words(packed, chunks, window)
    pairs = words.pairs.tocoo()
    return words, {(int(r), int(c)): float(v) for r, c, v in zip(pairs.row, pairs.col, pairs.data, strict=True)}


def test_a_pair_counts_by_its_distance_on_both_sides(tmp_path, write_packed):
    packed = write_packed(tmp_path / "packed", [[[0, 10, 11, 12, 2]]])
    words, pairs = counted(packed)
    assert pairs == {
        **dict.fromkeys([(10, 11), (11, 10), (11, 12), (12, 11)], 1.0),
        **dict.fromkeys([(10, 12), (12, 10)], 0.5),
    }
    assert words.frequency.tolist() == [1 if piece in (0, 2, 10, 11, 12) else 0 for piece in range(42)]


def test_neighbours_in_another_sequence_block_or_special_do_not_count(tmp_path, write_packed):
    packed = write_packed(tmp_path / "packed", [[[0, 10, 2, 0, 11, 2], [0, 12, 3, 13, 2, 1]], [[0, 14, 2, 0, 15, 2]]])
    words, pairs = counted(packed, window=3)
    assert pairs == {(12, 13): 0.5, (13, 12): 0.5}
    assert words.frequency[1] == 0  # padding is no word


def test_all_chunks_are_counted_however_they_are_cut(tmp_path, write_packed, full_blocks):
    chunks = full_blocks(3, 5)
    packed = write_packed(tmp_path / "packed", chunks)
    whole, pairs = counted(packed)
    again, cut = counted(write_packed(tmp_path / "cut", [[block] for chunk in chunks for block in chunk]), chunks=15)
    assert cut == pytest.approx(pairs)
    assert (again.frequency == whole.frequency).all()
    assert whole.frequency.sum() == 3 * 5 * 24
    assert counted(packed, chunks=2)[0].frequency.sum() == 2 * 5 * 24


def test_words_that_keep_the_same_company_lie_together(tmp_path, write_packed):
    # 10 and 11 are the same word twice; 20 lives elsewhere; 41 occurs nowhere.
    blocks = [[0, word, 12, 13, 2] for word in (10, 11)] + [[0, 20, 21, 22, 2]]
    words = count_words(write_packed(tmp_path / "packed", [blocks]), chunks=1)
    made = embeddings_from_counts(words, width=4, spread=0.5, seed=0)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert made[10] @ made[11] == pytest.approx(1, abs=1e-3)
    assert abs(made[10] @ made[20]) < 0.1
    assert (embeddings_from_counts(words, width=4, spread=0.5, seed=0) == made).all()
    assert (embeddings_from_counts(words, width=4, spread=0.5, seed=1)[41] != made[41]).any()


def test_more_channels_than_pieces_are_refused(tmp_path, write_packed):
    words = count_words(write_packed(tmp_path / "packed", [[[0, 10, 11, 12, 2]]]), chunks=1)
    with pytest.raises(ValueError, match="at most 42 channels"):
        embeddings_from_counts(words, width=43, spread=1.0, seed=0)


def test_log_frequency_is_of_counts_plus_one():
    words = WordStatistics(np.array([0, 1, 3]), sparse.csr_array((3, 3)))
    assert log_frequency(words) == pytest.approx([-np.log(2), 0, np.log(2)])


def test_no_packed_corpus_is_one_line(tmp_path):
    with pytest.raises(HalflingError, match=r"corpus\.json"):
        count_words(tmp_path, chunks=1)
