import math

import pytest
import torch
from transformers import XLMRobertaForMaskedLM

from halfling.errors import HalflingError
from halfling.evaluate.masked_lm import MaskedLMSettings, measure_masked_lm
from halfling.results import MaskedLoss


def lines(out):
    return [MaskedLoss.model_validate_json(line) for line in (out / "masked_lm.jsonl").read_text().splitlines()]


@pytest.fixture
def measure(tmp_path):
    def make(model, packed, **changes):
        (tmp_path / "out").mkdir(exist_ok=True)
        settings = MaskedLMSettings(**{"model": "teacher", **changes})
        counts = measure_masked_lm(settings=settings, model=model, packed=packed, out=tmp_path / "out")
        return counts, lines(tmp_path / "out")

    return make


def test_a_model_that_knows_nothing_is_as_unsure_as_its_vocabulary_is_large(
    tmp_path, measure, write_masked_lm, write_packed, full_blocks
):
    source = write_masked_lm(tmp_path / "model")
    model = XLMRobertaForMaskedLM.from_pretrained(source)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
        model.lm_head.bias.zero_()
    model.save_pretrained(source)
    counts, (line,) = measure(source, write_packed(tmp_path / "packed", full_blocks(2, 5)))
    assert (line.model, line.language, line.num_masked) == ("teacher", "en", 5 * 4)  # 15 % of 24 tokens, 5 blocks
    assert line.loss == pytest.approx(math.log(42), abs=1e-4)
    assert counts == {"mean_loss": round(line.loss, 4), "languages": 1}


def test_only_the_held_out_chunk_counts(tmp_path, measure, write_masked_lm, write_packed, full_blocks):
    model, (first, second, third) = write_masked_lm(tmp_path / "model"), full_blocks(3, 5)
    here = measure(model, write_packed(tmp_path / "here", [first, second]))
    assert here == measure(model, write_packed(tmp_path / "there", [third, second]))
    assert here != measure(model, write_packed(tmp_path / "other", [first, third]))
    assert here == measure(model, write_packed(tmp_path / "named", [second, first]), chunk=1)


def test_the_loss_does_not_depend_on_the_batch(tmp_path, measure, write_masked_lm, write_packed, full_blocks):
    model, packed = write_masked_lm(tmp_path / "model"), write_packed(tmp_path / "packed", full_blocks(1, 7))
    (one,), (many,) = (measure(model, packed, batch_size=size)[1] for size in (1, 5))
    assert one.loss == pytest.approx(many.loss, abs=1e-5)


@pytest.mark.parametrize(
    ("vocab_size", "chunk", "message"),
    [(50, None, "was packed with 50 pieces, .* has 42"), (42, 3, "has 2 chunks, not 3")],
)
def test_what_does_not_fit_is_one_line(
    vocab_size, chunk, message, tmp_path, measure, write_masked_lm, write_packed, full_blocks
):
    model = write_masked_lm(tmp_path / "model")
    packed = write_packed(tmp_path / "packed", full_blocks(2, 5), vocab_size=vocab_size)
    with pytest.raises(HalflingError, match=message):
        measure(model, packed, chunk=chunk)


def test_a_model_without_a_head_is_left_out_and_said(tmp_path, measure, write_masked_lm, write_packed, full_blocks):
    source = write_masked_lm(tmp_path / "model")
    XLMRobertaForMaskedLM.from_pretrained(source).roberta.save_pretrained(source)
    counts, found = measure(source, write_packed(tmp_path / "packed", full_blocks(2, 5)))
    assert found == []
    assert counts == {"languages": 0, "left_out": "teacher has no language-model head: it predicts no words"}
