import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaForTokenClassification
from transformers.utils import logging

from halfling.errors import HalflingError
from halfling.models.load import fetched, load_model, load_tokenizer, save_masked_lm


def test_only_a_plain_models_weights_and_settings_are_written(tmp_path, write_masked_lm, tiny_tokenizer):
    model = XLMRobertaForMaskedLM.from_pretrained(write_masked_lm(tmp_path / "model"))
    model.config.update({"layer_pairs": [(1, 2)], "kl_weight": 0.5})
    more = {**model.state_dict(), "projections.1.weight": torch.ones(2, 2)}
    save_masked_lm(model.config, more, tiny_tokenizer, tmp_path / "plain")
    loaded, info = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(info.values())
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    settings = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert settings["model_type"] == "xlm-roberta"
    assert settings["architectures"] == ["XLMRobertaForMaskedLM"]
    assert not {"layer_pairs", "kl_weight"} & settings.keys()
    ours = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings == ours
    assert AutoTokenizer.from_pretrained(tmp_path / "plain").encode("Anna") == tiny_tokenizer.encode("Anna")


def test_a_missing_weight_is_an_error_not_a_random_one(tmp_path, write_masked_lm, tiny_tokenizer):
    model = XLMRobertaForMaskedLM.from_pretrained(write_masked_lm(tmp_path / "model"))
    state = model.state_dict()
    del state["lm_head.dense.weight"]
    with pytest.raises(RuntimeError, match=r"lm_head\.dense\.weight"):
        save_masked_lm(model.config, state, tiny_tokenizer, tmp_path / "plain")


def test_half_precision_weights_are_loaded_in_full(tmp_path, write_masked_lm):
    folder = write_masked_lm(tmp_path / "model")
    XLMRobertaForMaskedLM.from_pretrained(folder).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    assert load_model(XLMRobertaForMaskedLM, folder).dtype == torch.float32


def test_a_fresh_classifier_on_an_encoder_is_no_warning(tmp_path, write_masked_lm, capfd):
    folder = write_masked_lm(tmp_path / "model")
    before = logging.get_verbosity()
    load_model(XLMRobertaForTokenClassification, folder, new=("classifier",), num_labels=7)
    assert logging.get_verbosity() == before
    assert "classifier" not in capfd.readouterr().err


def test_a_model_without_the_classifier_that_is_asked_for_is_refused(tmp_path, write_masked_lm):
    folder = write_masked_lm(tmp_path / "model")
    with pytest.raises(HalflingError, match="holds no trained classifier"):
        load_model(XLMRobertaForTokenClassification, folder, num_labels=7)


def test_a_saved_tokenizer_does_not_say_how_it_was_found(tmp_path, write_masked_lm):
    load_tokenizer(write_masked_lm(tmp_path / "model")).save_pretrained(tmp_path / "again")
    said = (tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8")
    assert "local" not in said


def test_pickled_weights_are_refused(tmp_path, write_masked_lm):
    folder = write_masked_lm(tmp_path / "model")
    model = XLMRobertaForMaskedLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(HalflingError, match="no model could be loaded") as error:
        load_model(XLMRobertaForMaskedLM, folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["nowhere", "cut", "no-config"])
def test_an_unreadable_model_is_one_line_that_names_the_folder(damage, tmp_path, write_masked_lm):
    folder = tmp_path / damage
    if damage != "nowhere":
        write_masked_lm(folder)
    if damage == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    if damage == "no-config":
        (folder / "config.json").unlink()
    before = logging.get_verbosity()
    with pytest.raises(HalflingError, match=f"{folder}: no model could be loaded") as error:
        load_model(XLMRobertaForMaskedLM, folder)
    assert "\n" not in str(error.value)
    assert logging.get_verbosity() == before


def test_an_unreadable_tokenizer_is_one_line_that_names_the_folder(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(HalflingError, match=f"{tmp_path}: no tokenizer could be loaded") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


FOREIGN = """
import sys
from transformers import AutoModelForTokenClassification
from halfling.errors import HalflingError
from halfling.models.load import load_model, load_tokenizer
for folder in sys.argv[1:]:
    for load in (lambda: load_model(AutoModelForTokenClassification, folder), lambda: load_tokenizer(folder)):
        try:
            load()
        except HalflingError as error:
            print("refused:", error)
"""


def test_a_folders_own_code_is_never_run_whatever_standard_input_says(tmp_path, write_tagger):
    marker = tmp_path / "was-run"
    unheard, known = (
        with_own_code(write_tagger(tmp_path / model_type), model_type, marker)
        for model_type in ("unheard-of", "xlm-roberta-early-exit")
    )
    ran = subprocess.run(
        [sys.executable, "-c", FOREIGN, str(unheard), str(known)],
        input="yes\n" * 6,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not marker.exists()
    assert "[y/N]" not in ran.stdout, "nobody is asked"
    assert 1 <= len(ran.stdout.splitlines()) <= 2
    assert all(line.startswith(f"refused: {unheard}") for line in ran.stdout.splitlines()), ran.stdout


def with_own_code(folder, model_type, marker):
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    for name, own in (
        ("config.json", ("AutoConfig", "AutoModelForTokenClassification")),
        ("tokenizer_config.json", ()),
    ):
        settings = json.loads((folder / name).read_text())
        settings["auto_map"] = {auto: f"own.{auto}" for auto in own} or {"AutoTokenizer": ["own.A", "own.B"]}
        if name == "config.json":
            settings["model_type"] = model_type
        else:
            settings["tokenizer_class"] = "Unheard" if model_type == "unheard-of" else settings["tokenizer_class"]
        (folder / name).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("before", ["", "import transformers.trainer", "import transformers.modeling_utils"])
def test_halfling_alone_makes_auto_classes_know_the_model_and_stays_free_of_torch(before, tmp_path, write_tagger):
    program = f"""
import sys
{before}
had = "torch" in sys.modules
import halfling
assert ("torch" in sys.modules) == had
assert {{one for one in sys.modules if one.startswith("halfling.")}} == {{"halfling.telemetry"}}
from transformers import AutoModelForTokenClassification
assert "halfling.models" not in sys.modules
print(type(AutoModelForTokenClassification.from_pretrained(sys.argv[1])).__module__)
"""
    folder = write_tagger(tmp_path / "model")
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["halfling.models.early_exit"]


def test_a_mistyped_path_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.setattr("halfling.models.load.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for place in ("runs/intnts", "a", "a/b/c", "./a/b", "/a", "~/a"):
        assert fetched(place) == Path(place)
