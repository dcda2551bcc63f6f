import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from halfling.engine import AdaptiveEngine, Answer, Encoded
from halfling.engine.backends.onnx import OnnxBackend
from halfling.engine.backends.torch import TorchBackend
from halfling.engine.text import TokenizersPieces
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encode import encode
from halfling.tasks.examples import TaggedExample, TextExample

KINDS = ["sequence", "token"]
PATIENT = {"criterion": "patience", "patience": 1}


@pytest.fixture
def engine(exported):
    def load(kind, backend="onnx", precision="float32", threshold=0.75):
        return AdaptiveEngine.from_pretrained(exported(kind, precision, threshold), backend, 1)

    return load


def sequences_of(kind, texts, tokenizer):
    """Return what transformers reads, as the engine takes it."""
    if kind == "sequence":
        return encode([TextExample(*pair, "neutral") for pair in texts], tokenizer, 32)
    return encode([TaggedExample(tuple(words), ("O",) * len(words)) for words in texts], tokenizer, 32)


def logits_of(answers):
    return np.concatenate([answer.logits for answer in answers])


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_exits_off_equals_the_plain_model_of_transformers(kind, backend, engine, trained, texts, tokenizer):
    auto = AutoModelForSequenceClassification if kind == "sequence" else AutoModelForTokenClassification
    plain = auto.from_pretrained(trained[f"{kind}-plain"]).eval()
    sequences = sequences_of(kind, texts[kind], tokenizer)
    with torch.inference_mode():
        expected = [plain(torch.from_numpy(one.ids)[None]).logits[0].numpy() for one in sequences]
    if kind == "token":
        expected = [logits[one.picked] for logits, one in zip(expected, sequences, strict=True)]
    expected = np.concatenate([logits.reshape(-1, logits.shape[-1]) for logits in expected])
    # Without exits, and with exits that are judged and not taken.
    for threshold in (None, 0.75):
        answers = engine(kind, backend, threshold=threshold).answer(sequences, leave_after=[3] * len(sequences))
        assert {answer.exit_layer for answer in answers} == {3}
        np.testing.assert_allclose(logits_of(answers), expected, atol=1e-4)
        assert (logits_of(answers).argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_batched_packed_and_compacted_agree_with_one_by_one(kind, backend, engine, texts, tokenizer):
    sequences = sequences_of(kind, texts[kind], tokenizer)
    loaded = engine(kind, backend)
    together = loaded.answer(sequences)
    alone = [loaded.answer([one])[0] for one in sequences]
    assert len({answer.exit_layer for answer in together}) > 1
    assert [a.exit_layer for a in together] == [a.exit_layer for a in alone]
    np.testing.assert_allclose(logits_of(together), logits_of(alone), atol=2e-5)
    np.testing.assert_allclose([a.uncertainty for a in together], [a.uncertainty for a in alone], atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_imposed_exits_are_taken_and_every_exit_is_judged(kind, engine, texts, tokenizer):
    sequences = sequences_of(kind, texts[kind], tokenizer)
    wanted = [1 + number % 3 for number in range(len(sequences))]
    answers = engine(kind).answer(sequences, leave_after=wanted)
    assert [answer.exit_layer for answer in answers] == wanted
    assert all(0 < answer.uncertainty < 1 for answer in answers)


def test_those_who_stay_are_packed_anew(engine, texts, tokenizer, monkeypatch):
    loaded = engine("token")
    moved = []
    move = loaded.backend.move
    monkeypatch.setattr(loaded.backend, "move", lambda *given: moved.append(given[3:]) or move(*given))
    sequences = sequences_of("token", texts["token"], tokenizer)
    loaded.answer(sequences, leave_after=[1] * 9 + [2, 3, 3])
    assert moved
    moved.clear()
    loaded.answer(sequences, leave_after=[3] * 12)
    assert not moved


def test_patience_is_answered_as_the_model_in_torch_answers(trained, write_export, texts, tokenizer):
    from halfling.models import XLMRobertaEarlyExitForTokenClassification

    network = XLMRobertaEarlyExitForTokenClassification.from_pretrained(trained["token"]).eval()
    chosen = ExitPolicy.uniform((1, 2, 3), 0.5, **PATIENT).model_dump()
    sequences = sequences_of("token", texts["token"], tokenizer)
    expected = []
    for one in sequences:
        ids = torch.from_numpy(one.ids)[None]
        starts = torch.zeros_like(ids, dtype=torch.bool)
        starts[0, one.picked] = True
        with torch.inference_mode():
            expected.append(int(network(ids, word_starts=starts, policy=chosen).exit_layers[0]))
    answers = AdaptiveEngine.from_pretrained(write_export("token", 0.5, **PATIENT), threads=1).answer(sequences)
    assert [answer.exit_layer for answer in answers] == expected


def test_pytorch_keeps_the_threads_that_its_process_was_given(exported):
    before = torch.get_num_threads()
    folder = exported("sequence", "float32")
    AdaptiveEngine.from_pretrained(folder, backend="torch")
    assert torch.get_num_threads() == before
    try:
        AdaptiveEngine.from_pretrained(folder, backend="torch", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def by_token(write_export):
    return {
        name: write_export("token", 0.7, granularity="token", **more)
        for name, more in (
            ("float32", {"backends": ("onnx", "torch")}),
            ("int8", {"precision": "int8"}),
            ("patience", PATIENT),
        )
    }


@pytest.mark.parametrize(("backend", "more"), [("onnx", {}), ("torch", {}), ("onnx", PATIENT)])
def test_tokens_that_leave_alone_get_the_answers_of_the_model_in_torch(
    backend, more, by_token, trained, texts, tokenizer
):
    from halfling.models import XLMRobertaEarlyExitForTokenClassification

    network = XLMRobertaEarlyExitForTokenClassification.from_pretrained(trained["token"]).eval()
    chosen = ExitPolicy.uniform((1, 2, 3), 0.7, granularity="token", **more).model_dump()
    sequences = sequences_of("token", texts["token"], tokenizer)
    answers = AdaptiveEngine.from_pretrained(by_token["patience" if more else "float32"], backend).answer(sequences)
    taken = set()
    for one, answer in zip(sequences, answers, strict=True):
        ids = torch.from_numpy(one.ids)[None]
        starts = torch.zeros_like(ids, dtype=torch.bool)
        starts[0, one.picked] = True
        with torch.inference_mode():
            expected = network(ids, word_starts=starts, policy=chosen)
        np.testing.assert_allclose(answer.logits, expected.logits[0, one.picked].numpy(), atol=1e-4)
        assert answer.exit_layer == int(expected.exit_layers[0])
        assert answer.uncertainty == pytest.approx(expected.uncertainty[0, one.picked].mean().item(), abs=1e-5)
        taken |= set(expected.token_exit_layers[0, one.picked].tolist())
    assert taken == ({2, 3} if more else {1, 2, 3})


def test_sentences_whose_tokens_have_left_make_room_in_float32_and_int8(by_token, texts, tokenizer, monkeypatch):
    sequences = sequences_of("token", texts["token"], tokenizer)
    wanted = [1] * 9 + [2, 3, 3]
    answers = {}
    for precision in ("float32", "int8"):
        loaded, moved = AdaptiveEngine.from_pretrained(by_token[precision]), []
        move = loaded.backend.move
        monkeypatch.setattr(loaded.backend, "move", lambda *given, m=moved, f=move: m.append(given[3:]) or f(*given))
        answers[precision] = loaded.answer(sequences, leave_after=wanted)
        assert moved
        assert [answer.exit_layer for answer in answers[precision]] == wanted
    np.testing.assert_allclose(logits_of(answers["int8"]), logits_of(answers["float32"]), atol=0.5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tokens_that_might_leave_and_do_not_get_the_plain_model_s_answers(
    precision, by_token, engine, texts, tokenizer
):
    sequences = sequences_of("token", texts["token"], tokenizer)
    expected = engine("token", precision=precision, threshold=None).answer(sequences)
    found = AdaptiveEngine.from_pretrained(by_token[precision]).answer(sequences, leave_after=[3] * len(sequences))
    atol = 1e-4 if precision == "float32" else 0.1
    np.testing.assert_allclose(logits_of(found), logits_of(expected), atol=atol)


def test_a_classifier_cuts_what_is_too_long_and_says_so(engine):
    loaded = engine("sequence")
    long, short = loaded.predict(["word " * 10_000, "word"])
    assert (long.truncated, short.truncated) == (True, False)
    assert long.label in loaded.exported.labels
    assert sum(long.scores.values()) == pytest.approx(1)


def test_a_tagger_reads_what_is_too_long_in_windows(engine):
    loaded = engine("token")
    words = ["Anna", "lives", "here"] * 2000
    (long,) = loaded.predict([words])
    assert len(long.tags) == len(words)
    (one_word,) = loaded.predict(["a" * 10_000])
    assert len(one_word.tags) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts_get_answers(kind, engine):
    odd = [
        "",
        " ",
        "\u200b",
        "😀👩‍👩‍👧 🏳️‍🌈",
        "Здравствуй 世界 नमस्ते مرحبا ไทย",
        "<s> </s> <mask> <pad>",
        "\x00\x01",
        "a\tb\nc",
    ]
    answers = engine(kind).predict(odd)
    assert len(answers) == len(odd)
    assert all(0 <= answer.uncertainty <= 1 for answer in answers)


def test_a_text_without_words_costs_a_tagger_nothing(engine):
    (nothing,) = engine("token").predict([""])
    assert (nothing.spans, nothing.tags, nothing.exit_layer, nothing.uncertainty) == ((), (), 0, 0.0)
    assert nothing.computed == ()


@pytest.mark.parametrize("empty", ["", " \t\n", ("", "word"), ("word", " ")])
def test_a_text_without_characters_gets_no_label_and_costs_nothing(empty, engine):
    loaded = engine("sequence")
    before, nothing, after = loaded.predict(["word", empty, ("word", "here")])
    assert (nothing.label, nothing.scores, nothing.exit_layer, nothing.computed) == (None, None, 0, ())
    assert [before, after] == loaded.predict(["word", ("word", "here")])
    assert loaded.predict([empty]) == [nothing]


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        ("O PER LOC ORG MISC DATE NUM", "PER PER O LOC"),
        ("O B-PER I-PER E-PER S-PER S-LOC E-LOC", "B-PER E-PER O S-LOC"),
        ("O B-PER I-PER B-LOC I-LOC B-ORG I-ORG", "B-PER I-PER O B-LOC"),
        ("O I-PER B-PER I-LOC I-ORG I-MISC I-DATE", "I-PER I-PER O I-LOC"),
        ("NOUN VERB ADJ ADV NUM PRON DET", "NOUN NOUN VERB NOUN"),
    ],
    ids=["types", "IOBES", "IOB2", "IOB1", "parts of speech"],
)
def test_a_tagger_of_any_scheme_yields_spans_and_the_tags_that_it_learned(labels, tags, engine, monkeypatch):
    loaded, labels, tags = engine("token"), tuple(labels.split()), tags.split()
    loaded.exported = loaded.exported.model_copy(update={"labels": labels})
    logits = 9 * np.eye(7, dtype=np.float32)[[labels.index(tag) for tag in tags]]
    monkeypatch.setattr(loaded, "answer", lambda _, policy: [Answer(logits, 3, 0.1)])
    text = "Anna Smith likes Rome"
    for given in (text, text.split()):
        (found,) = loaded.predict([given])
        assert found.tags == tuple(tags)
        spans = [(span.label, span.text) for span in found.spans]
        assert spans == ([] if "NOUN" in labels else [("PER", "Anna Smith"), ("LOC", "Rome")])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_computed_for_an_answer_is_told(kind, engine, texts):
    loaded = engine(kind)
    found = loaded.predict(texts[kind])
    assert {one.computed[0][1] for one in found} > {found[0].exit_layer}
    for text, one in zip(texts[kind], found, strict=True):
        ((tokens, layer),) = one.computed
        parts = loaded.pieces(list(text))
        assert (tokens, layer) == (sum(map(len, parts)) + (4 if kind == "sequence" else 2), one.exit_layer)


def test_a_long_text_tells_every_window_and_token_exits_tell_every_token(engine, by_token):
    (long,) = engine("token").predict([["here"] * 100])
    assert len(long.computed) > 2
    assert max(layer for _, layer in long.computed) == long.exit_layer
    loaded = AdaptiveEngine.from_pretrained(by_token["float32"])
    (found,) = loaded.predict(["Anna lives here"])
    ((tokens, layers),) = found.computed
    assert len(layers) == tokens
    assert max(layers) == found.exit_layer
    (answer,) = loaded.answer([Encoded(np.array([0, 5, 6, 2]), np.array([1]))], leave_after=[2])
    assert answer.token_layers == (2, 2, 2, 2)


def test_a_thousand_texts_at_once_answer_as_each_alone(engine, texts):
    loaded = engine("token")
    many = (texts["token"] * 84)[:1000]
    answers = loaded.predict(many)
    assert len(answers) == 1000
    once = loaded.predict(texts["token"])
    assert [answer.tags for answer in answers[:12]] == [answer.tags for answer in once]
    assert [answer.tags for answer in answers[12:24]] == [answer.tags for answer in once]


def test_no_texts_no_answers(engine):
    assert engine("token").predict([]) == []


@pytest.mark.parametrize("text", [3, None, ("a", "b", "c"), ["a", 3]])
def test_what_is_no_text_is_refused(text, engine):
    with pytest.raises(HalflingError, match="text 0: expected a text"):
        engine("sequence" if isinstance(text, tuple) else "token").predict([text])


def test_one_text_that_is_not_in_a_list_is_refused(engine):
    with pytest.raises(HalflingError, match="put it into a list"):
        engine("token").predict("Anna")


def test_the_engine_runs_where_torch_and_transformers_cannot_be_imported(exported):
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'transformers', 'tokenizers', 'datasets', 'pyarrow', 'onnx', 'yaml'):
            raise ImportError(f'{name} is blocked')
sys.meta_path.insert(0, Absent())
from halfling.cli.main import main
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    for precision in ("int8", "float32"):
        folder = exported("token", precision)
        command = [sys.executable, "-c", code, "predict", str(folder), "Anna lives here", "--backend", "onnx"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("Anna lives here\n")


def test_no_module_of_the_engine_but_its_torch_backend_imports_torch():
    code = """
import importlib, pkgutil, sys
import halfling.engine
for module in pkgutil.walk_packages(halfling.engine.__path__, 'halfling.engine.'):
    if '.torch' not in module.name:
        importlib.import_module(module.name)
print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'datasets', 'pyarrow'}))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_auto_is_the_first_backend_that_is_exported_and_installed(exported, monkeypatch):
    folder = exported("token")
    assert isinstance(AdaptiveEngine.from_pretrained(folder).backend, TorchBackend)
    monkeypatch.setattr("halfling.engine.backends.find_spec", lambda name: name == "onnxruntime" or None)
    assert isinstance(AdaptiveEngine.from_pretrained(folder).backend, OnnxBackend)
    with pytest.raises(HalflingError, match=r"torch is not installed: pip install 'halfling-nlp\[train\]'"):
        AdaptiveEngine.from_pretrained(folder, "torch")
    for threads in (0, 1025):
        with pytest.raises(HalflingError, match=f"threads {threads}: a number from 1 to 1024, or None"):
            AdaptiveEngine.from_pretrained(folder, threads=threads)


def test_a_folder_of_an_earlier_version_is_refused_in_one_line(exported, tmp_path):
    shutil.copytree(exported("token"), tmp_path / "model")
    path = tmp_path / "model" / "engine.json"
    said = json.loads(path.read_text()) | {"format": 2, "backends": ["openvino"], "tokenizer": "sentencepiece"}
    path.write_text(json.dumps(said))
    with pytest.raises(HalflingError, match=r"engine.json: of another version of halfling.*: export the model again$"):
        AdaptiveEngine.from_pretrained(tmp_path / "model")


def test_a_folder_with_a_tuning_of_earlier_versions_still_loads(write_export):
    folder = write_export("token", None)
    (folder / "tuning.json").write_text("{}")
    assert AdaptiveEngine.from_pretrained(folder).predict(["Anna"])[0].exit_layer == 3


def test_the_tokenizer_of_transformers_gives_the_same_ids(engine, trained, tokenizer):
    loaded = engine("token")
    assert loaded.exported.tokenizer == "native"
    reference = AutoTokenizer.from_pretrained(trained["token"])
    from halfling.sample.language import LANGUAGES, read_language

    lines = [text for code in LANGUAGES for text in read_language(code).plain]
    lines += [
        "你好，世界。",
        "สวัสดีชาวโลก",
        "გამარჯობა",
        "ሰላም ለዓለም",
        "한국어 문장",
        "ﬁne Ⅳ ½ ﷺ",
        "  a  b\u3000c ",
        "😀😀 x",
        "",
        "é ë",
    ]
    expected = [reference(line, add_special_tokens=False)["input_ids"] for line in lines]
    assert loaded.pieces(lines) == expected


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_refused(wrong, backend, engine):
    with pytest.raises(ValueError, match="the vocabulary is 0 to"):
        engine("token", backend).answer([Encoded(np.array([0, wrong, 2]), np.array([1]))])


def test_places_and_layers_that_do_not_belong_to_the_sequences_are_refused(engine):
    loaded = engine("token")
    one, two = (Encoded(np.array([0, 5, 6, 2]), np.array([place])) for place in (1, 5))
    for wrong in ([one, two], [two], [Encoded(one.ids, np.array([-1]))]):
        with pytest.raises(ValueError, match="a place picked lies outside its sequence"):
            loaded.answer(wrong)
    with pytest.raises(ValueError, match="ids are whole numbers, not float64"):
        loaded.answer([Encoded(np.array([0, 5.5, 2]), np.array([1]))])
    for place in (np.array([1.9]), np.array([True])):
        with pytest.raises(ValueError, match=r"picked are whole numbers, not (float64|bool)"):
            loaded.answer([Encoded(one.ids, place)])
    with pytest.raises(ValueError, match="leave_after has 1 layers for 2 sequences"):
        loaded.answer([one, one], leave_after=[2])
    # Cut to 32 bits it would be a layer's number.
    assert loaded.answer([one], leave_after=[2**32 + 1])[0].exit_layer == 3


def test_a_tagger_reads_what_a_generator_gives(engine):
    loaded = engine("token")
    assert loaded.predict(text for text in ("Anna lives", "here")) == loaded.predict(["Anna lives", "here"])


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [("token", "Anna \ud800", 5), ("token", ["Anna", "\udfff"], 0), ("sequence", ("fine", "x\ud800"), 1)],
)
def test_half_a_surrogate_pair_is_refused_in_one_line(kind, text, place, engine):
    with pytest.raises(HalflingError, match=f"text 1: character {place} is half a surrogate pair"):
        engine(kind).predict(["fine", text])


def test_more_tokens_than_the_model_reads_are_refused(engine):
    loaded = engine("token")
    most = loaded.exported.shape.max_tokens
    loaded.answer([Encoded(np.full(most, 5), np.array([1]))])
    with pytest.raises(ValueError, match=f"reads {most} at most"):
        loaded.answer([Encoded(np.full(most + 1, 5), np.array([1]))])


def test_special_tokens_that_somebody_wrote_are_text_to_tokenizers(trained, tokenizer):
    for token in ("<s>", "<pad>", "</s>", "<mask>"):
        (ids,) = TokenizersPieces(trained["token"])([f"a {token} b"])
        assert tokenizer.convert_tokens_to_ids(token) not in ids
