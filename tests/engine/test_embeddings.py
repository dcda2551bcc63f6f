from pathlib import Path

import numpy as np
import pytest

from halfling.engine.embeddings import TABLE, Embeddings, write_embeddings


@pytest.mark.parametrize(("precision", "off"), [("float32", 0), ("int8", 0.5 / 127)])
def test_rows_are_those_of_the_table(precision, off, tmp_path):
    random = np.random.default_rng(0)
    words, positions = (random.uniform(-1, 1, (rows, 6)).astype(np.float32) for rows in (50, 8))
    write_embeddings(tmp_path, words, positions, precision)
    ids, places = np.array([49, 0, 7, 7, 1]), np.array([0, 1, 2, 3, 7])
    found = Embeddings(tmp_path, precision)(ids, places)
    np.testing.assert_allclose(found, words[ids] + positions[places], atol=off + 1e-6)


def test_rows_in_use_bring_none_of_their_neighbours_into_memory(tmp_path):
    write_embeddings(tmp_path, np.ones((1000, 64), np.float32), np.ones((8, 64), np.float32), "float32")
    embed = Embeddings(tmp_path, "float32")
    assert embed(np.array([500]), np.array([0])).tolist() == [[2.0] * 64]
    assert str(tmp_path / TABLE) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("wrong", [1000, -1])
def test_an_id_outside_the_vocabulary_is_refused(wrong, tmp_path):
    write_embeddings(tmp_path, np.ones((1000, 4), np.float32), np.ones((8, 4), np.float32), "float32")
    with pytest.raises(ValueError, match="vocabulary is 0 to 999"):
        Embeddings(tmp_path, "float32")(np.array([3, wrong]), np.array([0, 1]))


def test_a_smaller_batch_after_a_larger_one_sees_nothing_of_it(tmp_path):
    random = np.random.default_rng(0)
    words, positions = (random.uniform(-1, 1, (rows, 4)).astype(np.float32) for rows in (10, 8))
    write_embeddings(tmp_path, words, positions, "int8")
    embed = Embeddings(tmp_path, "int8")
    embed(np.arange(10), np.full(10, 7))
    expected = Embeddings(tmp_path, "int8")(np.array([7, 2]), np.array([0, 1]))
    np.testing.assert_array_equal(embed(np.array([7, 2]), np.array([0, 1])), expected)
    np.testing.assert_allclose(expected, words[[7, 2]] + positions[[0, 1]], atol=0.5 / 127 + 1e-6)
