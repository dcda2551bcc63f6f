"""Layouts: where sequences lie in rows."""

import pytest

from halfling.engine import packing


@pytest.mark.parametrize("lengths", [[5], [9, 3], [40] * 5, [300, 8, 8], [512] * 3, list(range(6, 70)) * 4])
def test_rows_hold_every_sequence_once_and_waste_little(lengths):
    layout = packing.lay_out(lengths)
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
