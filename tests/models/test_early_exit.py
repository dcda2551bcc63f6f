"""Exiting early: who exits where, what is computed then, and that answers stay what they were."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    set_seed,
)

from halfling.cost.flops import Head, flops
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models import (
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)
from halfling.models.packing import packed_attention, packed_positions
from halfling.models.shapes import Dimensions, config_for, shape_of

EVERY = (1, 2, 3, 4)


def uniform(layers, threshold, **more):
    """Return a policy as a model takes it and a configuration holds it."""
    return {"layers": list(layers), "thresholds": [threshold] * (len(layers) - 1), **more}


PLAIN = {"sequence": XLMRobertaForSequenceClassification, "token": XLMRobertaForTokenClassification}
EARLY = {"sequence": XLMRobertaEarlyExitForSequenceClassification, "token": XLMRobertaEarlyExitForTokenClassification}
AUTO = {"sequence": AutoModelForSequenceClassification, "token": AutoModelForTokenClassification}


@pytest.fixture(params=["sequence", "token"])
def kind(request):
    return request.param


@pytest.fixture
def make(kind):
    """A function that makes a plain model of four layers and an early-exit model with the same weights."""

    def build(attention="sdpa", **settings):
        set_seed({"sequence": 3, "token": 1}[kind])  # with these weights, some of the inputs below leave at each exit
        dimensions = Dimensions(num_layers=4, width=16, num_heads=2, max_tokens=30)
        config = config_for(dimensions.with_vocabulary(50)).to_dict()
        config |= {
            "initializer_range": 0.3,
            "id2label": {n: str(n) for n in range(5)},
            "attn_implementation": attention,
        }
        early = EARLY[kind](XLMRobertaEarlyExitConfig(**config | {"exit_layers": [1, 2, 3, 4]} | settings)).eval()
        plain = PLAIN[kind](type(early.config).__base__(**config)).eval()
        missing, unexpected = plain.load_state_dict(early.state_dict(), strict=False)
        assert missing == []
        assert all(name.startswith("exits.") for name in unexpected)
        return plain, early

    return build


@torch.no_grad()
def a_threshold_between(early, batch, **policy):
    """Return a threshold with which some of the batch exit at each exit."""
    logits = early(**batch, all_exits=True).exit_logits
    unsure = [unsure_of(each, batch["attention_mask"], **policy) for each in logits[:-1]]
    return float(np.quantile(unsure, 0.3))


def unsure_of(logits, mask, **policy):
    """Return the uncertainty of each input of a batch, as halfling's own runtime sees it."""
    doubt, counted = criteria.Doubt(ExitPolicy(layers=(1,), thresholds=(), **policy)), mask.bool().numpy()
    return doubt(logits.numpy()) if logits.dim() == 2 else doubt(logits.numpy()[counted], counted.sum(axis=1))


@pytest.fixture
def mid_range(make, padded):
    def build(**settings):
        policy = settings.pop("policy", {})
        _, early = make(**settings)
        early.config.exit_policy = uniform(
            early.config.exit_layers, a_threshold_between(early, padded, **policy), **policy
        )
        return early

    return build


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_threshold_zero_equals_the_plain_model(make, padded, attention, one):
    plain, early = make(attention)
    with torch.no_grad():
        for batch in (padded, one(padded, 0), {"input_ids": padded["input_ids"][:1]}):
            output = early(**batch)
            assert torch.equal(output.logits, plain(**batch).logits)
            assert output.exit_layers.tolist() == [4] * len(batch["input_ids"])
            assert torch.equal(early(**batch, all_exits=True).logits, plain(**batch).logits)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_batched_equals_one_by_one(mid_range, padded, attention, lengths, one):
    early = mid_range(attention=attention)
    together = early(**padded)
    assert len(set(together.exit_layers.tolist())) >= 3, "inputs that all leave at one exit prove little"
    for row, length in enumerate(lengths):
        alone = early(**one(padded, row))
        assert alone.exit_layers.item() == together.exit_layers[row]
        torch.testing.assert_close(alone.uncertainty[0], together.uncertainty[row], atol=1e-5, rtol=0)
        logits = together.logits[row, :length] if together.logits.dim() == 3 else together.logits[row]
        torch.testing.assert_close(alone.logits[0], logits, atol=1e-5, rtol=0)
        assert torch.equal(alone.logits[0].argmax(-1), logits.argmax(-1))


