import pytest

from halfling.training.layer_maps import layer_map


def test_uniform_twelve_of_twenty_four_takes_every_second_layer():
    assert layer_map("uniform", 12, 24) == [(i, 2 * i) for i in range(1, 13)]


def test_uniform_spreads_when_layers_do_not_divide():
    assert layer_map("uniform", 3, 8) == [(1, 3), (2, 5), (3, 8)]


@pytest.mark.parametrize("teacher", range(1, 25))
def test_uniform_ascends_without_a_repeat_and_ends_with_the_last(teacher):
    for student in range(1, teacher + 1):
        chosen = [theirs for _, theirs in layer_map("uniform", student, teacher)]
        assert chosen == sorted(set(chosen))
        assert chosen[-1] == teacher
        assert chosen[0] >= 1


def test_top_takes_the_last_layers():
    assert layer_map("top", 3, 8) == [(1, 6), (2, 7), (3, 8)]


def test_bottom_takes_the_first_layers():
    assert layer_map("bottom", 3, 8) == [(1, 1), (2, 2), (3, 3)]


def test_single_takes_the_last_from_the_last():
    assert layer_map("single", 3, 8) == [(3, 8)]


@pytest.mark.parametrize("name", ["uniform", "top", "bottom"])
def test_equal_depths_map_each_layer_to_itself(name):
    assert layer_map(name, 4, 4) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_custom_pairs_are_sorted_and_may_include_the_embeddings():
    assert layer_map("custom", 3, 8, [(3, 7), (0, 0), (2, 2)]) == [(0, 0), (2, 2), (3, 7)]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(4, 8)], r"layer pair 4 -> 8: expected a student layer in 0\.\.3 and a teacher layer in 0\.\.8"),
        ([(1, 9)], r"layer pair 1 -> 9"),
        ([(-1, 1)], r"layer pair -1 -> 1"),
        ([(1, 2), (1, 3)], "each student layer at most once"),
        ([], "one at least"),
    ],
)
def test_a_custom_map_that_does_not_fit_is_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        layer_map("custom", 3, 8, pairs)


def test_pairs_belong_to_custom_maps_only():
    with pytest.raises(ValueError, match="'top' finds its own pairs"):
        layer_map("top", 3, 8, [(1, 1)])


def test_a_student_deeper_than_its_teacher_is_refused():
    with pytest.raises(ValueError, match="no deeper than its teacher, came 9 > 8"):
        layer_map("single", 9, 8)
