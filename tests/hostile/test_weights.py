"""Weights, configurations and training whose numbers are none: refused by name, and nothing is written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from halfling.engine import AdaptiveEngine
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.export.write import ExportSettings, export
from halfling.models.classifier import load_classifier
from halfling.models.load import load_model
from halfling.models.masked_lm import PackedMaskedLM
from halfling.models.shapes import Dimensions
from halfling.stage import Stage, run_stage
from halfling.training.distill import DistillSettings, distill
from halfling.training.exits import ExitsSettings, train_exits
from halfling.training.finetune import FinetuneSettings, finetune
from halfling.training.pretrain import TeacherSettings, build_teacher

INTERMEDIATE = "roberta.encoder.layer.1.intermediate.dense.weight"
WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture
def plain(write_classifier, tiny_tasks, tmp_path):
    """A plain classifier of three layers."""
    return write_classifier(tmp_path / "plain", tiny_tasks["moods"])


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [INTERMEDIATE, WORDS, "classifier.out_proj.bias", "roberta.embeddings.LayerNorm.bias"])
def test_a_weight_that_is_no_number_is_refused_by_its_name(name, value, plain, refused):
    def spoil(weights):
        weights[name].view(-1)[-1] = value

    change_weights(plain, spoil)
    refused(lambda: load_classifier(plain), str(plain), f"{name} holds 1 weights that are no numbers")


def test_every_stage_that_reads_the_model_refuses_it(
    plain, write_masked_lm, write_packed, full_blocks, tmp_path, refused
):
    def spoil(weights):
        weights[INTERMEDIATE][0, 0] = float("nan")

    change_weights(plain, spoil)
    teacher = write_masked_lm(tmp_path / "teacher")
    change_weights(teacher, spoil)
    packed, out = write_packed(tmp_path / "packed", full_blocks(1, 8)), tmp_path / "out"
    out.mkdir()
    student = DistillSettings(student=Dimensions(num_layers=1, width=8, num_heads=2, max_tokens=64), epochs=1)
    for work in (
        lambda: measure_quality(settings=QualitySettings(), models={"m": plain}, out=out),
        lambda: export(settings=ExportSettings(backends=("onnx",)), model=plain, out=out),
        lambda: train_exits(settings=ExitsSettings(max_tokens=30), finetuned=plain, out=out),
        lambda: distill(settings=student, teacher=teacher, packed=packed, out=out),
        lambda: build_teacher(
            settings=TeacherSettings(source=str(teacher), epochs=0), packed=packed, tokenizer=teacher, out=out
        ),
    ):
        refused(work, INTERMEDIATE)
        assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan, which is no number"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps=0.0: between 0 and 1"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps=-1e-05: between 0 and 1"),
        ({"layer_norm_eps": 1e30}, "layer_norm_eps=1e+30: between 0 and 1"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps=inf, which is no number"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob=nan, which is no number"),
        ({"initializer_range": float("inf")}, "initializer_range=inf, which is no number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1: a whole number from 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: a whole number from 1"),
        ({"num_hidden_layers": 2}, "its weights end with roberta.encoder.layer.2."),
        ({"num_hidden_layers": 10**9}, "its weights end with roberta.encoder.layer.2."),
        ({"num_attention_heads": 0}, "num_attention_heads=0: a whole number from 1"),
        ({"hidden_size": 10**9}, "position_embeddings.weight is [42, 16]"),
        ({"vocab_size": 10**12}, f"its {WORDS} is [42, 16], and config.json says vocab_size={10**12}"),
        ({"intermediate_size": 10**9}, "encoder.layer.0.intermediate.dense.weight is [64, 16]"),
        ({"max_position_embeddings": -5}, "max_position_embeddings=-5: a whole number from 1"),
        ({"model_type": "camembert"}, "a camembert model: halfling reads XLM-R's architecture"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_the_setting(changes, said, plain, refused):
    change_config(plain, **changes)
    refused(lambda: load_model(PackedMaskedLM, plain), said)


def test_a_missing_tensor_or_one_of_another_shape_is_refused_by_its_name(plain, refused):
    kept = (plain / "model.safetensors").read_bytes()
    change_weights(plain, lambda weights: weights.pop(INTERMEDIATE))
    refused(lambda: load_classifier(plain), f"holds no trained {INTERMEDIATE}")
    (plain / "model.safetensors").write_bytes(kept)
    query = "roberta.encoder.layer.0.attention.self.query.weight"
    change_weights(plain, lambda weights: weights.update({query: torch.zeros(8, 16)}))
    refused(lambda: load_classifier(plain), f"its {query} is [8, 16], and config.json asks for [16, 16]")


def test_finite_weights_that_answer_with_no_number_are_not_scored(plain, tmp_path, refused):
    change_weights(plain, lambda weights: weights[INTERMEDIATE].fill_(1e38))
    refused(
        lambda: measure_quality(settings=QualitySettings(), models={"m": plain}, out=tmp_path),
        f"{plain}: answers with what is no number",
    )
    (tmp_path / "out").mkdir()
    refused(
        lambda: export(settings=ExportSettings(backends=("onnx",)), model=plain, out=tmp_path / "out"),
        "nothing was written",
    )


def test_an_engine_s_answer_that_is_no_number_is_no_label(plain, tmp_path, monkeypatch, refused):
    out = tmp_path / "out"
    out.mkdir()
    export(settings=ExportSettings(backends=("onnx",)), model=plain, out=out)
    engine = AdaptiveEngine.from_pretrained(out, "onnx", 1)
    assert engine.predict(["maybe Anna"])[0].label in ("glad", "sad")
    run = engine.backend.run

    def broken(*arguments):
        states, logits = run(*arguments)
        return states, logits * np.float32("nan")

    monkeypatch.setattr(engine.backend, "run", broken)
    refused(lambda: engine.predict(["maybe Anna"]), "answers with what is no number")


@pytest.fixture
def stages(write_masked_lm, write_classifier, write_packed, full_blocks, tiny_tasks, tmp_path):
    """Every training, by name: what it calls, its settings at a learning rate, and what it reads."""
    encoder = write_masked_lm(tmp_path / "encoder")
    packed = write_packed(tmp_path / "packed", full_blocks(2, 16))
    task = tiny_tasks["moods"]
    finetuned = write_classifier(tmp_path / "finetuned", task)
    labelled = {"batch_size": 4, "max_tokens": 30, "epochs": 2}
    masked = {"batch_size": 4, "epochs": 2}
    student = Dimensions(num_layers=1, width=8, num_heads=2, max_tokens=64)

    def make(name, rate):
        match name:
            case "teacher":
                settings = TeacherSettings(source=str(encoder), learning_rate=rate, **masked)
                return build_teacher, settings, {"packed": packed, "tokenizer": encoder}
            case "distill":
                settings = DistillSettings(student=student, learning_rate=rate, **masked)
                return distill, settings, {"teacher": encoder, "packed": packed}
            case "finetune":
                settings = FinetuneSettings(learning_rate=rate, **labelled)
                return finetune, settings, {"encoder": encoder, "task": task}
            case "imitate":
                settings = FinetuneSettings(learning_rate=rate, soft_share=0.5, **labelled)
                return finetune, settings, {"encoder": encoder, "task": task, "teacher": finetuned}
        settings = ExitsSettings(learning_rate=rate, method=name, **labelled)
        return train_exits, settings, {"finetuned": finetuned, "task": None}

    return make


@pytest.mark.parametrize("name", ["teacher", "distill", "finetune", "imitate", "joint", "leaving", "two_stage"])
def test_training_that_diverges_stops_with_one_line_and_leaves_nothing_finished(name, stages, tmp_path, refused):
    out = tmp_path / "out"
    work, settings, inputs = stages(name, 1e30)
    said = refused(lambda: run_stage(Stage(name, work, settings, out, inputs)), "set learning_rate=1e+30 lower")
    assert re.match(r"training: a (loss|gradient norm) of \S+ after step \d+: it diverged", said)
    assert not out.exists()
    kept = Path(said.partition("the batch is in ")[2].removesuffix(")"))
    assert {"input_ids", "labels"} <= {*load_file(kept)}
    work, settings, inputs = stages(name, 1e-3)
    run_stage(Stage(name, work, settings, out, inputs))
    assert (out / "manifest.json").is_file()
    assert not kept.exists()


def test_a_last_step_that_ruins_the_weights_is_seen_though_no_loss_follows_it(stages, tmp_path, refused):
    # Warm-up to the very end: the first step has a rate of 0, the second and last the whole.
    work, settings, inputs = stages("finetune", 1e30)
    short = settings.model_copy(update={"epochs": 1, "max_train_examples": 8, "warmup_share": 0.5})
    refused(lambda: run_stage(Stage("short", work, short, tmp_path / "out", inputs)), "after step 2: it diverged")
    assert not (tmp_path / "out").exists()


def test_a_weight_that_became_none_is_named(stages, tmp_path, monkeypatch, refused):
    from halfling.training.trainer import BatchMeanTrainer

    whole = BatchMeanTrainer.require_learned

    def spoilt(self):
        with torch.no_grad():
            self.model.roberta.encoder.layer[1].output.dense.bias[3] = float("nan")
        whole(self)

    monkeypatch.setattr(BatchMeanTrainer, "require_learned", spoilt)
    work, settings, inputs = stages("finetune", 1e-3)
    refused(
        lambda: run_stage(Stage("finetune", work, settings, tmp_path / "out", inputs)),
        "roberta.encoder.layer.1.output.dense.bias holds 1 weights that are no numbers",
    )
    assert not (tmp_path / "out").exists()
