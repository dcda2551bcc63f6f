import numpy as np
import pytest
import torch
from transformers import XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification, set_seed

from halfling.models import (
    XLMRobertaEarlyExitConfig,
    XLMRobertaEarlyExitForSequenceClassification,
    XLMRobertaEarlyExitForTokenClassification,
)
from halfling.tasks.encode import encode
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import TaggedExample, TextExample
from halfling.tasks.predict import answers, pad, predict

WORDS = ("Anna", "lives", "in", "Rome", "abba", "", "yes")
LABELS = {"pairs": ("bye", "hi", "yes"), "tags": ("B-LOC", "B-PER", "O", "I-LOC", "I-PER", "B-ORG", "I-ORG")}


@pytest.fixture(params=["pairs", "tags"])
def kind(request):
    return request.param


def plain(kind, config):
    set_seed(3)
    config.num_labels = len(LABELS[kind])
    kinds = {"pairs": XLMRobertaForSequenceClassification, "tags": XLMRobertaForTokenClassification}
    return kinds[kind](config).eval()


def early(kind, config, threshold):
    set_seed(3)
    config = XLMRobertaEarlyExitConfig(
        **config.to_dict() | {"exit_layers": [1, 2], "exit_policy": {"layers": [1, 2], "thresholds": [threshold]}}
    )
    config.num_labels = len(LABELS[kind])
    kinds = {"pairs": XLMRobertaEarlyExitForSequenceClassification, "tags": XLMRobertaEarlyExitForTokenClassification}
    return kinds[kind](config).eval()


def encoded_for(kind, tokenizer):
    """Twelve inputs of mixed lengths, some with words that the model does not see; and their numbers of words."""
    texts = [tuple(WORDS[(n * k) % len(WORDS)] for k in range(1, 2 + n % 5)) for n in range(1, 13)]
    if kind == "pairs":
        return encode([TextExample(" ".join(text), "no", "hi") for text in texts], tokenizer, 30), None
    return encode([TaggedExample(text, ("O",) * len(text)) for text in texts], tokenizer, 10), [len(t) for t in texts]


def assert_same_logits(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [5, 32])
def test_batched_equals_one_by_one(kind, batch_size, tiny_tokenizer, tiny_config):
    model, (encoded, _) = plain(kind, tiny_config), encoded_for(kind, tiny_tokenizer)
    alone = predict(model, encoded, 1, all_exits=True)
    together = predict(model, encoded, batch_size, all_exits=True)
    assert_same_logits(together.logits, alone.logits)
    assert_same_logits(together.exit_logits[0], alone.exit_logits[0])
    best = np.concatenate(alone.logits).argmax(-1)
    assert len({*best.tolist()}) > 1, "a model of one answer would pass any order"


def test_answers_are_those_of_the_bare_model_in_the_examples_order(kind, tiny_tokenizer, tiny_config):
    model, (encoded, words) = plain(kind, tiny_config), encoded_for(kind, tiny_tokenizer)
    found = predict(model, encoded, 4)
    named = answers(found.logits, encoded, LABELS[kind], words)
    for number, one in enumerate(encoded):
        with torch.no_grad():
            best = model(torch.tensor(one.ids)[None]).logits[0].argmax(-1).tolist()
        if kind == "pairs":
            assert named[number] == LABELS[kind][best]
            continue
        seen = dict(zip(one.words.tolist(), one.picked.tolist(), strict=True))
        assert named[number] == [LABELS[kind][best[seen[n]]] if n in seen else "O" for n in range(words[number])]
    assert found.exit_layers == found.exits_taken == [2] * len(encoded)
    assert found.exit_logits is None


def test_early_exits_do_not_depend_on_the_batch(kind, tiny_tokenizer, tiny_config):
    encoded, _ = encoded_for(kind, tiny_tokenizer)
    model = early(kind, tiny_config, 0.6)
    alone, together = predict(model, encoded, 1), predict(model, encoded, 32)
    assert {*alone.exit_layers} == {1, 2}, "the threshold must part the examples"
    assert together.exit_layers == alone.exit_layers
    assert_same_logits(together.logits, alone.logits)


def test_all_exits_hold_what_each_layer_would_have_answered(kind, tiny_tokenizer, tiny_config):
    encoded, _ = encoded_for(kind, tiny_tokenizer)
    every = predict(early(kind, tiny_config, 0.6), encoded, 5, all_exits=True)
    assert {*every.exit_layers} == {2}
    for threshold, exit_number in ((1.0, 0), (0.0, 1)):
        stopped = predict(early(kind, tiny_config, threshold), encoded, 5)
        at_this_exit = [n for n, layer in enumerate(stopped.exit_layers) if layer == exit_number + 1]
        assert len(at_this_exit) > len(encoded) // 2
        seen = every.exit_logits[exit_number]
        assert_same_logits([stopped.logits[n] for n in at_this_exit], [seen[n] for n in at_this_exit])


def test_logits_of_words_are_kept_and_no_others(tiny_tokenizer, tiny_config):
    encoded, _ = encoded_for("tags", tiny_tokenizer)
    found = predict(plain("tags", tiny_config), encoded, 4, all_exits=True)
    assert any(one.truncated for one in encoded), "some words must be cut off"
    for logits, of_exit, one in zip(found.logits, found.exit_logits[0], encoded, strict=True):
        assert logits.shape == of_exit.shape == (len(one.words), 7)
        assert logits.dtype == np.float32


def test_unseen_words_are_outside_and_have_no_answer_where_a_model_has_no_o():
    encoded = [Encoded(np.array([0, 7, 8, 2]), np.array([1, 2]), np.array([0, 2]))]
    logits = [np.array([[0.0, 1.0], [1.0, 0.0]])]
    assert answers(logits, encoded, ("B-X", "O"), [4]) == [["O", "O", "B-X", "O"]]
    assert answers(logits, encoded, ("NOUN", "VERB"), [4]) == [["VERB", None, "NOUN", None]]


def test_a_sentence_without_a_readable_word_has_an_answer_for_each(tiny_tokenizer, tiny_config):
    sentences = [TaggedExample((" ", "\xa0"), ("O", "O")), TaggedExample(("Anna",), ("O",))]
    encoded = encode(sentences, tiny_tokenizer, 10)
    found = predict(plain("tags", tiny_config), encoded, 2)
    assert [len(one) for one in answers(found.logits, encoded, LABELS["tags"], [2, 1])] == [2, 1]


def test_rows_are_padded_to_the_longest():
    batch = pad([[0, 7, 2], np.array([0, 2])], pad_id=1)
    assert batch["input_ids"].tolist() == [[0, 7, 2], [0, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_model_in_training_stays_in_training(tiny_tokenizer, tiny_config):
    model, (encoded, _) = plain("pairs", tiny_config).train(), encoded_for("pairs", tiny_tokenizer)
    first, again = predict(model, encoded, 4), predict(model, encoded, 4)
    assert model.training
    assert np.array_equal(np.stack(first.logits), np.stack(again.logits)), "dropout was on"
