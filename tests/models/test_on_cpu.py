"""Attention and dropout of a CPU that trains: what they compute is what PyTorch's would."""

import pytest
import torch
from torch import nn
from transformers import XLMRobertaForTokenClassification, set_seed

from halfling.models import XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForTokenClassification
from halfling.models.on_cpu import Dropout, computing_on_cpu, dropped
from halfling.models.shapes import Dimensions, config_for

SHAPE = Dimensions(num_layers=2, width=32, num_heads=2, max_tokens=200).with_vocabulary(90)


@pytest.fixture
def model():
    set_seed(0)
    return XLMRobertaForTokenClassification(config_for(SHAPE))


def batch(tokens):
    ids = torch.randint(4, 90, (3, tokens), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros_like(ids)}


@pytest.mark.parametrize("tokens", [12, 150])  # products, and the fused attention
def test_answers_and_gradients_are_pytorchs(tokens, model):
    model.eval()
    found = []
    for _ in range(2):
        model.zero_grad()
        said = model(**batch(tokens))
        said.loss.backward()
        found.append((said.logits.detach(), model.get_input_embeddings().weight.grad.clone()))
        computing_on_cpu(model)
    (logits, gradient), (own_logits, own_gradient) = found
    keep = batch(tokens)["attention_mask"].bool()
    assert torch.allclose(own_logits[keep], logits[keep], atol=1e-6)
    assert torch.allclose(own_gradient, gradient, atol=1e-7)


def test_a_model_with_exits_computes_so_too(model):
    config = XLMRobertaEarlyExitConfig(**{**model.config.to_dict(), "exit_layers": [1, 2]})
    early = XLMRobertaEarlyExitForTokenClassification(config).eval()
    before = early(**batch(12), all_exits=True).exit_logits
    after = computing_on_cpu(early)(**batch(12), all_exits=True).exit_logits
    keep = batch(12)["attention_mask"].bool()
    assert early.config._attn_implementation == "halfling_cpu"
    assert all(torch.allclose(one[keep], other[keep], atol=1e-6) for one, other in zip(before, after, strict=True))


def test_what_is_saved_does_not_speak_of_it(model, tmp_path):
    model.save_pretrained(tmp_path / "before")
    computing_on_cpu(model).save_pretrained(tmp_path / "after")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_dropout_drops_the_share_and_keeps_the_mean():
    torch.manual_seed(0)
    states = torch.ones(1000, 1001, requires_grad=True)
    out = Dropout(0.1)(states)
    kept = out != 0
    assert kept.float().mean().item() == pytest.approx(0.9, abs=0.001)
    assert out.mean().item() == pytest.approx(1, abs=0.001)
    out.sum().backward()
    assert torch.equal(states.grad, out.detach())
    # Neighbours are drawn out of one number, and yet alone.
    pairs = (~kept[:, :-1] & ~kept[:, 1:]).float().mean().item()
    assert pairs == pytest.approx(0.01, abs=0.001)


def test_dropout_at_its_ends_and_in_evaluation():
    states = torch.randn(5, 3)
    assert torch.equal(dropped(states, 0.0), states)
    assert not dropped(states, 1.0).any()
    assert torch.equal(Dropout(0.5).eval()(states), states)
    assert dropped(states.bfloat16(), 0.5).dtype == torch.bfloat16


def test_every_dropout_is_replaced_and_draws_follow_the_seed(model):
    computing_on_cpu(model).train()
    assert {type(one) for one in model.modules() if isinstance(one, nn.Dropout)} == {Dropout}
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model(**batch(12)).loss.item())
    assert losses[0] == losses[1] != losses[2]
