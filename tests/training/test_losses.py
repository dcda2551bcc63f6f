import math

import pytest
import torch
import torch.nn.functional as F

from halfling.training.losses import OutputLayer, exits_loss, kl_divergence, output_layer_losses


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


@pytest.fixture
def layers():
    """A student's output layer, its teacher's, and the pieces that stood at ten positions; in float64."""
    torch.manual_seed(0)
    own = OutputLayer(torch.randn(10, 4), torch.randn(30, 4), torch.randn(30))
    theirs = OutputLayer(torch.randn(10, 6), torch.randn(30, 6), torch.randn(30))
    double = [OutputLayer(*(part.double() for part in layer)) for layer in (own, theirs)]
    for part in double[0]:
        part.requires_grad_()
    return *double, torch.randint(0, 30, (10,))


@pytest.mark.parametrize("positions_per_block", [1, 3, 10])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_block_wise_equals_whole_with_its_gradients(positions_per_block, temperature, layers):
    own, theirs, pieces = layers
    whole = kl_divergence(own.logits(), theirs.logits(), temperature), F.cross_entropy(own.logits(), pieces)
    blocks = output_layer_losses(own, theirs, pieces, temperature, positions_per_block)
    for ours, expected in zip(blocks, whole, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
        gradients = (torch.autograd.grad(loss, own, retain_graph=True) for loss in (ours, expected))
        for found, wanted in zip(*gradients, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_block_wise_gradients_are_those_of_finite_differences(layers):
    own, theirs, pieces = layers

    def losses(*parts):
        return tuple(output_layer_losses(OutputLayer(*parts), theirs, pieces, 2.0, positions_per_block=4))

    assert torch.autograd.gradcheck(losses, tuple(own))


def test_without_a_teacher_or_without_pieces_a_loss_is_zero(layers):
    own, theirs, pieces = layers
    assert output_layer_losses(own, None, pieces).kl == 0
    assert output_layer_losses(own, theirs).mlm == 0


def test_where_nothing_is_masked_the_loss_is_zero_and_so_is_its_gradient(layers):
    own, theirs, pieces = layers
    features = own.features[:0].detach().requires_grad_()
    nothing = theirs._replace(features=theirs.features[:0])
    found = output_layer_losses(own._replace(features=features), nothing, pieces[:0])
    (found.kl + found.mlm).backward()
    assert (found.kl.item(), found.mlm.item()) == (0, 0)
    assert features.grad is not None


def test_no_logits_are_kept_for_the_backward_pass():
    kept = []
    student = OutputLayer(torch.randn(12, 4, requires_grad=True), torch.randn(500, 4), torch.randn(500))
    teacher, pieces = OutputLayer(torch.randn(12, 6), torch.randn(500, 6), torch.randn(500)), torch.arange(12)

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output_layer_losses(student, teacher, pieces, positions_per_block=3)
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
