import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

from halfling.cost.flops import Head, flops, gmacs_linear
from halfling.records import EncoderShape

LARGE = EncoderShape(num_layers=24, width=1024, num_heads=16, ffn_width=4096, vocab_size=250_002, max_tokens=512)
BASE = EncoderShape(num_layers=12, width=768, num_heads=12, ffn_width=3072, vocab_size=250_002, max_tokens=512)
TINY = EncoderShape(num_layers=3, width=8, num_heads=2, ffn_width=20, vocab_size=50, max_tokens=30)


@pytest.mark.parametrize(("shape", "thesis"), [(LARGE, 38.69), (BASE, 10.88)])
def test_gmacs_linear_is_the_thesis_column_within_a_fifth_of_a_percent(shape, thesis):
    assert gmacs_linear(shape) == pytest.approx(thesis, rel=0.002)


def test_gmacs_linear_of_base_is_twelve_w_squared_a_layer():
    assert gmacs_linear(BASE) == pytest.approx(12 * 12 * 768**2 * 128 / 1e9)


def test_gmacs_linear_takes_a_mean_exit_layer():
    assert gmacs_linear(BASE, layers=4.5) == pytest.approx(gmacs_linear(BASE) * 4.5 / 12)


def test_one_layer_on_two_tokens_is_known_by_hand():
    counted = flops(TINY, [2], [1])
    assert counted.linear == 2 * 2 * (4 * 64 + 2 * 8 * 20)
    assert counted.attention == 2 * (2 * 2 * 8) * 2  # two products of 2 x 2 x 8, two operations each
    assert counted.heads == 0


@pytest.mark.parametrize(
    ("kind", "one_head"),
    [("sequence", 2 * (8 * 8 + 8 * 3)), ("token", 2 * 5 * 8 * 3)],
)
def test_every_exit_up_to_the_one_taken_pays_for_its_classifier(kind, one_head):
    head = Head(kind=kind, num_classes=3, layers=(1, 3))
    assert flops(TINY, [5], [1], head).heads == one_head
    assert flops(TINY, [5], [3], head).heads == 2 * one_head


def test_inputs_add_up_each_at_its_own_length_and_exit():
    head = Head(kind="token", num_classes=3, layers=(1, 2, 3))
    together = flops(TINY, [4, 9], [1, 3], head)
    assert together.total == flops(TINY, [4], [1], head).total + flops(TINY, [9], [3], head).total


def _tiny_config() -> XLMRobertaConfig:
    return XLMRobertaConfig(
        vocab_size=TINY.vocab_size,
        hidden_size=TINY.width,
        num_hidden_layers=TINY.num_layers,
        num_attention_heads=TINY.num_heads,
        intermediate_size=TINY.ffn_width,
        max_position_embeddings=TINY.max_tokens + 2,
        num_labels=5,
        attn_implementation="eager",
    )


@pytest.mark.parametrize(
    ("model_class", "head"),
    [
        (lambda config: XLMRobertaModel(config, add_pooling_layer=False), None),
        (XLMRobertaForSequenceClassification, Head(kind="sequence", num_classes=5)),
        (XLMRobertaForTokenClassification, Head(kind="token", num_classes=5)),
    ],
    ids=["encoder", "sequence", "token"],
)
@pytest.mark.parametrize(("batch", "tokens"), [(1, 7), (3, 16)])
def test_the_count_equals_what_torch_counts_while_the_model_runs(model_class, head, batch, tokens):
    model = model_class(_tiny_config()).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.full((batch, tokens), 7))
    assert flops(TINY, [tokens] * batch, [TINY.num_layers] * batch, head).total == counter.get_total_flops()


def test_an_exit_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match=r"one of the layers \[1, 3\], got 2"):
        flops(TINY, [5], [2], Head(kind="token", num_classes=3, layers=(1, 3)))


@pytest.mark.parametrize("layers", [(1, 2), (0, 3), (3, 4)])
def test_exits_that_do_not_end_with_the_encoder_are_refused(layers):
    with pytest.raises(ValueError, match=r"exits within 1\.\.3, the last one included"):
        flops(TINY, [5], [3], Head(kind="token", num_classes=3, layers=layers))


def test_a_length_without_its_exit_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        flops(TINY, [5, 6], [3])
