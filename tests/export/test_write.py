import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.export import write
from halfling.export.check import agreement
from halfling.export.sentences import sentences
from halfling.export.trained import load_trained
from halfling.folders import whole_folder
from halfling.models.load import weights_sha256


@pytest.fixture
def write_policy(tmp_path):
    """A function that writes a calibration's folder for the exits after layers 1 and 2."""

    def make(threshold, **more):
        folder = tmp_path / "policy"
        folder.mkdir(exist_ok=True)
        policy = ExitPolicy.uniform((1, 2), threshold, **more)
        Calibration.model_construct(task="wikiann", policy=policy, max_drop=1.0, curve=()).write(
            folder / "exit_policy.json"
        )
        return folder

    return make


@pytest.fixture
def fill_disk(monkeypatch):
    """A function after which an export fails when all but its check is done."""

    def broken(*_):
        raise HalflingError("the disk is full")

    return lambda: monkeypatch.setattr(write, "agreement", broken)


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("threshold", "segments"), [(0.0, ((1, 2),)), (0.5, ((1, 1), (2, 2)))])
def test_a_model_is_cut_where_inputs_may_leave(threshold, segments, write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    policy = write_policy(threshold, model=weights_sha256(model))
    write.export(model=model, out=tmp_path / "out", backends=("onnx",), policy=policy)
    exported = read_exported(tmp_path / "out")
    assert exported.segments == segments
    assert {*exported.files} == files_of(tmp_path / "out") - {"engine.json"}
    assert {name for name in exported.files if name.startswith("onnx/")} == {
        f"onnx/layers-{first}-{last}.onnx" for first, last in segments
    }


def test_two_products_of_int8_fit_into_16_bits_as_processors_without_vnni_add_them(write_tagger, tmp_path):
    write.export(model=write_tagger(tmp_path / "model"), out=tmp_path / "out", backends=("onnx",), precision="int8")
    (path,) = (tmp_path / "out" / "onnx").glob("*.onnx")
    constants = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    weights = [constant.astype(int) for constant in constants if constant.dtype == np.int8 and constant.ndim == 2]
    assert len(weights) == 2 * 4  # two layers: projections, attention's output, the feed-forward block's two
    for weight in weights:
        largest = np.abs(weight).max()
        assert largest * 2 * 255 < 2**15
        assert largest > 60  # and no more of the 8 bits is given away


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0, 1e-5), ("int8", 1e-4, 0.3)])
def test_the_agreement_is_that_of_the_answers(precision, least, most, write_tagger, tmp_path, monkeypatch):
    model = write_tagger(tmp_path / "model")
    (honest,) = write.export(model=model, out=tmp_path / "out", backends=("onnx",), precision=precision)
    assert least < honest.largest_difference < most
    assert honest.num_sentences == 64
    assert honest.equal_labels > 0.8
    answer = AdaptiveEngine.answer

    def off_by_one(self, *given, **more):
        found = answer(self, *given, **more)
        object.__setattr__(found[0], "logits", found[0].logits + 1)
        return found

    monkeypatch.setattr(AdaptiveEngine, "answer", off_by_one)
    trained = load_trained(model, None)
    dishonest = agreement(trained, sentences(trained, model, None), tmp_path / "out", "onnx")
    assert dishonest.largest_difference == pytest.approx(1, abs=most)


def test_a_wide_model_s_inner_layer_in_halves_says_the_same(write_tagger, tmp_path, monkeypatch):
    monkeypatch.setattr("halfling.export.graph._HALVED_FROM", 0)
    (honest,) = write.export(model=write_tagger(tmp_path / "model"), out=tmp_path / "out", backends=("onnx",))
    assert honest.largest_difference < 1e-5
    (path,) = (tmp_path / "out" / "onnx").glob("*.onnx")
    assert sum(node.op_type == "Gelu" for node in onnx.load(path).graph.node) == 2 * 2  # layers, halves


