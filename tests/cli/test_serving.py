"""`halfling export` and `halfling predict`: what they say, and what they say when something is wrong."""

import io
import json
import re
import sys

import pytest


@pytest.fixture
def exported(halfling, write_tagger, tmp_path):
    """An exported tagger."""
    said = halfling("export", write_tagger(tmp_path / "model"), tmp_path / "served", "--backends", "onnx")
    assert said.status == 0, said.err
    return tmp_path / "served"


@pytest.fixture
def typed(monkeypatch):
    """A function that puts a text on standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_export_prints_how_its_answers_compare_with_torchs(halfling, write_tagger, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"
    said = halfling("export", model, out, "--backends", "onnx,torch")
    assert said.status == 0, said.err
    printed, where = said.out.splitlines()
    found = json.loads(printed)
    for name in ("onnx", "torch"):
        assert (found.pop(f"{name}_num_sentences"), found.pop(f"{name}_equal_labels")) == (64, 1.0)
        assert 0 <= found.pop(f"{name}_largest_difference") < 1e-5
    assert not found
    assert where == str(out)
    manifest = json.loads(halfling("export", model, tmp_path / "more", "backends=[onnx]", "--json").out)
    assert manifest["counts"]["onnx_num_sentences"] == 64


def test_the_task_s_data_may_be_named(halfling, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    (tmp_path / "sw.conll").write_text("Anna\tO\n\nRome\tB-LOC\n\n")
    said = halfling("export", model, tmp_path / "out", "--backends", "onnx", "--dev", f"en={tmp_path / 'sw.conll'}")
    assert '"onnx_num_sentences": 2' in said.out, said.err


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
    assert error("predict", exported, "--file", tmp_path / "absent").startswith(
        f"{tmp_path}/absent: cannot be read (No such file"
    )


@pytest.fixture
def classifier(halfling, write_classifier, tiny_tasks, tmp_path):
    """An exported classifier of single texts."""
    model = write_classifier(tmp_path / "moods", tiny_tasks["moods"], [1, 3])
    said = halfling("export", model, tmp_path / "served-moods", "--backends", "onnx")
    assert said.status == 0, said.err
    return tmp_path / "served-moods"


def test_a_text_of_zeros_between_letters_is_no_utf_8(error, exported, tmp_path):
    (tmp_path / "wide.txt").write_bytes("Anna lives in Rome\n".encode("utf-16-le"))
    assert "wide.txt: UTF-16 or binary, not UTF-8" in error("predict", exported, "--file", tmp_path / "wide.txt")


def test_a_table_s_column_of_the_text_is_read_and_its_header_is_no_text(halfling, classifier, tmp_path):
    (tmp_path / "new.csv").write_text('id,text\n1,"Anna, in Rome"\n2,\n3,"no ""yes"""\n', encoding="utf-8-sig")
    said = halfling("predict", classifier, "--file", tmp_path / "new.csv")
    assert (said.status, said.err) == (0, "")
    assert [line.split("\t")[2] for line in said.out.splitlines()] == ["Anna, in Rome", "", 'no "yes"']
    assert said.out.splitlines()[1] == "-\tlayer 0\t"
    (tmp_path / "new.tsv").write_text('mood\tid\n"Anna" lives\u2028in\t1\n"no\t2\n', encoding="utf-8")
    said = halfling("predict", classifier, "--file", tmp_path / "new.tsv", "--column", "mood", "--json")
    assert [json.loads(line)["text"] for line in said.out.split("\n")[:-1]] == ['"Anna" lives\u2028in', '"no']


def test_a_table_s_two_texts_are_read_as_a_pair(halfling, write_classifier, tiny_tasks, tmp_path):
    model = write_classifier(tmp_path / "model", tiny_tasks["pairs"], [1, 3])
    assert halfling("export", model, tmp_path / "served", "--backends", "onnx").status == 0
    (tmp_path / "pairs.csv").write_text("hypothesis,one,premise\nin Rome,yes,Anna\n")
    usual = halfling("predict", tmp_path / "served", "--file", tmp_path / "pairs.csv")
    assert usual.out == halfling("predict", tmp_path / "served", "Anna\tin Rome").out
    named = ("--column", "one", "--column", "premise")
    said = halfling("predict", tmp_path / "served", "--file", tmp_path / "pairs.csv", *named)
    assert said.out.endswith("\tyes\tAnna\n")


