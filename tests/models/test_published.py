"""The models that the repository brings: small enough to be there, and whole."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

MODELS = Path(__file__).parents[2] / "models"
FOLDERS = sorted(path.parent for path in MODELS.glob("*/*/config.json"))


def test_teacher_and_student_take_at_most_48_megabytes():
    assert {folder.name for folder in FOLDERS} == {"teacher", "student"}
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= 48e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_published_model_guesses_words_better_than_chance(folder):
    model, found = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32", output_loading_info=True)
    assert not any(found.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The president of the United States lives in Washington.", return_tensors="pt").input_ids
    losses = []
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        with torch.inference_mode():
            logits = model(masked).logits[0, place]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, place]).item())
    # A model that knows nothing is at ln(24,000) = 10.1.
    assert sum(losses) / len(losses) < 7


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_card_tells_data_licences_tokens_curve_and_results(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("license:", "## Data", "tokens read in training", "Training curve", "held-out text", "WikiANN-NER"):
        assert heading in card, heading
