import pytest
import torch
from transformers import XLMRobertaForMaskedLM

from halfling.training.initialise import begin, checkpoint_from, embeddings_from, layers_from, layers_to_take
from halfling.training.layer_maps import layer_map


@pytest.fixture
def load(tmp_path, write_masked_lm):
    def make(name, **shape):
        return XLMRobertaForMaskedLM.from_pretrained(write_masked_lm(tmp_path / name, **shape))

    return make


def test_words_keep_their_geometry_when_the_table_has_that_rank(load):
    teacher, student = load("teacher", width=16), load("student", width=8, seed=1)
    with torch.no_grad():
        # A table of rank 8 loses nothing in 8 dimensions.
        teacher.get_input_embeddings().weight.copy_(torch.randn(42, 8) @ torch.randn(8, 16))
    embeddings_from(student, teacher)
    theirs, own = teacher.get_input_embeddings().weight, student.get_input_embeddings().weight
    theirs = theirs - theirs.mean(dim=0)
    words = [n for n in range(42) if n != 1]
    ratio = torch.pdist(own[words]) / torch.pdist(theirs[words])
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_the_spread_of_the_words_and_the_output_bias_are_the_teachers(load):
    teacher, student = load("teacher", width=16), load("student", width=8, seed=1)
    with torch.no_grad():
        teacher.get_input_embeddings().weight.mul_(3)
        teacher.lm_head.bias.normal_()
    embeddings_from(student, teacher)
    theirs, own = teacher.get_input_embeddings().weight, student.get_input_embeddings().weight
    torch.testing.assert_close(own.std(), theirs.std(), rtol=0.05, atol=0)
    assert torch.equal(student.lm_head.bias, teacher.lm_head.bias)


def test_the_kept_directions_are_the_ones_of_largest_spread(load):
    teacher, student = load("teacher", width=16), load("student", width=8, seed=1)
    spread = torch.tensor([10.0] * 8 + [0.01] * 8)
    with torch.no_grad():
        teacher.get_input_embeddings().weight.copy_(torch.randn(42, 16) * spread)
    embeddings_from(student, teacher)
    theirs, own = teacher.get_input_embeddings().weight, student.get_input_embeddings().weight
    words = [n for n in range(42) if n != 1]
    ratio = torch.pdist(own[words]) / torch.pdist(theirs[words, :8])
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_the_table_has_a_fresh_tables_spread_and_padding_stays_zero(load):
    teacher, student = load("teacher", width=16), load("student", width=8, seed=1)
    embeddings_from(student, teacher)
    own = student.get_input_embeddings().weight
    assert own[1].eq(0).all()
    assert own.std().item() == pytest.approx(0.2, rel=0.05)  # the student's initializer_range
    assert student.lm_head.decoder.weight is own


def test_a_wider_student_than_its_teacher_is_refused(load):
    teacher, student = load("teacher", width=8), load("student", width=16)
    with pytest.raises(ValueError, match=r"at most its width \(42, 8\) to take its words, came \(42, 16\)"):
        embeddings_from(student, teacher)


def test_every_second_layer_of_the_teacher_is_copied(load):
    teacher, student = load("teacher", num_layers=4), load("student", num_layers=2, seed=1)
    layers_from(student, teacher, [(1, 2), (2, 4)])
    for own, theirs in ((0, 1), (1, 3)):
        copied = student.roberta.encoder.layer[own].state_dict()
        for name, weight in teacher.roberta.encoder.layer[theirs].state_dict().items():
            assert torch.equal(copied[name], weight), name
    for part in ("roberta.embeddings", "lm_head"):
        copied = student.get_submodule(part).state_dict()
        for name, weight in teacher.get_submodule(part).state_dict().items():
            assert torch.equal(copied[name], weight), name
    assert student.lm_head.decoder.weight is student.get_input_embeddings().weight


def test_a_copy_is_not_the_teachers_own_memory(load):
    teacher, student = load("teacher"), load("student", seed=1)
    layers_from(student, teacher, [(1, 1)])
    before = teacher.roberta.encoder.layer[0].output.dense.weight.clone()
    with torch.no_grad():
        student.roberta.encoder.layer[0].output.dense.weight.add_(1)
    assert torch.equal(teacher.roberta.encoder.layer[0].output.dense.weight, before)


def test_layers_of_another_width_are_refused(load):
    with pytest.raises(ValueError, match=r"its teacher's hidden_size \(16\) to copy layers, came 8"):
        layers_from(load("student", width=8), load("teacher", width=16), [(1, 1)])


def test_layers_are_taken_by_the_map_where_it_names_one_for_each():
    assert layers_to_take([(1, 5), (2, 3)], 2, 6) == [(1, 5), (2, 3)]
    for pairs in ([(2, 6)], [], layer_map("emd", 2, 6)):
        assert layers_to_take(pairs, 2, 6) == [(1, 3), (2, 6)]


def test_a_checkpoint_of_the_students_shape_is_what_it_begins_as(load):
    student, other = load("student", seed=1), load("other", seed=2)
    begin("checkpoint", student, load("teacher", num_layers=4), [], {}, other)
    for name, weight in other.state_dict().items():
        assert torch.equal(student.state_dict()[name], weight), name


@pytest.mark.parametrize(("shape", "message"), [({"width": 8}, "width of 16"), ({"num_layers": 3}, "num_layers of 2")])
def test_a_checkpoint_of_another_shape_is_refused(shape, message, load):
    with pytest.raises(ValueError, match=f"start=checkpoint: expected a {message}, the student's, came"):
        checkpoint_from(load("student"), load("other", **shape))


def test_at_random_a_student_stays_as_it_is(load):
    student, same = load("student", seed=1), load("same", seed=1)
    begin("random", student, load("teacher", num_layers=4), [(1, 2), (2, 4)], {})
    assert all(torch.equal(weight, same.state_dict()[name]) for name, weight in student.state_dict().items())