@torch.no_grad()
def test_an_input_leaves_at_the_first_exit_whose_entropy_is_below(mid_range, padded, kind, lengths):
    early = mid_range()
    every = early(**padded, all_exits=True).exit_logits
    found = early(**padded)
    for row, length in enumerate(lengths):
        for layer, logits in enumerate(every, start=1):
            here = logits[row, :length].double() if kind == "token" else logits[row].double()
            p = here.softmax(-1)
            entropy = (-(p * p.log()).sum(-1) / np.log(5)).mean().item()
            if layer == 4 or entropy < early.config.exit_policy["thresholds"][layer - 1]:
                break
        assert found.exit_layers[row] == layer
        assert found.uncertainty[row].item() == pytest.approx(entropy, abs=1e-5)
        taken = found.logits[row, :length] if kind == "token" else found.logits[row]
        torch.testing.assert_close(taken.double(), here, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_layer_computes_those_that_stayed_at_their_own_longest(mid_range, padded, lengths):
    early = mid_range()
    seen = []
    for layer in early.roberta.encoder.layer:
        layer.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[:2])))
    left = early(**padded).exit_layers.tolist()
    staying = [[length for length, at in zip(lengths, left, strict=True) if at >= layer] for layer in range(1, 5)]
    assert seen == [(len(lengths), max(lengths)) for lengths in staying if lengths]
    assert seen[-1][0] < seen[0][0]


@torch.no_grad()
def test_padding_that_only_leavers_needed_is_cut_without_a_change(make, padded, lengths, one):
    _, early = make()
    # The two longest rows leave first: the threshold is theirs.
    batch = {name: tensor[:, :12] for name, tensor in padded.items()}
    unsure = torch.from_numpy(unsure_of(early(**batch, all_exits=True).exit_logits[0], batch["attention_mask"]))
    order = unsure.argsort()
    # Rows sorted by certainty get lengths from long to short: rebuild so that long rows are the sure ones.
    rows = [int(order[0]), *[int(n) for n in order[-3:]]]
    narrow = max(lengths[n] for n in rows[1:])
    wide = torch.nn.functional.pad(batch["input_ids"][rows], (0, 4), value=1)
    mask = torch.nn.functional.pad(batch["attention_mask"][rows], (0, 4))
    chosen = uniform(EVERY, (unsure[rows[0]].item() + unsure[rows[1]].item()) / 2)
    widths = []
    early.roberta.encoder.layer[1].register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    found = early(input_ids=wide, attention_mask=mask, policy=chosen)
    assert found.exit_layers[0] == 1
    assert widths == [narrow]
    assert found.logits.shape[:2] == ((4, 16) if found.logits.dim() == 3 else (4, 5))
    for number, row in enumerate(rows):
        alone = early(**one(padded, row), policy=chosen).logits[0]
        logits = found.logits[number, : lengths[row]] if alone.dim() == 2 else found.logits[number]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_input_that_leaves_after_layer_one_runs_no_other(make, padded, one):
    _, early = make(exit_policy=uniform(EVERY, 1.0))
    ran = []
    for number, layer in enumerate(early.roberta.encoder.layer, start=1):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    assert early(**one(padded, 0)).exit_layers.tolist() == [1]
    assert ran == [1]


@torch.no_grad()
@pytest.mark.parametrize(("exit_layers", "threshold", "left"), [([2, 4], 1.0, 2), ([2, 4], 1e-9, 4), ([4], 1.0, 4)])
def test_the_count_from_shapes_equals_what_torch_counts(make, padded, kind, exit_layers, threshold, left):
    _, early = make("eager", exit_layers=exit_layers, exit_policy=uniform(exit_layers, threshold))
    ids = padded["input_ids"][[0, 3, 11], :9]
    with FlopCounterMode(display=False) as counter:
        assert early(ids).exit_layers.tolist() == [left] * 3
    head = Head(kind=kind, num_classes=5, layers=tuple(exit_layers))
    assert flops(shape_of(early.config), [9] * 3, [left] * 3, head).total == counter.get_total_flops()