def test_a_table_without_the_column_says_which_there_are(error, classifier, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("id,body\n1,Anna\n")
    ask = "there are id, body: say which with --column NAME"
    assert error("predict", classifier, "--file", path) == f"{path}: no column of the text: {ask}"
    assert error("predict", classifier, "--file", path, "--column", "txt") == f"{path}: no column 'txt': {ask}"
    path.write_text("text\n")
    assert error("predict", classifier, "--file", path).startswith(f"{path}: no text: ")
    path.write_text("")
    assert error("predict", classifier, "--file", path).startswith(f"{path}: ")


def test_a_malformed_table_is_one_line(error, classifier, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text('id,text\n1,"Anna\n')
    assert error("predict", classifier, "--file", path).startswith(f"{path}: malformed after line 1 (")
    path.write_text("id,text\n1,Anna, in Rome\n")
    said = error("predict", classifier, "--file", path)
    assert said == f"{path}, row 1: malformed: more fields than the header has"


def test_a_classifier_gives_no_label_where_there_is_no_text(halfling, write_classifier, tiny_tasks, tmp_path):
    model = write_classifier(tmp_path / "model", tiny_tasks["pairs"], [1, 3])
    assert halfling("export", model, tmp_path / "served", "--backends", "onnx").status == 0
    (tmp_path / "pairs.txt").write_text("Anna\tin Rome\n\nyes\t \n")
    said = halfling("predict", tmp_path / "served", "--file", tmp_path / "pairs.txt")
    assert said.status == 0, said.err
    answer, nothing, half = said.out.split("\n")[:3]
    assert re.fullmatch(r"(entailment|neutral|contradiction) 0\.\d+\tlayer 3\tAnna\tin Rome", answer)
    assert (nothing, half) == ("-\tlayer 0\t", "-\tlayer 0\tyes\t ")


def test_a_folder_that_is_no_model(error, write_masked_lm, exported, tmp_path):
    served = "no exported model here (no engine.json): make one with `halfling export`"
    for folder in (tmp_path / "absent", tmp_path, tmp_path / "model"):
        assert error("predict", folder, "Anna") == f"{folder}: {served}"
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert f"at {tmp_path}/absent: run the stage that makes it" in error("export", tmp_path / "absent", out)
    assert error("export", tmp_path / "empty", out) == (
        f"{tmp_path}/empty: no model here (no config.json): name a fine-tuned model's folder"
    )
    words = write_masked_lm(tmp_path / "words")
    assert error("export", words, out).startswith(
        f"{words}: a xlm-roberta model (XLMRobertaForMaskedLM): halfling reads"
    )


def test_an_export_onto_something_else(error, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    assert error("export", model, model).startswith(f"{model}: ")
    (tmp_path / "file").write_text("mine")
    assert error("export", model, tmp_path / "file").startswith(f"{tmp_path}/file: ")


def test_a_model_without_tokenizer_or_with_damaged_weights(error, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    (model / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert error("export", model, tmp_path / "out").startswith(f"{model}: holds no tokenizer")
    (tmp_path / "tokenizer.json").rename(model / "tokenizer.json")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert error("export", model, tmp_path / "out").startswith(f"{model}: no model could be loaded")


def test_a_backend_that_is_unknown_or_not_there(error, exported, tmp_path):
    model = tmp_path / "model"
    said = error("export", model, tmp_path / "out", "--backends", "onnx,tensorrt")
    assert said == "ExportSettings: backends.1: Input should be 'native', 'torch' or 'onnx'"
    unknown = "unknown backend 'tensorrt': choose from "
    assert error("predict", exported, "Anna", "--backend", "tensorrt").startswith(unknown)
    assert (
        error("predict", exported, "Anna", "--backend", "torch") == f"{exported}: not exported for torch but for onnx"
    )
    said = error("export", model, tmp_path / "out", "--backends", "torch", "--precision", "int8")
    assert "torch: runs float32 and bfloat16: export int8 for native or onnx" in said


def test_a_policy_that_is_not_there_or_for_another_model(error, write_tagger, tmp_path):
    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy
    from halfling.models.load import weights_sha256

    model, out, policy = write_tagger(tmp_path / "model"), tmp_path / "out", tmp_path / "policy"
    assert f"at {policy}: run the stage that makes it" in error("export", model, out, "--policy", policy)
    policy.mkdir()
    assert error("export", model, out, "--policy", policy) == (
        f"{policy}/exit_policy.json: cannot be read (No such file or directory)"
    )
    chosen = ExitPolicy.uniform((1, 2), 0.5, model=weights_sha256(write_tagger(tmp_path / "other", seed=1)))
    Calibration(task="names", policy=chosen, max_drop=1.0, curve=()).write(policy / "exit_policy.json")
    assert "was made for another model than" in error("export", model, out, "--policy", policy)


def test_a_flipped_byte_in_any_file(error, exported, tmp_path):
    read = json.loads((exported / "engine.json").read_text())["files"]
    assert {"native.tokenizer", "onnx/layers-1-2.onnx", "onnx/layers-1-2.onnx.data"} <= {*read}
    for path in (exported / name for name in ("engine.json", *read)):
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert error("predict", exported, "Anna").startswith(f"{path}: "), path
        path.write_bytes(whole)


def test_a_flipped_byte_in_the_middle_of_a_huge_file(error, exported, monkeypatch):
    # What is huge for a stage's fingerprint, whose files are sampled.
    monkeypatch.setattr("halfling.files._SAMPLED_ABOVE", 0)
    monkeypatch.setattr("halfling.files._SAMPLE", 16)
    path = exported / "onnx/layers-1-2.onnx.data"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert error("predict", exported, "Anna").startswith(f"{path}: damaged")


def test_a_missing_file_and_a_folder_of_later_times(error, exported):
    (exported / "native.tokenizer").unlink()
    assert error("predict", exported, "Anna") == f"{exported}/native.tokenizer: missing: export the model again"
    later = (exported / "engine.json").read_text().replace('"format": 3', '"format": 4')
    (exported / "engine.json").write_text(later)
    said = f"{exported}/engine.json: of another version of halfling: export the model again"
    assert error("predict", exported, "Anna") == said
