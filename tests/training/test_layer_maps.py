from collections import Counter

import pytest

from halfling.training.layer_maps import LAYER_MAPS, how_of, layer_map


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


def test_top_and_bottom_of_twelve_of_twenty_four():
    assert layer_map("top", 12, 24) == [(i, 12 + i) for i in range(1, 13)]
    assert layer_map("bottom", 12, 24) == [(i, i) for i in range(1, 13)]


@pytest.mark.parametrize(("student", "teacher", "chosen"), [(12, 24, 19), (6, 12, 12), (3, 8, 8), (3, 17, 13)])
def test_single_takes_the_last_layer_from_an_upper_one_as_minilmv2_chose_it(student, teacher, chosen):
    assert layer_map("single", student, teacher) == [(student, chosen)]


def test_a_random_map_is_a_sorted_draw_with_the_last_from_the_last():
    # The drawn layers by hand: what numpy's generator of [seed, number] chooses of 1..23, without repeats.
    drawn = [theirs for _, theirs in layer_map("random", 12, 24, draw=(0, 0))]
    assert drawn == [1, 2, 4, 5, 6, 8, 9, 12, 15, 18, 20, 24]
    for number in range(50):
        pairs = layer_map("random", 3, 7, draw=(5, number))
        chosen = [theirs for _, theirs in pairs]
        assert [own for own, _ in pairs] == [1, 2, 3]
        assert chosen == sorted({*chosen})
        assert chosen[-1] == 7


def test_a_draw_follows_from_its_seed_and_number_alone():
    first = [layer_map("random", 6, 12, draw=(1, number)) for number in range(20)]
    again = [layer_map("random", 6, 12, draw=(1, number)) for number in reversed(range(20))]
    assert first == again[::-1]
    assert len({tuple(pairs) for pairs in first}) > 15
    assert first != [layer_map("random", 6, 12, draw=(2, number)) for number in range(20)]


def test_draws_come_to_every_layer_alike():
    seen = Counter(theirs for number in range(2000) for _, theirs in layer_map("random", 3, 7, draw=(0, number))[:-1])
    assert {*seen} == {1, 2, 3, 4, 5, 6}
    assert all(abs(times / 2000 - 2 / 6) < 0.05 for times in seen.values())


@pytest.mark.parametrize("name", ["attention", "emd"])
def test_attention_and_emd_map_every_layer_to_every_layer(name):
    assert layer_map(name, 2, 3) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert len(layer_map(name, 12, 24)) == 12 * 24


def test_how_layers_are_compared_follows_from_the_map():
    compared = {"attention": "mixture", "emd": "transport"}
    assert {name: how_of(name) for name in (*LAYER_MAPS, "custom")} == {
        name: compared.get(name, "pairs") for name in (*LAYER_MAPS, "custom")
    }


@pytest.mark.parametrize("name", LAYER_MAPS)
def test_every_map_takes_any_pair_of_depths(name):
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            pairs = layer_map(name, student, teacher)
            assert {own for own, _ in pairs} <= {*range(1, student + 1)}
            assert {theirs for _, theirs in pairs} <= {*range(1, teacher + 1)}
            assert pairs


@pytest.mark.parametrize("name", ["uniform", "top", "bottom", "random"])
def test_equal_depths_map_each_layer_to_itself(name):
    assert layer_map(name, 4, 4) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_custom_pairs_are_sorted():
    assert layer_map("custom", 3, 8, [(3, 7), (1, 5), (2, 2)]) == [(1, 5), (2, 2), (3, 7)]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(4, 8)], r"layer pair 4 -> 8: expected a student layer in 1\.\.3 and a teacher layer in 1\.\.8"),
        ([(0, 1)], r"layer pair 0 -> 1"),
        ([(1, 9)], r"layer pair 1 -> 9"),
        ([(1, 25)], r"layer pair 1 -> 25: .* a teacher layer in 1\.\.8"),
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
    for name in LAYER_MAPS:
        with pytest.raises(ValueError, match="no deeper than its teacher, came 9 > 8"):
            layer_map(name, 9, 8)