def test_a_new_export_takes_the_place_of_the_old(write_tagger, tmp_path):
    one, two = write_tagger(tmp_path / "one"), write_tagger(tmp_path / "two", seed=1)
    sequence = Encoded(np.array([0, 5, 6, 2]), np.array([1]))

    def answered(model, backend):
        write.export(model=model, out=tmp_path / "out", backends=(backend,))
        return AdaptiveEngine.from_pretrained(tmp_path / "out", backend, 1).answer([sequence])[0].logits

    first, second = answered(one, "onnx"), answered(two, "torch")
    assert np.abs(first - second).max() > 1e-3
    assert not (tmp_path / "out" / "onnx").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_export_that_fails_leaves_the_old_one_and_nothing_else(write_tagger, fill_disk, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"
    write.export(model=model, out=out, backends=("torch",))
    before = (out / "engine.json").read_bytes()
    fill_disk()
    with pytest.raises(HalflingError, match="the disk is full"):
        write.export(model=model, out=out, backends=("onnx",))
    assert (out / "engine.json").read_bytes() == before
    read_exported(out)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out"}


def test_a_tokenizer_that_sentencepiece_cannot_follow_goes_along_as_it_is(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    write.export(model=model, out=tmp_path / "out", backends=("torch",))
    assert read_exported(tmp_path / "out").tokenizer == "tokenizers"
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("change", ["weights", "exits"])
def test_a_policy_for_another_model_is_refused(change, write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    if change == "weights":
        policy = write_policy(0.5, model=weights_sha256(write_tagger(tmp_path / "other", seed=1)))
    else:
        policy = write_policy(0.5)
        found = Calibration.read(policy / "exit_policy.json")
        shutil.rmtree(policy)
        policy.mkdir()
        found.model_copy(update={"policy": ExitPolicy.uniform((1, 3), 0.5)}).write(policy / "exit_policy.json")
    with pytest.raises(HalflingError, match="was made for another model"):
        write.export(model=model, out=tmp_path / "out", backends=("torch",), policy=policy)
    assert not (tmp_path / "out").exists()


def test_an_export_into_its_own_model_or_over_a_file_is_refused(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    before = files_of(model)
    with pytest.raises(HalflingError, match="lies in the model's own folder"):
        write.export(model=model, out=model / "served", backends=("torch",))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HalflingError, match="name another folder"):
        write.export(model=model, out=tmp_path / "file")
    assert files_of(model) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_policy_that_a_model_stores_is_exported_unless_another_is_named(write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["exit_policy"] = {"layers": [1, 2], "thresholds": [0.25]}
    (model / "config.json").write_text(json.dumps(config))
    assert load_trained(model, None).policy == ExitPolicy(layers=(1, 2), thresholds=(0.25,))
    assert load_trained(model, write_policy(0.5)).policy.thresholds == (0.5,)


def test_a_policy_for_tokens_is_none_for_a_classifier_of_texts(write_policy, tmp_path, tiny_tokenizer):
    from transformers import set_seed

    from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
    from halfling.models.shapes import Dimensions, config_for

    set_seed(0)
    shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=32).with_vocabulary(len(tiny_tokenizer))
    config = XLMRobertaEarlyExitConfig(**config_for(shape).to_dict() | {"num_labels": 3, "exit_layers": [1, 2]})
    EARLY_EXIT_MODELS["xnli"](config).save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(HalflingError, match="lets tokens leave alone"):
        write.export(model=tmp_path / "model", out=tmp_path / "out", policy=write_policy(0.5, granularity="token"))


def test_an_activation_that_the_graphs_do_not_know_is_refused(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(HalflingError, match="hidden_act relu"):
        write.export(model=model, out=tmp_path / "out", backends=("onnx",))
    assert not (tmp_path / "out").exists()
    write.export(model=model, out=tmp_path / "out", backends=("torch",))


@pytest.mark.parametrize(
    ("off", "backend", "precision"),
    [
        (0.5, "torch", "float32"),
        (float("nan"), "torch", "float32"),
        (float("nan"), "onnx", "int8"),
        (float("inf"), "onnx", "int8"),
    ],
)
def test_what_does_not_say_what_torch_says_is_not_written(off, backend, precision, write_tagger, tmp_path, monkeypatch):
    answer = AdaptiveEngine.answer

    def wrong(self, *given, **more):
        found = answer(self, *given, **more)
        object.__setattr__(found[0], "logits", found[0].logits + off)
        return found

    monkeypatch.setattr(AdaptiveEngine, "answer", wrong)
    model = write_tagger(tmp_path / "model")
    with pytest.raises(HalflingError, match=rf"{backend}: logits differ by {off} .* nothing was written"):
        write.export(model=model, out=tmp_path / "out", backends=(backend,), precision=precision)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_link_can_be_written_to_and_the_working_folder_is_left_alone(write_tagger, tmp_path, monkeypatch):
    model = write_tagger(tmp_path / "model")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        write.export(model=model, out=tmp_path / "link", backends=("torch",))
    assert (tmp_path / "link").is_symlink()
    read_exported(tmp_path / "real")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (Path(), Path("..")):
        with pytest.raises(HalflingError, match="is the working folder or around it"):
            write.export(model=model, out=out, backends=("torch",))
    assert Path.cwd() == tmp_path / "here"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "real", "link", "here"}


def test_a_folder_of_the_user_s_own_is_never_replaced(write_tagger, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"
    write.export(model=model, out=out, backends=("torch",))
    for name in ("out.before", "out.partial", "out/notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("precious")
    with pytest.raises(HalflingError, match="holds notes, which no export wrote"):
        write.export(model=model, out=out, backends=("onnx",))
    assert (out / "notes/mine.txt").read_text() == "precious"
    shutil.rmtree(out / "notes")
    write.export(model=model, out=out, backends=("onnx",))
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out", "out.before", "out.partial"}
    assert (tmp_path / "out.before/mine.txt").exists()
    assert (tmp_path / "out.partial/mine.txt").exists()


def test_two_exports_into_one_folder_do_not_mix(write_tagger, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"

    def second(number, *_):
        if number == 0:
            with pytest.raises(HalflingError, match="another halfling is making this folder"):
                write.export(model=model, out=out, backends=("onnx",))

    write.export(model=model, out=out, backends=("onnx",), progress=second)
    read_exported(out)


def test_an_export_killed_while_it_swapped_folders_loses_nothing(write_tagger, fill_disk, tmp_path):
    model, out = write_tagger(tmp_path / "model"), tmp_path / "out"
    write.export(model=model, out=out, backends=("torch",))
    before = (out / "engine.json").read_bytes()
    with contextlib.suppress(KeyboardInterrupt), whole_folder(out) as new:
        (new / "half").mkdir()
        shutil.copytree(tmp_path / ".out.halfling", tmp_path / "killed")
        raise KeyboardInterrupt
    (tmp_path / "killed").rename(tmp_path / ".out.halfling")
    out.replace(tmp_path / ".out.halfling/old")
    fill_disk()
    with pytest.raises(HalflingError, match="the disk is full"):
        write.export(model=model, out=out, backends=("onnx",))
    assert (out / "engine.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([], "config.json: no model's configuration"),
        ({"architectures": [5]}, "a 5, not an XLM-R"),
        ({"architectures": 5}, "config.json: no model's configuration"),
        ({"id2label": {"0": "A", "1": "B", "2": "A"}}, "its labels are A, B, A"),
    ],
)
def test_a_model_whose_configuration_is_broken_is_refused_in_one_line(change, said, write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    if "id2label" in change:
        change = {"id2label": config["id2label"] | change["id2label"]}
    (model / "config.json").write_text(json.dumps(config | change if change else change))
    with pytest.raises(HalflingError, match=said):
        write.export(model=model, out=tmp_path / "out", backends=("torch",))
    assert not (tmp_path / "out").exists()
