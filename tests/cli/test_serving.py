"""`halfling export` and `halfling predict`: what they say, and what they say when something is wrong."""

import io
import json
import re
import sys

import pytest


@pytest.fixture
def error(halfling, tmp_path):
    """A function that calls `halfling`, checks that it fails with one line and writes nothing, and returns the line."""

    def call(*argv: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        said = halfling(*argv)
        assert said.status == 1, said
        assert len(said.err.splitlines()) == 1, said.err
        assert said.out == ""
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return said.err.removeprefix("error: ").strip()

    return call


@pytest.fixture
def exported(halfling, write_tagger, tmp_path):
    """An exported tagger."""
    said = halfling("export", write_tagger(tmp_path / "model"), tmp_path / "served", "--backend", "onnx")
    assert said.status == 0, said.err
    return tmp_path / "served"


@pytest.fixture
def typed(monkeypatch):
    """A function that puts a text on standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_export_prints_how_its_answers_compare_with_torchs(halfling, write_tagger, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"
    said = halfling("export", model, out, "--backend", "onnx", "--backend", "torch")
    line = r"{} float32: largest logit difference from torch \S+, 100.00% equal labels, 64 sentences\n"
    assert re.fullmatch(line.format("onnx") + line.format("torch") + re.escape(f"{out}\n"), said.out), said
    (found,) = json.loads(halfling("export", model, out, "--backend", "onnx", "--json").out)
    assert (found["backend"], found["num_sentences"]) == ("onnx", 64)
    assert 0 < found["largest_difference"] < 1e-5


def test_predict_answers_a_line_with_a_line(halfling, exported, typed, tmp_path):
    lines = ["Anna lives in Rome", "", "one\u2028line", "a\tb"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = halfling("predict", exported, "--file", tmp_path / "lines.txt")
    assert said.status == 0, said.err
    assert [line.split("\t", 2)[2] for line in said.out.split("\n")[:-1]] == lines
    typed("\n".join(lines))
    assert halfling("predict", exported).out == said.out
    found = [json.loads(line) for line in halfling("predict", exported, *lines, "--json").out.split("\n")[:-1]]
    assert [one["text"] for one in found] == lines
    assert [len(one["tags"]) for one in found] == [4, 0, 2, 2]
    assert [one["exit_layer"] for one in found] == [2, 0, 2, 2]


@pytest.mark.parametrize("typed_text", ["", "\n \n"], ids=["nothing", "blank lines"])
def test_no_text(typed_text, error, exported, typed):
    typed(typed_text)
    assert error("predict", exported) == "predict: no text: give texts, --file, or lines on standard input"
    assert error("predict", exported, "") == "predict: no text: give texts, --file, or lines on standard input"


def test_a_text_that_is_not_utf_8_and_one_too_many(error, exported, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Zürich\n".encode("latin-1"))
    assert error("predict", exported, "--file", tmp_path / "latin.txt") == f"{tmp_path}/latin.txt: not UTF-8 (byte 1)"
    assert "texts were given too" in error("predict", exported, "Anna", "--file", tmp_path / "latin.txt")
    assert error("predict", exported, "--file", tmp_path / "absent").startswith(f"{tmp_path}/absent: No such file")


def test_a_folder_that_is_no_model(error, write_masked_lm, exported, tmp_path):
    served = "no exported model here (no engine.json): make one with `halfling export`"
    for folder in (tmp_path / "absent", tmp_path, tmp_path / "model"):
        assert error("predict", folder, "Anna") == f"{folder}: {served}"
    out = tmp_path / "out"
    trained = "no model here (no config.json): name a fine-tuned model's folder"
    for folder in (tmp_path / "absent", tmp_path):
        assert error("export", folder, out) == f"{folder}: {trained}"
    words = write_masked_lm(tmp_path / "words")
    assert error("export", words, out) == (
        f"{words}: a XLMRobertaForMaskedLM, not an XLM-R that classifies texts or tokens"
    )


def test_an_export_onto_something_else(error, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    assert error("export", model, model).startswith(f"{model}: holds something that is no exported model")
    (tmp_path / "file").write_text("")
    assert error("export", model, tmp_path / "file").startswith(f"{tmp_path}/file: ")


def test_a_model_without_tokenizer_or_with_damaged_weights(error, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    (model / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert error("export", model, tmp_path / "out").startswith(f"{model}: no ")
    (tmp_path / "tokenizer.json").rename(model / "tokenizer.json")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert error("export", model, tmp_path / "out").startswith(f"{model}: no model could be loaded")


def test_a_backend_that_is_unknown_or_not_there(error, exported, tmp_path):
    unknown = "unknown backend 'tensorrt': choose from "
    assert error("export", tmp_path / "model", tmp_path / "out", "--backend", "tensorrt").startswith(unknown)
    assert error("predict", exported, "Anna", "--backend", "tensorrt").startswith(unknown)
    assert (
        error("predict", exported, "Anna", "--backend", "torch") == f"{exported}: not exported for torch but for onnx"
    )
    said = error("export", tmp_path / "model", tmp_path / "out", "--backend", "torch", "--precision", "int8")
    assert said == "torch: runs float32 only: export int8 for openvino or onnx"


def test_a_policy_that_is_not_there_or_for_another_model(error, write_tagger, tmp_path):
    from halfling.exits.policy import Calibration, ExitPolicy
    from halfling.models.load import weights_sha256

    model, out, policy = write_tagger(tmp_path / "model"), tmp_path / "out", tmp_path / "policy"
    assert error("export", model, out, "--policy", policy) == (
        f"{policy}/exit_policy.json: cannot be read (No such file or directory)"
    )
    policy.mkdir()
    chosen = ExitPolicy.uniform((1, 2), 0.5, model=weights_sha256(write_tagger(tmp_path / "other", seed=1)))
    Calibration.model_construct(task="wikiann", policy=chosen, max_drop=1.0, curve=()).write(
        policy / "exit_policy.json"
    )
    assert "was made for another model than" in error("export", model, out, "--policy", policy)


def test_a_flipped_byte_in_any_file(error, exported, tmp_path):
    for path in sorted(path for path in exported.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert error("predict", exported, "Anna").startswith(f"{path}: "), path
        path.write_bytes(whole)


def test_a_flipped_byte_in_the_middle_of_a_huge_file(error, exported, monkeypatch):
    # What is huge for a stage's fingerprint, whose files are sampled.
    monkeypatch.setattr("halfling.files._SAMPLED_ABOVE", 0)
    monkeypatch.setattr("halfling.files._SAMPLE", 16)
    path = exported / "words.npy"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert error("predict", exported, "Anna").startswith(f"{path}: damaged")


def test_a_missing_file_and_a_folder_of_later_times(error, exported):
    (exported / "positions.npy").unlink()
    assert error("predict", exported, "Anna") == f"{exported}/positions.npy: missing: export the model again"
    later = (exported / "engine.json").read_text().replace('"format": 1', '"format": 2')
    (exported / "engine.json").write_text(later)
    assert error("predict", exported, "Anna").startswith(f"{exported}/engine.json: not a Exported (format: ")
