import pytest

from halfling.tasks.label_metrics import score_labels


def test_macro_f1_by_hand():
    # Class 0: 1 hit, 2 gold, 1 predicted: 2/3. Class 1: 1 hit, 1 gold, 3 predicted: 1/2. Class 2: no hit.
    score = score_labels([0, 0, 1, 2], [0, 1, 1, 1])
    assert score.accuracy == 0.5
    assert score.f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_an_absent_class_does_not_count():
    assert score_labels([0, 2], [0, 2]).f1 == 1


def test_unlike_lengths_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match="came 1 for 2"):
        score_labels([0, 1], [0])
    with pytest.raises(ValueError, match="at least one"):
        score_labels([], [])