@torch.no_grad()
def test_threshold_zero_evaluates_the_last_classifier_only(make, padded, kind):
    _, early = make("eager")
    with FlopCounterMode(display=False) as counter:
        early(padded["input_ids"][:3, :9])
    head = Head(kind=kind, num_classes=5)
    assert flops(shape_of(early.config), [9] * 3, [4] * 3, head).total == counter.get_total_flops()


@torch.no_grad()
def test_auto_classes_load_what_was_saved(mid_range, padded, kind, tmp_path):
    early = mid_range(exit_layers=[1, 3], policy={"token_pooling": "max"})
    early.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is XLMRobertaEarlyExitConfig
    assert config.exit_layers == [1, 3, 4]
    assert config.exit_policy == early.config.exit_policy
    assert config.exit_policy["token_pooling"] == "max"
    loaded, info = AUTO[kind].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert type(loaded) is EARLY[kind]
    ours, theirs = early(**padded), loaded(**padded)
    assert torch.equal(theirs.logits, ours.logits)
    assert torch.equal(theirs.exit_layers, ours.exit_layers)


@torch.no_grad()
def test_every_exit_of_a_packed_row_equals_the_sequence_alone(make, padded, kind):
    _, early = make()
    parts = [padded["input_ids"][0, :7], padded["input_ids"][3, :5]]
    sequence_ids = torch.tensor([[1] * 7 + [2] * 5])
    packed = early(
        torch.cat(parts)[None],
        attention_mask=packed_attention(sequence_ids),
        position_ids=packed_positions(sequence_ids),
        all_exits=True,
    )
    for layer, logits in enumerate(packed.exit_logits):
        first = early(parts[0][None], all_exits=True).exit_logits[layer]
        torch.testing.assert_close(logits[:, :7] if kind == "token" else logits, first, atol=1e-5, rtol=0)


def test_the_loss_is_the_sum_of_the_exits_cross_entropies(make, padded, kind, lengths):
    _, early = make(exit_layers=[2])
    shape = padded["input_ids"].shape if kind == "token" else (len(lengths),)
    labels = torch.randint(5, shape)
    labels[1] = -100
    output = early(**padded, labels=labels)
    kept = labels != -100
    expected = sum(F.cross_entropy(logits[kept], labels[kept]) for logits in output.exit_logits)
    torch.testing.assert_close(output.loss, expected)


def test_nobody_leaves_while_training(make, padded, lengths):
    _, early = make(exit_policy=uniform(EVERY, 1.0))
    output = early.train()(**padded)
    assert len(output.exit_logits) == 4
    assert output.exit_layers.tolist() == [4] * len(lengths)


@torch.no_grad()
def test_a_policy_that_is_given_goes_before_the_stored_one_and_is_not_kept(mid_range, padded, lengths):
    early = mid_range()
    stored, chosen = early(**padded).exit_layers, early.config.exit_policy
    assert early(**padded, policy=uniform(EVERY, 1.0)).exit_layers.tolist() == [1] * len(lengths)
    assert early(**padded, policy=uniform(EVERY, 0.0)).exit_layers.tolist() == [4] * len(lengths)
    assert early.config.exit_policy == chosen
    assert torch.equal(early(**padded).exit_layers, stored)


@torch.no_grad()
def test_where_every_exit_is_computed_a_policy_tells_who_would_exit_where(mid_range, padded, lengths):
    early = mid_range()
    ran = early(**padded)
    told = early(**padded, all_exits=True, policy=early.config.exit_policy)
    assert torch.equal(told.exit_layers, ran.exit_layers)
    torch.testing.assert_close(told.uncertainty, ran.uncertainty, atol=1e-5, rtol=0)
    assert early(**padded, all_exits=True).exit_layers.tolist() == [4] * len(lengths), "the stored one is not asked"


