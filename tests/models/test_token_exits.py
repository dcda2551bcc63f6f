"""Tokens that leave one by one: who leaves where, and that what is computed is what a plain loop over layers gives."""

import numpy as np
import pytest
import torch
from transformers import XLMRobertaForTokenClassification, set_seed

from halfling.cost.flops import Head, flops
from halfling.exits import criteria
from halfling.models import (
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)
from halfling.models.shapes import Dimensions, config_for

EVERY = (1, 2, 3, 4)


def policy(threshold, **more):
    return {"layers": [*EVERY], "thresholds": [threshold] * 3, "granularity": "token", **more}


@pytest.fixture
def make():
    """A function that makes an early-exit tagger of four layers that leaves by a policy."""

    def build(chosen, attention="sdpa"):
        set_seed(1)
        config = config_for(
            Dimensions(num_layers=4, width=16, num_heads=2, max_tokens=30).with_vocabulary(50)
        ).to_dict()
        config |= {
            "initializer_range": 0.3,
            "id2label": {n: str(n) for n in range(5)},
            "attn_implementation": attention,
            "exit_layers": EVERY,
            "exit_policy": chosen,
        }
        return XLMRobertaEarlyExitForTokenClassification(XLMRobertaEarlyExitConfig(**config)).eval()

    return build


def step_by_step(early, ids):
    """Return logits and exit layers of one sentence: whole layers, then the old state put back for who has left."""
    chosen = early.config.exit_policy
    hidden = early.roberta.embeddings(input_ids=ids)
    tokens = ids.shape[1]
    left, logits = torch.zeros(tokens, dtype=torch.long), torch.zeros(tokens, 5)
    answers = []
    for number, layer in enumerate(early.roberta.encoder.layer, start=1):
        there = left == 0
        hidden = torch.where(there[None, :, None], layer(hidden, None), hidden)
        here = early.classify(number, hidden)[0]
        answers.append(here.argmax(-1))
        if chosen["criterion"] == "patience":
            same = [bool(there[t]) and all(a[t] == here[t].argmax() for a in answers[-2:]) for t in range(tokens)]
            unsure = torch.tensor([0.0 if number > 1 and same[t] else 1.0 for t in range(tokens)])
        else:
            unsure = torch.from_numpy(criteria.PER_ANSWER[chosen["criterion"]](here.numpy()))
        goes = there & ((unsure < chosen["thresholds"][0]) | (number == 4))
        logits[goes], left[goes] = here[goes], number
    return logits, left


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_threshold_zero_equals_the_plain_model(make, padded, attention):
    early = make(policy(0.0), attention)
    plain = XLMRobertaForTokenClassification(early.config).eval()
    plain.load_state_dict(early.state_dict(), strict=False)
    assert torch.equal(early(**padded).logits, plain(**padded).logits)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "chosen",
    [
        policy(0.6, criterion="entropy"),
        policy(0.5, criterion="max_probability"),
        policy(0.5, criterion="margin"),
        policy(0.5, criterion="patience", patience=1),
    ],
    ids=lambda chosen: chosen["criterion"],
)
def test_tokens_leave_as_in_a_plain_loop_in_which_states_are_put_back(make, padded, chosen, attention, lengths):
    early = make(chosen, attention)
    together = early(**padded)
    seen = set()
    for row, length in enumerate(lengths):
        logits, left = step_by_step(early, padded["input_ids"][row : row + 1, :length])
        assert torch.equal(together.token_exit_layers[row, :length], left), row
        assert not together.token_exit_layers[row, length:].any()
        assert together.exit_layers[row] == left.max()
        torch.testing.assert_close(together.logits[row, :length], logits, atol=1e-5, rtol=0)
        seen.add(tuple(left.tolist()))
    assert {layer for left in seen for layer in left} >= {2, 4}, "tokens that all leave at one exit prove little"
    assert any(len({*left}) > 1 for left in seen), "nor do sentences whose tokens all leave together"


@torch.no_grad()
def test_neither_the_batch_nor_its_order_changes_an_answer(make, padded, lengths, one):
    early = make(policy(0.6))
    together, order = early(**padded), torch.randperm(len(lengths))
    shuffled = early(**{name: tensor[order] for name, tensor in padded.items()})
    torch.testing.assert_close(shuffled.logits, together.logits[order], atol=1e-5, rtol=0)
    assert torch.equal(shuffled.token_exit_layers, together.token_exit_layers[order])
    for row, length in enumerate(lengths):
        alone = early(**one(padded, row))
        assert torch.equal(alone.token_exit_layers[0], together.token_exit_layers[row, :length])
        torch.testing.assert_close(alone.logits[0], together.logits[row, :length], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.uncertainty[0], together.uncertainty[row, :length], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_sentence_is_done_when_its_words_are(make, padded, one):
    early = make(policy(0.6))
    free = early(**one(padded, 3)).token_exit_layers[0]
    first, last = int(free.argmin()), int(free.max())
    starts = torch.zeros(1, 11, dtype=torch.bool)
    starts[0, first] = True
    ran = []
    for number, layer in enumerate(early.roberta.encoder.layer, start=1):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    found = early(**one(padded, 3), word_starts=starts)
    assert free[first] < last
    assert found.token_exit_layers[0].tolist() == [int(free[first])] * 11
    assert max(ran) == free[first]


def test_a_classifier_of_whole_texts_has_no_token_exits():
    config = XLMRobertaEarlyExitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, vocab_size=50, exit_layers=EVERY
    )
    config.exit_policy = policy(0.5)
    early = XLMRobertaEarlyExitForSequenceClassification(config).eval()
    with pytest.raises(ValueError, match="granularity token: only taggers have tokens that exit alone"):
        early(torch.tensor([[0, 5, 2]]))


def test_arithmetic_of_a_sentence_whose_tokens_leave_together_is_that_of_the_sentence():
    shape = Dimensions(num_layers=4, width=16, num_heads=2, max_tokens=30).with_vocabulary(50)
    head = Head(kind="token", num_classes=5, layers=EVERY)
    assert flops(shape, [3], [[2, 2, 2]], head) == flops(shape, [3], [2], head)
    # One token goes on alone for a layer: its keys and values are of all three.
    extra = np.subtract(
        [getattr(flops(shape, [3], [[2, 3, 2]], head), part) for part in ("linear", "attention", "heads")],
        [getattr(flops(shape, [3], [2], head), part) for part in ("linear", "attention", "heads")],
    )
    width, ffn = shape.width, shape.ffn_width
    assert extra.tolist() == [
        2 * (3 * 2 * width**2 + 2 * width**2 + 2 * width * ffn),
        2 * 2 * 3 * width,
        2 * 5 * width,
    ]


@torch.no_grad()
def test_where_every_exit_is_computed_a_token_that_exited_keeps_its_answer_and_state(make, padded):
    early = make(policy(0.6))
    ran, told = early(**padded), early(**padded, all_exits=True, policy=policy(0.6))
    assert torch.equal(told.token_exit_layers, ran.token_exit_layers)
    for layer, logits in enumerate(told.exit_logits, start=1):
        torch.testing.assert_close(
            logits[ran.token_exit_layers == layer], ran.logits[ran.token_exit_layers == layer], atol=1e-5, rtol=0
        )
