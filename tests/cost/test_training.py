from transformers import XLMRobertaForMaskedLM, XLMRobertaModel

from halfling.cost.training import (
    checkpoint_bytes,
    device_bytes,
    embeddings,
    language_model_head,
    parameters,
    pass_flops,
    weight_bytes,
)
from halfling.models.shapes import SHAPES, config_for
from halfling.records import EncoderShape

SMALL = EncoderShape(num_layers=2, width=8, num_heads=2, ffn_width=32, vocab_size=42, max_tokens=30)
LARGE, BASE = SHAPES["xlm-roberta-large"], SHAPES["xlm-roberta-base"]


def test_weights_are_those_of_the_model():
    model = XLMRobertaForMaskedLM(config_for(SMALL))
    assert parameters(SMALL) + language_model_head(SMALL) == model.num_parameters()
    assert embeddings(SMALL) == sum(weight.numel() for weight in model.roberta.embeddings.parameters())
    assert parameters(SMALL) == XLMRobertaModel(config_for(SMALL), add_pooling_layer=False).num_parameters()
    assert parameters(BASE) + language_model_head(BASE) == 278_295_186  # as published
    assert (weight_bytes(10), checkpoint_bytes(10, 5)) == (40, 3 * (120 + 20))


def test_a_pass_by_hand():
    # A layer and token: 4 x 8^2 + 2 x 8 x 32 = 768 products and additions; attention 2 x 10 x 8 more each way.
    a_token = 2 * (2 * 768 + 2 * 2 * 10 * 8)
    assert pass_flops(SMALL, 100, 10) == 100 * a_token
    # The output layer: 8 x 8 before it, 8 x 42 in it.
    assert pass_flops(SMALL, 100, 10, answers=15) == 100 * a_token + 15 * 2 * 8 * (8 + 42)


def test_memory_by_hand():
    around = 2**30
    assert device_bytes(1000, 500, SMALL, 100) == 16_000 + 2000 + 66 * 2 * 8 * 100 + around
    assert device_bytes(1000, 500, SMALL, 100, bfloat16=False) == 16_000 + 2000 + 2 * 66 * 2 * 8 * 100 + around
    # Four share it out: 16,000 and 2,000 bytes, but for 300 weights or gradients of 4 bytes.
    shared = device_bytes(1000, 500, SMALL, 100, shared_by=4, whole=300)
    assert shared == 18_000 // 4 + 4 * 300 + 66 * 2 * 8 * 100 + around
    outputs = 42 * (2 * (8 + 16) + 4 * 8)
    assert device_bytes(0, 0, SMALL, 0, output_widths=(8, 16)) == outputs + around


def test_memory_is_near_what_a_gpu_measured():
    """docs/benchmarks.md, a step of distillation on an H100: tokens at once and peak GiB."""
    weights, teacher = (parameters(shape) + language_model_head(shape) for shape in (BASE, LARGE))
    learned = weights + BASE.num_layers * (BASE.width + 1) * LARGE.width  # projections
    for tokens, measured in ((4096, 11.2), (8192, 13.5), (16_384, 18.2)):
        found = device_bytes(learned, teacher, BASE, tokens, output_widths=(BASE.width, LARGE.width))
        assert abs(found / 2**30 - measured) < 0.2, tokens
