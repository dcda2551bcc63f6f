import math

import pytest
import torch
import torch.nn.functional as F

from halfling.training.layer_losses import (
    attention_loss,
    exit_aware_loss,
    hidden_state_loss,
    mixed_layers,
    relation_heads,
    relation_loss,
    transport_loss,
)

SEQUENCES = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
KEEP = SEQUENCES > 0


def test_the_hidden_state_loss_is_known_by_hand():
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    keep = torch.tensor([[True, True]])
    # (1 + 4) / 2 and 16 / 2, mean 5.25
    assert hidden_state_loss(student, teacher, keep).item() == 5.25


def test_padding_adds_no_loss_and_no_gradient():
    student = torch.randn(2, 5, 4, requires_grad=True)
    teacher = torch.randn(2, 5, 4)
    keep = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    loss = hidden_state_loss(student, teacher, keep)
    loss.backward()
    assert student.grad[0, 3:].eq(0).all()
    assert student.grad[keep].ne(0).all()
    elsewhere = teacher + 100 * (~keep)[..., None]
    assert hidden_state_loss(student, elsewhere, keep).item() == loss.item()


def test_the_hidden_state_loss_is_computed_in_float32():
    student, teacher = torch.full((1, 3, 2), 1.0, dtype=torch.bfloat16), torch.zeros(1, 3, 2, dtype=torch.bfloat16)
    student[0, 0] = 1.0078125  # the next bf16 above 1
    loss = hidden_state_loss(student, teacher, torch.ones(1, 3, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((2 + 1.0078125**2) / 3, rel=1e-6)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def double(*shape, needs_gradient=False):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=needs_gradient)


def test_the_cosine_loss_is_known_by_hand():
    student = torch.tensor([[[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    teacher = torch.tensor([[[5.0, 0.0], [0.0, -2.0], [9.0, 9.0]]])
    # 0 for the same direction, 2 for the opposite; the third is padding.
    assert hidden_state_loss(student, teacher, torch.tensor([[True, True, False]]), "cosine").item() == 1


def test_the_normalised_loss_is_a_share_of_each_channels_variance():
    teacher = torch.tensor([[[0.0, 10.0], [2.0, 30.0]]])  # variances 1 and 100
    student = torch.tensor([[[1.0, 10.0], [2.0, 10.0]]])
    # channel 1: (1 + 0) / 2 / 1; channel 2: (0 + 400) / 2 / 100; their mean
    assert hidden_state_loss(student, teacher, torch.ones(1, 2, dtype=torch.bool), "normalised").item() == 1.25
    mean = teacher.mean(dim=1, keepdim=True).expand_as(teacher)
    assert hidden_state_loss(mean, teacher, torch.ones(1, 2, dtype=torch.bool), "normalised").item() == 1


def test_a_channel_that_says_the_same_everywhere_is_no_division_by_zero():
    teacher = torch.zeros(1, 3, 2)
    loss = hidden_state_loss(torch.randn(1, 3, 2), teacher, torch.ones(1, 3, dtype=torch.bool), "normalised")
    assert loss.isfinite()


@pytest.mark.parametrize("kind", ["mse", "cosine", "normalised"])
def test_gradients_of_states_are_those_of_finite_differences(kind):
    student, teacher = double(2, 6, 4, needs_gradient=True), double(2, 6, 4)
    assert torch.autograd.gradcheck(lambda own: hidden_state_loss(own, teacher, KEEP, kind), student)


def test_the_exit_aware_loss_is_the_mean_distance_to_a_last_layer_that_stays():
    layers = [double(2, 6, 4, needs_gradient=True) for _ in range(3)]
    loss = exit_aware_loss(layers, KEEP)
    expected = [(1 - F.cosine_similarity(one[KEEP], layers[-1][KEEP], dim=-1)).mean() for one in layers[:-1]]
    torch.testing.assert_close(loss, sum(expected) / 2)
    gradients = torch.autograd.grad(loss, layers, allow_unused=True)
    assert gradients[-1] is None, "the last layer is not pulled"
    assert all(gradient.abs().sum() > 0 for gradient in gradients[:-1])
    last = layers[-1].detach()
    assert torch.autograd.gradcheck(lambda *before: exit_aware_loss([*before, last], KEEP), layers[:-1])
    assert exit_aware_loss(layers[-1:], KEEP) == 0


def test_a_mixture_weighs_teacher_layers_by_their_product_with_the_students_state():
    student, teacher = double(2, 6, 4, needs_gradient=True), double(3, 2, 6, 4)
    mixture = mixed_layers(student, teacher)
    for row in range(2):
        for token in range(6):
            scores = torch.stack([student[row, token] @ layer[row, token] / 2 for layer in teacher])  # root of 4
            expected = sum(w * layer[row, token] for w, layer in zip(scores.softmax(0), teacher, strict=True))
            torch.testing.assert_close(mixture[row, token], expected)
    assert torch.autograd.gradcheck(lambda own: mixed_layers(own, teacher), student)


def test_a_mixture_is_as_exact_where_products_are_taken_in_bfloat16():
    student, teacher = torch.randn(2, 6, 4), torch.randn(3, 2, 6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            mixed_layers(student, teacher), mixed_layers(student.double(), teacher.double()).float()
        )


def test_a_mixture_of_layers_of_which_one_is_alike_is_that_layer():
    alike = torch.full((1, 1, 4), 50.0)
    mixture = mixed_layers(alike, torch.stack([torch.zeros(1, 1, 4), alike, -alike]))
    torch.testing.assert_close(mixture, alike)


def test_the_cheapest_transport_is_known_by_hand():
    # Each student layer has half to give. The first goes to layers 1 and (a sixth) 2, the second to 3 and 2.
    gaps = torch.tensor([[0.0, 1.0, 9.0], [9.0, 2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = transport_loss(gaps)
    torch.testing.assert_close(loss, torch.tensor((1 + 2) / 6, dtype=torch.float64))
    (flow,) = torch.autograd.grad(loss, gaps)
    third, sixth = 1 / 3, 1 / 6
    torch.testing.assert_close(flow, torch.tensor([[third, sixth, 0], [0, sixth, third]], dtype=torch.float64))


def test_a_transport_between_equal_depths_is_an_assignment():
    gaps = torch.rand(4, 4)
    order = torch.tensor([2, 0, 3, 1])
    gaps[torch.arange(4), order] = 0
    assert transport_loss(gaps) == pytest.approx(0)


def relations_by_loops(student, teacher, sequence_ids, heads):
    """MiniLMv2's formula, written down: a mean over relation heads and tokens of KL(teacher || student)."""
    total, count = 0.0, 0
    for row, ids in enumerate(sequence_ids):
        for head in range(heads):
            for token in range(len(ids)):
                if ids[token] == 0:
                    continue
                others = [other for other in range(len(ids)) if ids[other] == ids[token]]
                distributions = []
                for vectors in (student, teacher):
                    size = vectors.shape[-1] // heads
                    part = vectors[row, :, head * size : (head + 1) * size]
                    scores = [float(part[token] @ part[other]) / math.sqrt(size) for other in others]
                    summed = sum(math.exp(score) for score in scores)
                    distributions.append([math.exp(score) / summed for score in scores])
                own, theirs = distributions
                total += sum(p * math.log(p / q) for p, q in zip(theirs, own, strict=True))
                count += 1
    return total / count


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_relation_loss_is_the_papers_formula_for_other_widths_and_heads(heads):
    student, teacher = double(2, 6, 8), double(2, 6, 12)
    found = relation_loss(student, teacher, SEQUENCES, heads)
    assert found.item() == pytest.approx(relations_by_loops(student, teacher, SEQUENCES, heads), rel=1e-12)


def test_relations_of_equal_vectors_are_equal_whatever_stands_in_other_sequences():
    vectors = double(2, 6, 8)
    assert relation_loss(vectors, vectors, SEQUENCES, 2).item() == pytest.approx(0, abs=1e-12)
    other = vectors.clone()
    other[0, 5] += 100  # padding
    assert relation_loss(other, vectors, SEQUENCES, 2).item() == pytest.approx(0, abs=1e-12)


def test_gradients_of_relations_are_those_of_finite_differences():
    student, teacher = double(2, 6, 8, needs_gradient=True), double(2, 6, 12)
    assert torch.autograd.gradcheck(lambda own: relation_loss(own, teacher, SEQUENCES, 4), student)


@pytest.mark.parametrize(
    ("widths", "heads"), [((768, 1024), 64), ((384, 1024), 64), ((384, 768), 64), ((288, 384), 48), ((7, 9), 1)]
)
def test_relation_heads_are_as_many_as_divide_both_widths(widths, heads):
    assert relation_heads(*widths) == heads


def probabilities(needs_gradient=False, heads=3):
    """Attention within sequences, padding a sequence of its own."""
    scores = double(2, heads, 6, 6)
    apart = SEQUENCES[:, None, :, None] != SEQUENCES[:, None, None, :]
    return scores.masked_fill(apart, -torch.inf).softmax(-1).requires_grad_(needs_gradient)


def test_the_attention_loss_is_the_mean_divergence_over_heads_and_kept_tokens():
    student, teacher = probabilities(), probabilities()
    total = 0.0
    for row, head, token in ((r, h, t) for r in range(2) for h in range(3) for t in range(6) if KEEP[r, t]):
        p, q = teacher[row, head, token], student[row, head, token]
        total += sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True) if a > 0)
    assert attention_loss(student, teacher, SEQUENCES).item() == pytest.approx(total / (3 * 11), rel=1e-12)
    assert attention_loss(teacher, teacher, SEQUENCES) == 0


def test_gradients_of_attention_are_those_of_finite_differences():
    teacher = probabilities()
    scores = double(2, 3, 6, 6, needs_gradient=True)
    assert torch.autograd.gradcheck(lambda own: attention_loss(own.softmax(-1), teacher, SEQUENCES), scores)
