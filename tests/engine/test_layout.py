"""Layouts: where sequences lie in rows."""

import numpy as np
import pytest

from halfling.engine import packing


@pytest.mark.parametrize("lengths", [[5], [9, 3], [40] * 5, [300, 8, 8], [512] * 3, list(range(6, 70)) * 4])
def test_folded_rows_hold_every_sequence_once_and_waste_little(lengths):
    layout = packing.fold(lengths)
    places = layout.places()
    assert len({*places.tolist()}) == len(places) == sum(lengths)
    assert places.max() < layout.rows * layout.tokens
    row = layout.starts // layout.tokens
    assert ((layout.starts + layout.lengths - 1) // layout.tokens == row).all()
    owners = layout.owners().reshape(-1)
    for number, (start, length) in enumerate(zip(layout.starts, lengths, strict=True)):
        assert (owners[start : start + length] == number).all()
    assert (owners == -1).sum() == layout.rows * layout.tokens - sum(lengths)
    assert layout.rows * layout.tokens <= 1.25 * sum(lengths) + 8 * layout.rows


def test_the_bias_hides_all_but_a_sequences_own():
    layout = packing.lay_out([3, 4])
    bias = layout.bias()[0, 0]
    for one in range(2):
        own = slice(layout.starts[one], layout.starts[one] + layout.lengths[one])
        assert (bias[own, own] == 0).all()
        assert (np.delete(bias[own], np.r_[own], axis=1) == packing.HIDDEN).all()
