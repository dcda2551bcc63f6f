import json

import numpy as np
import pytest
import torch
from transformers import XLMRobertaForMaskedLM

from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.models.load import load_tokenizer
from halfling.tokens.piece_counts import NUM_PIECES
from halfling.training.trim import TrimSettings, trim

TEXT = "Anna lives in Rome."


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "en.txt").write_text("Anna lives in Rome\nyes Anna\n")
    return tmp_path / "text"


def cut(model, out, text=None, task=None, **settings):
    out.mkdir()
    return trim(settings=TrimSettings(**settings), model=model, out=out, corpus=text, task=task)


@pytest.mark.parametrize("kind", ["masked-lm", "headless"])
def test_an_encoder_says_of_texts_that_stay_what_it_said(kind, write_masked_lm, text, tmp_path):
    model = write_masked_lm(tmp_path / "model")
    if kind == "headless":
        XLMRobertaForMaskedLM.from_pretrained(model).roberta.save_pretrained(model)
    before = XLMRobertaForMaskedLM.from_pretrained(model).eval()
    counts = cut(model, tmp_path / "out", text)
    after = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "out").eval()
    assert counts == {"pieces_before": 42, "pieces": 40}  # ▁maybe and ▁no are gone
    assert after.config.vocab_size == len(load_tokenizer(tmp_path / "out")) == 40
    old, new = (load_tokenizer(folder)(TEXT, return_tensors="pt") for folder in (model, tmp_path / "out"))
    assert not torch.equal(old.input_ids, new.input_ids)
    with torch.inference_mode():
        states = [one.roberta(**ids).last_hidden_state for one, ids in ((before, old), (after, new))]
    assert torch.equal(*states)
    if kind == "masked-lm":
        left = [n for n in range(42) if n not in (10, 11)]
        with torch.inference_mode():
            torch.testing.assert_close(after(**new).logits, before(**old).logits[..., left], atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 40


@pytest.mark.parametrize("files", ["one file", "several files"])
def test_a_fine_tuned_models_task_travels_and_its_dev_texts_are_compared(
    files, write_classifier, tiny_tasks, text, tmp_path
):
    model = write_classifier(tmp_path / "model", tiny_tasks["names"], [1, 3])
    if files == "several files":
        network = load_classifier(model)
        (model / "model.safetensors").unlink()
        network.save_pretrained(model, max_shard_size="5KB")
        assert not (model / "model.safetensors").exists()
    counts = cut(model, tmp_path / "out", text)
    assert (tmp_path / "out" / "task.json").is_file()
    # Of six English sentences in turn, "no" and "maybe Anna" have lost a piece; of three Swahili ones "no".
    assert counts["unchanged en"] == round(1 - 14 / 40, 4)
    assert counts["unchanged sw"] == round(8 / 12, 4)
    assert 0 <= counts["same_answers en"] <= 1
    old, new = (load_tokenizer(folder)("Anna lives", return_tensors="pt") for folder in (model, tmp_path / "out"))
    one, other = (load_classifier(folder).eval() for folder in (model, tmp_path / "out"))
    with torch.inference_mode():
        assert torch.equal(one(**old).logits, other(**new).logits)
    with pytest.raises(HalflingError, match="neither languages nor text: name --languages sw,en, or --corpus FOLDER"):
        cut(model, tmp_path / "other")


def test_a_classifier_of_somebody_else_is_cut_though_no_task_travels_with_it(
    write_classifier, tiny_tasks, text, tmp_path
):
    model = write_classifier(tmp_path / "model", tiny_tasks["names"], [1, 3])
    (model / "task.json").unlink()
    counts = cut(model, tmp_path / "out", text)
    assert counts["pieces"] < counts["pieces_before"]
    assert not [name for name in counts if name.startswith(("unchanged", "same_answers"))]
    assert read_checkpoint(tmp_path / "out").labels == read_checkpoint(model).labels


def test_counts_that_come_along_are_of_xlm_rs_vocabulary(write_masked_lm, tmp_path, monkeypatch):
    model = write_masked_lm(tmp_path / "model")
    with pytest.raises(HalflingError, match="has 42 pieces, and the counts that come with halfling"):
        cut(model, tmp_path / "out", languages=("sw",))
    monkeypatch.setattr("halfling.training.trim.own_ids", lambda tokenizer: np.arange(len(tokenizer)))
    monkeypatch.setattr(
        "halfling.training.trim.known_counts",
        lambda codes: {code: (np.arange(NUM_PIECES) == 5).astype(np.int64) for code in codes},
    )
    counts = cut(model, tmp_path / "known", languages="sw")
    assert 30 < counts["pieces"] < 42