@torch.no_grad()
def test_only_words_beginnings_vote_on_a_sentence():
    set_seed(0)
    config = XLMRobertaEarlyExitConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=50, num_labels=5, exit_layers=[1, 2]
    )
    early = XLMRobertaEarlyExitForTokenClassification(config).eval()
    ids, starts = torch.randint(4, 50, (1, 6)), torch.tensor([[False, True, False, False, True, False]])
    p = early(ids, all_exits=True).exit_logits[0][0].double().softmax(-1)
    entropy = -(p * p.log()).sum(-1) / np.log(5)

    def found(starts=None, **more):
        return early(ids, word_starts=starts, policy=uniform((1, 2), 1.0, **more)).uncertainty.item()

    assert found(starts) == pytest.approx(entropy[[1, 4]].mean().item(), abs=1e-6)
    assert found() == pytest.approx(entropy.mean().item(), abs=1e-6)
    assert found(starts, token_pooling="max") == pytest.approx(entropy[[1, 4]].max().item(), abs=1e-6)


@torch.no_grad()
def test_padding_has_no_vote_whatever_is_asked_of_it():
    set_seed(0)
    config = XLMRobertaEarlyExitConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, vocab_size=50, num_labels=5, exit_layers=[1, 2, 3]
    )
    config.exit_policy = uniform((1, 2, 3), 1.0)
    early = XLMRobertaEarlyExitForTokenClassification(config).eval()
    ids, mask = torch.randint(4, 50, (2, 6)), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    everywhere = early(ids, mask, word_starts=torch.ones(2, 6, dtype=torch.bool))
    asked = early(ids, mask)
    assert torch.equal(everywhere.uncertainty, asked.uncertainty)
    assert torch.equal(everywhere.exit_layers, asked.exit_layers)


def test_the_last_layer_is_always_an_exit_and_exits_ascend():
    assert XLMRobertaEarlyExitConfig(num_hidden_layers=6, exit_layers=(4, 2)).exit_layers == [2, 4, 6]
    assert XLMRobertaEarlyExitConfig(num_hidden_layers=6).exit_layers == [6]


def early_by(**changes):
    """Settings of a model with an exit after layer 3 and a policy."""
    return {"exit_layers": [3], "exit_policy": {"layers": [3, 6], "thresholds": [0.5], **changes}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exit_layers": [0, 3]}, r"exit_layers \[0, 3, 6\] outside 1\.\.6"),
        ({"exit_layers": [7]}, r"exit_layers \[6, 7\] outside 1\.\.6"),
        ({"exit_policy": {"layers": [6], "thresholds": [0.5]}}, "for each of 0 early exits"),
        ({"exit_policy": {"layers": [3, 6], "thresholds": [0.5]}}, r"exits \[3, 6\] for a model with exits \[6\]"),
        ({"exit_layers": [3], "exit_policy": {"layers": [3], "thresholds": []}}, r"exits \[3\] for a model with"),
        (early_by(thresholds=[1.5]), r"a threshold in 0\.\.1"),
        (early_by(thresholds=[float("nan")]), r"a threshold in 0\.\.1"),
        (early_by(criterion="hunch"), "unknown criterion 'hunch'"),
        (early_by(granularity="word"), "unknown granularity 'word'"),
        (early_by(token_pooling="sum"), "unknown token_pooling 'sum'"),
        (early_by(criterion="patience"), "patience None with the criterion patience"),
        (early_by(patience=2), "patience 2 with the criterion entropy"),
    ],
)
def test_a_configuration_outside_its_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        XLMRobertaEarlyExitConfig(num_hidden_layers=6, **settings)


def test_packed_rows_do_not_leave_early(make, padded):
    _, early = make(exit_policy=uniform(EVERY, 0.5))
    with pytest.raises(ValueError, match=r"expected attention_mask of \[batch, tokens\], came \(1, 1, 7, 7\)"):
        early(padded["input_ids"][:1, :7], attention_mask=torch.zeros(1, 1, 7, 7))
