import math

import pytest
import torch
import torch.nn.functional as F

from halfling.training.losses import exits_loss, hidden_state_loss, kl_divergence, output_layer_kl


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


def test_the_divergence_is_known_by_hand():
    # Teacher (1/2, 1/2), student (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3. The second position agrees.
    student, teacher = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log(), torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert kl_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_equal_logits_diverge_by_nothing():
    logits = torch.randn(4, 30) * 5
    assert kl_divergence(logits, logits + 3).item() == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_not_symmetric():
    student, teacher = torch.randn(2, 4, 30)
    assert kl_divergence(student, teacher).item() != pytest.approx(kl_divergence(teacher, student).item(), rel=1e-3)


def test_a_temperature_divides_logits_and_squares_the_loss():
    student, teacher = torch.randn(2, 4, 30)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    expected = 4 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(kl_divergence(student, teacher, 2.0), expected)


def test_gradients_stay_of_one_size_at_every_temperature():
    student, teacher = torch.randn(4, 30, requires_grad=True), torch.randn(4, 30)
    sizes = [torch.autograd.grad(kl_divergence(student, teacher, t), student)[0].norm().item() for t in (10.0, 100.0)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_an_underflowing_probability_is_not_nan():
    logits = torch.tensor([[0.0, -1e4]])
    assert kl_divergence(-logits, logits).isfinite()


@pytest.mark.parametrize("positions_per_block", [1, 3, 10])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_block_wise_equals_whole_with_its_gradients(positions_per_block, temperature):
    student, teacher = torch.randn(10, 4, requires_grad=True), torch.randn(10, 6)
    pieces, bias = torch.randn(30, 4, requires_grad=True), torch.randn(30, requires_grad=True)
    their_pieces, their_bias = torch.randn(30, 6), torch.randn(30)
    whole = kl_divergence(F.linear(student, pieces, bias), F.linear(teacher, their_pieces, their_bias), temperature)
    blocks = output_layer_kl(student, pieces, bias, teacher, their_pieces, their_bias, temperature, positions_per_block)
    torch.testing.assert_close(blocks, whole)
    leaves = (student, pieces, bias)
    for ours, expected in zip(torch.autograd.grad(blocks, leaves), torch.autograd.grad(whole, leaves), strict=True):
        torch.testing.assert_close(ours, expected)


def test_no_logits_are_kept_for_the_backward_pass():
    kept = []
    student, teacher = torch.randn(12, 4, requires_grad=True), torch.randn(12, 6)
    pieces, their_pieces, bias = torch.randn(500, 4), torch.randn(500, 6), torch.randn(500)

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output_layer_kl(student, pieces, bias, teacher, their_pieces, bias, positions_per_block=3)
    assert sum(kept) < 3 * 500


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 5, generator=generator) for _ in range(3)]


@pytest.fixture
def labels():
    return torch.tensor([[0, 1, -100, 2], [3, -100, -100, 4], [1, 1, 2, -100]])


def test_labels_alone_are_the_weighted_cross_entropies(logits, labels):
    known = labels != -100
    expected = sum(w * F.cross_entropy(one[known], labels[known]) for w, one in zip((0.5, 0, 2), logits, strict=True))
    torch.testing.assert_close(exits_loss(logits, labels, (0.5, 0.0, 2.0)), expected)


def test_an_early_exit_that_imitates_learns_the_last_ones_distribution_and_the_last_the_labels(logits, labels):
    known, everywhere = labels != -100, torch.ones_like(labels, dtype=torch.bool)
    p = logits[-1].softmax(-1)
    soft = -(p * logits[0].log_softmax(-1)).sum(-1)
    last = F.cross_entropy(logits[-1][known], labels[known])
    hard = F.cross_entropy(logits[0][known], labels[known])
    found = exits_loss(logits, labels, (1.0, 0.0, 1.0), soft_share=0.25, soft_on=everywhere)
    torch.testing.assert_close(found, 0.25 * soft.mean() + 0.75 * hard + last)
    torch.testing.assert_close(exits_loss(logits, labels, (1.0, 0.0, 0.0), soft_share=1.0), soft[known].mean())


def test_the_last_exit_is_not_moved_towards_those_that_imitate_it(logits, labels):
    last = logits[-1].requires_grad_()
    first = logits[0].requires_grad_()
    exits_loss([first, last], labels, (1.0, 0.0), soft_share=1.0).backward()
    assert last.grad is None
    assert first.grad.abs().sum() > 0


def test_every_exit_the_last_too_imitates_the_model_as_it_was():
    torch.manual_seed(1)
    first, last, before = torch.randn(3, 4, 2).unbind()
    labels = torch.tensor([0, -100, -101, 1])
    answers, known = before.softmax(-1), labels >= 0
    soft = [-(answers * logits.log_softmax(-1)).sum(-1)[known].mean() for logits in (first, last)]
    found = exits_loss([first, last], labels, (1.0, 2.0), imitated=before, soft_share=1.0)
    torch.testing.assert_close(found, soft[0] + 2 * soft[1])


def test_nobody_learns_from_an_exit_that_they_did_not_reach(logits, labels):
    reached = [torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)]
    reached[1][2] = True
    known = (labels != -100) & reached[1]
    expected = F.cross_entropy(logits[1][known], labels[known])
    torch.testing.assert_close(exits_loss(logits[:2], labels, (0.0, 1.0), reached=reached), expected)
    # An exit that nobody reached teaches nothing, rather than 0 / 0.
    assert exits_loss(logits[:2], labels, (0.0, 1.0), reached=[reached[0], torch.zeros_like(known)]) == 0
