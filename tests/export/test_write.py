import json

import numpy as np
import onnx
import pytest

from halfling.engine import AdaptiveEngine
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.export.check import Agreement, agreement
from halfling.export.sentences import sentences
from halfling.export.trained import load_trained
from halfling.export.write import ExportSettings, export
from halfling.models.load import weights_sha256
from halfling.tasks.of_model import task_of


@pytest.fixture
def model(tmp_path, tiny_tasks, write_classifier):
    """A random tagger of two layers with exits after each."""
    return write_classifier(tmp_path / "model", tiny_tasks["names"], [1, 2], layers=2)


@pytest.fixture
def write_policy(tmp_path):
    """A function that writes a calibration's folder for the exits after layers 1 and 2."""

    def make(threshold, layers=(1, 2), **more):
        folder = tmp_path / "policy"
        folder.mkdir(exist_ok=True)
        policy = ExitPolicy.uniform(layers, threshold, **more)
        Calibration(task="names", policy=policy, max_drop=1.0, curve=()).write(folder / "exit_policy.json")
        return folder

    return make


@pytest.fixture
def write(model, tmp_path):
    """A function that exports the model, or another, and returns how its answers compare."""

    def make(backend="onnx", precision="float32", of=model, **more):
        (tmp_path / "out").mkdir(exist_ok=True)
        settings = ExportSettings(backends=(backend,), precision=precision)
        counts = export(settings=settings, model=of, out=tmp_path / "out", **more)
        (found,) = counts["agreement"]
        return Agreement.model_validate(found)

    return make


def configure(model, **changes):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(("threshold", "segments"), [(0.0, ((1, 2),)), (0.5, ((1, 1), (2, 2)))])
def test_a_model_is_cut_where_inputs_may_exit(threshold, segments, model, write, write_policy, tmp_path):
    write(policy=write_policy(threshold, model=weights_sha256(model)))
    exported = read_exported(tmp_path / "out")
    assert exported.segments == segments
    here = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    beside = {"engine.json", "task.json", "task-sources.json"}
    assert {*exported.files} == {path.relative_to(tmp_path / "out").as_posix() for path in here} - beside
    assert {name for name in exported.files if name.startswith("onnx/")} == {
        f"onnx/layers-{first}-{last}.onnx" for first, last in segments
    }


def test_two_products_of_int8_fit_into_16_bits_as_processors_without_vnni_add_them(write, tmp_path):
    write(precision="int8")
    (path,) = (tmp_path / "out" / "onnx").glob("*.onnx")
    constants = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    weights = [constant.astype(int) for constant in constants if constant.dtype == np.int8 and constant.ndim == 2]
    assert len(weights) == 2 * 4  # two layers: projections, attention's output, the feed-forward block's two
    for weight in weights:
        largest = np.abs(weight).max()
        assert largest * 2 * 255 < 2**15
        assert largest > 60  # and no more of the 8 bits is given away


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0, 1e-4), ("int8", 1e-4, 2)])
def test_the_agreement_is_that_of_the_answers(precision, least, most, model, write, tmp_path, monkeypatch):
    honest = write(precision=precision)
    assert least < honest.largest_difference < most
    assert honest.num_sentences == 40
    assert honest.equal_labels > 0.8
    answer = AdaptiveEngine.answer

    def off_by_ten(self, *given, **more):
        found = answer(self, *given, **more)
        object.__setattr__(found[0], "logits", found[0].logits + 10)
        return found

    monkeypatch.setattr(AdaptiveEngine, "answer", off_by_ten)
    trained = load_trained(model, None)
    dishonest = agreement(trained, sentences(trained, model, task_of(model)), tmp_path / "out", "onnx")
    assert dishonest.largest_difference == pytest.approx(10, abs=most)


def test_a_wide_model_s_inner_layer_in_halves_says_the_same(write, tmp_path, monkeypatch):
    monkeypatch.setattr("halfling.export.graph._HALVED_FROM", 0)
    assert write().largest_difference < 1e-4
    (path,) = (tmp_path / "out" / "onnx").glob("*.onnx")
    assert sum(node.op_type == "Gelu" for node in onnx.load(path).graph.node) == 2 * 2  # layers, halves


def test_a_tokenizer_that_sentencepiece_cannot_follow_goes_along_as_it_is(model, write, tmp_path):
    write("torch")
    assert read_exported(tmp_path / "out").tokenizer == "tokenizers"
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("change", ["weights", "exits"])
def test_a_policy_for_another_model_is_refused(change, write, write_policy):
    policy = write_policy(0.5, model="f00d") if change == "weights" else write_policy(0.5, layers=(1, 3))
    with pytest.raises(HalflingError, match="was made for another model"):
        write(policy=policy)


def test_a_policy_that_a_model_stores_is_exported_unless_another_is_named(model, write_policy):
    configure(model, exit_policy={"layers": [1, 2], "thresholds": [0.25]})
    assert load_trained(model, None).policy == ExitPolicy(layers=(1, 2), thresholds=(0.25,))
    assert load_trained(model, write_policy(0.5)).policy.thresholds == (0.5,)


def test_a_policy_for_tokens_is_none_for_a_classifier_of_texts(write_policy, tiny_tasks, write_classifier, tmp_path):
    texts = write_classifier(tmp_path / "texts", tiny_tasks["moods"], [1, 2], layers=2)
    with pytest.raises(HalflingError, match="lets tokens exit alone"):
        load_trained(texts, write_policy(0.5, granularity="token"))


def test_an_activation_that_the_graphs_do_not_know_is_refused(model, write):
    configure(model, hidden_act="relu")
    with pytest.raises(HalflingError, match="hidden_act relu"):
        write()
    write("torch")


@pytest.mark.parametrize(
    ("off", "backend", "precision"),
    [
        (0.5, "torch", "float32"),
        (float("nan"), "torch", "float32"),
        (float("nan"), "onnx", "int8"),
        (float("inf"), "onnx", "int8"),
    ],
)
def test_what_does_not_say_what_torch_says_is_refused(off, backend, precision, write, monkeypatch):
    answer = AdaptiveEngine.answer

    def wrong(self, *given, **more):
        found = answer(self, *given, **more)
        object.__setattr__(found[0], "logits", found[0].logits + np.float32(off))
        return found

    monkeypatch.setattr(AdaptiveEngine, "answer", wrong)
    with pytest.raises(HalflingError, match=rf"{backend}: logits differ by {off} .* nothing was written"):
        write(backend, precision)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": 5}, "config.json: no model's configuration"),
        ({"id2label": {"0": "A", "1": "B", "2": "A"}}, "its labels are A, B, A"),
    ],
)
def test_a_model_whose_configuration_is_broken_is_refused_in_one_line(change, said, model, write):
    configure(model, **change)
    with pytest.raises(HalflingError, match=said):
        write("torch")
