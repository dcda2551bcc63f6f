import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaForMaskedLM

from halfling.errors import HalflingError
from halfling.records import Manifest, MaskedLoss
from halfling.report.publish import PublishSettings, publish

CURVE = [{"step": 25 * n, "loss": 9 - n / 10} for n in range(1, 31)]


@pytest.fixture
def model(tmp_path, write_masked_lm):
    """A random model in the folder of the stage that claims to have made it."""
    folder = write_masked_lm(tmp_path / "teacher")
    Manifest(
        stage="build_teacher",
        fingerprint="f",
        settings={"epochs": 5},
        inputs={},
        versions={},
        seed=3,
        seconds=1.0,
        counts={"tokens": 1234567, "steps": 750, "curve": CURVE},
        files={},
        digest="d",
    ).write(folder / "manifest.json")
    return folder


@pytest.fixture
def measured(write, quality, tmp_path):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    line = MaskedLoss(model="teacher", language="sw", loss=6.25, num_masked=9).model_dump_json()
    (held_out / "masked_lm.jsonl").write_text(line + "\n")
    return {
        "quality": write("scores", [quality("teacher", seed=s, score=0.4 + s / 10) for s in (0, 1)]),
        "lm": held_out,
    }


def published(model, out, measured=None, notes=None, **changes):
    out.mkdir(exist_ok=True)
    settings = PublishSettings(**{"title": "halfling-mini", **changes})
    return publish(settings=settings, model=model, out=out, notes=notes, **(measured or {}))


def test_bare_transformers_loads_half_precision_within_its_rounding(model, tmp_path):
    counts = published(model, tmp_path / "out")
    ours, info = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert ours.dtype == torch.float16
    theirs = XLMRobertaForMaskedLM.from_pretrained(model)
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight.half(), rtol=0, atol=0)
    assert counts["weights_bytes"] < 0.6 * (model / "model.safetensors").stat().st_size
    tokenizers = [AutoTokenizer.from_pretrained(folder).encode("Anna lives") for folder in (model, tmp_path / "out")]
    assert tokenizers[0] == tokenizers[1]


def test_the_card_tells_what_was_trained_and_measured(model, measured, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("## Data\n\nSentences.\n")
    published(model, tmp_path / "out", measured, notes)
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlicense: cc-by-sa-4.0\n")
    assert '- "sw"' in text.split("---")[1]
    for line in (
        "## Data",
        "| tokens read in training | 1,234,567 |",
        "| epochs | `5` |",
        "| 50 | 8.8 |",
        "| 750 | 6.0 |",
        "entities, dev: span F1 %",
        "| 45.0\u00a0±\u00a07.1 |",
        "| sw | Swahili | 6.25 |",
    ):
        assert line in text, line


def test_what_float16_cannot_hold_is_refused(model, tmp_path):
    large = XLMRobertaForMaskedLM.from_pretrained(model)
    with torch.no_grad():
        large.lm_head.bias[5] = 2 * float(np.finfo(np.float16).max)
    large.save_pretrained(model)
    with pytest.raises(HalflingError, match="precision=float32"):
        published(model, tmp_path / "out")
    published(model, tmp_path / "out", precision="float32")


@pytest.mark.parametrize(
    ("gone", "message"),
    [("model.safetensors", r"holds no model\.safetensors"), ("manifest.json", r"no manifest\.json here")],
)
def test_a_folder_that_no_stage_made_is_one_line(gone, message, model, tmp_path):
    (model / gone).unlink()
    with pytest.raises(HalflingError, match=message) as error:
        published(model, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_damaged_weights_are_one_line(model, tmp_path):
    (model / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(HalflingError, match="make the model again"):
        published(model, tmp_path / "out")
