import pytest
import torch
from transformers import XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification, set_seed

from halfling.models import (
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)
from halfling.tasks.encode import encode_wikiann, encode_xnli
from halfling.tasks.predict import predict, word_labels
from halfling.tasks.wikiann import NerExample
from halfling.tasks.xnli import NliExample

WORDS = ("Anna", "lives", "in", "Rome", "abba", "", "yes")


def plain(task, config):
    set_seed(3)
    config.num_labels = 3 if task == "xnli" else 7
    kinds = {"xnli": XLMRobertaForSequenceClassification, "wikiann": XLMRobertaForTokenClassification}
    return kinds[task](config).eval()


def early(task, config, threshold):
    set_seed(3)
    config = XLMRobertaEarlyExitConfig(
        **config.to_dict() | {"exit_layers": [1, 2], "exit_policy": {"layers": [1, 2], "thresholds": [threshold]}}
    )
    config.num_labels = 3 if task == "xnli" else 7
    kinds = {
        "xnli": XLMRobertaEarlyExitForSequenceClassification,
        "wikiann": XLMRobertaEarlyExitForTokenClassification,
    }
    return kinds[task](config).eval()


def encoded_for(task, tokenizer):
    """Twelve inputs of mixed lengths, some with words that the model does not see."""
    texts = [tuple(WORDS[(n * k) % len(WORDS)] for k in range(1, 2 + n % 5)) for n in range(1, 13)]
    if task == "xnli":
        return encode_xnli([NliExample(" ".join(text), "no", 0) for text in texts], tokenizer, 30)
    return encode_wikiann([NerExample(text, (0,) * len(text)) for text in texts], tokenizer, 10)


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
@pytest.mark.parametrize("batch_size", [5, 32])
def test_batched_equals_one_by_one(task, batch_size, tiny_tokenizer, tiny_config):
    model, encoded = plain(task, tiny_config), encoded_for(task, tiny_tokenizer)
    alone = predict(model, encoded, 1, all_exits=True)
    together = predict(model, encoded, batch_size, all_exits=True)
    assert together.labels == alone.labels
    for one, other in zip(together.exit_logits[0], alone.exit_logits[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    flat = alone.labels if task == "xnli" else [label for labels in alone.labels for label in labels]
    assert len(set(flat)) > 1, "a model of one answer would pass any order"


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_answers_are_those_of_the_bare_model_in_the_examples_order(task, tiny_tokenizer, tiny_config):
    model, encoded = plain(task, tiny_config), encoded_for(task, tiny_tokenizer)
    found = predict(model, encoded, 4)
    for number, row in enumerate(encoded.rows):
        with torch.no_grad():
            best = model(torch.tensor([row["input_ids"]])).logits[0].argmax(-1).tolist()
        if task == "wikiann":
            best = [best[p] if p >= 0 else 0 for p in encoded.word_positions[number]]
        assert found.labels[number] == best
        assert found.num_tokens[number] == len(row["input_ids"])
    assert found.exit_layers == [2] * len(encoded.rows)
    assert found.exit_logits is None


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_early_exits_do_not_depend_on_the_batch(task, tiny_tokenizer, tiny_config):
    encoded = encoded_for(task, tiny_tokenizer)
    model = early(task, tiny_config, 0.6)
    alone, together = predict(model, encoded, 1), predict(model, encoded, 32)
    assert set(alone.exit_layers) == {1, 2}, "the threshold must part the examples"
    assert together.exit_layers == alone.exit_layers
    assert together.labels == alone.labels


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_all_exits_hold_what_each_layer_would_have_answered(task, tiny_tokenizer, tiny_config):
    encoded = encoded_for(task, tiny_tokenizer)
    every = predict(early(task, tiny_config, 0.6), encoded, 5, all_exits=True)
    assert set(every.exit_layers) == {2}
    for threshold, exit_number in ((1.0, 0), (0.0, 1)):
        model = early(task, tiny_config, threshold)
        stopped = predict(model, encoded, 5)
        seen = [logits.argmax(-1).tolist() for logits in every.exit_logits[exit_number]]
        if task == "wikiann":
            seen = [word_labels(*pair) for pair in zip(seen, encoded.word_positions, strict=True)]
        at_this_exit = [n for n, layer in enumerate(stopped.exit_layers) if layer == exit_number + 1]
        assert len(at_this_exit) > len(seen) // 2
        assert [stopped.labels[n] for n in at_this_exit] == [seen[n] for n in at_this_exit]


def test_unseen_words_are_outside():
    assert word_labels([3, 5], [1, -1, 4, -1]) == [3, 0, 5, 0]


def test_logits_of_words_are_kept_and_no_others(tiny_tokenizer, tiny_config):
    encoded = encoded_for("wikiann", tiny_tokenizer)
    found = predict(plain("wikiann", tiny_config), encoded, 4, all_exits=True)
    assert encoded.num_truncated, "some words must be cut off"
    for logits, positions, labels in zip(found.exit_logits[0], encoded.word_positions, found.labels, strict=True):
        assert logits.shape == (sum(p >= 0 for p in positions), 7)
        assert len(labels) == len(positions)


def test_a_model_in_training_stays_in_training(tiny_tokenizer, tiny_config):
    model = plain("xnli", tiny_config).train()
    first = predict(model, encoded_for("xnli", tiny_tokenizer), 4, all_exits=True)
    again = predict(model, encoded_for("xnli", tiny_tokenizer), 4, all_exits=True)
    assert model.training
    assert torch.equal(torch.stack(first.exit_logits[0]), torch.stack(again.exit_logits[0])), "dropout was on"
