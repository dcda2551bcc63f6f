"""What exits learn from, by hand-computed values."""

import pytest
import torch
import torch.nn.functional as F

from halfling.training.exit_losses import exits_loss


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


def test_nobody_learns_from_an_exit_that_they_did_not_reach(logits, labels):
    reached = [torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)]
    reached[1][2] = True
    known = (labels != -100) & reached[1]
    expected = F.cross_entropy(logits[1][known], labels[known])
    torch.testing.assert_close(exits_loss(logits[:2], labels, (0.0, 1.0), reached=reached), expected)
    # An exit that nobody reached teaches nothing, rather than 0 / 0.
    assert exits_loss(logits[:2], labels, (0.0, 1.0), reached=[reached[0], torch.zeros_like(known)]) == 0
