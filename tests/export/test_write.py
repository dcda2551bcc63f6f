import gzip
import json
import shutil

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from halfling.engine import AdaptiveEngine
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.export import write
from halfling.export.check import Agreement, agreement
from halfling.export.sentences import sentences
from halfling.export.trained import load_trained
from halfling.export.write import ExportSettings
from halfling.models.load import weights_sha256
from halfling.records import silent
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task, read_task


@pytest.fixture
def write_policy(tmp_path):
    """A function that writes a calibration's folder for the exits after layers 1 and 2."""

    def make(threshold, **more):
        folder = tmp_path / "policy"
        folder.mkdir(exist_ok=True)
        policy = ExitPolicy.uniform((1, 2), threshold, **more)
        Calibration(task="names", policy=policy, max_drop=1.0, curve=()).write(folder / "exit_policy.json")
        return folder

    return make


COMPARED = ("num_sentences", "largest_difference", "equal_labels")


def exported(model, out, policy=None, task=None, progress=silent, **settings):
    """Export into a folder, as its stage would, and return the agreement of each backend."""
    out.mkdir()
    counts = write.export(
        settings=ExportSettings(**settings), model=model, out=out, policy=policy, task=task, progress=progress
    )
    return [
        Agreement(backend=name, **{field: counts[f"{name}_{field}"] for field in COMPARED})
        for name in ("native", "torch", "onnx")
        if f"{name}_num_sentences" in counts
    ]


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("threshold", "segments"), [(0.0, ((1, 2),)), (0.5, ((1, 1), (2, 2)))])
def test_a_model_is_cut_where_inputs_may_leave(threshold, segments, write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    policy = write_policy(threshold, model=weights_sha256(model))
    exported(model, tmp_path / "out", backends=("onnx",), policy=policy)
    found = read_exported(tmp_path / "out")
    assert found.segments == segments
    assert {*found.files} == files_of(tmp_path / "out") - {"engine.json", "task.json", "task-sources.json"}
    assert {name for name in found.files if name.startswith("onnx/")} == {
        f"onnx/layers-{first}-{last}.onnx{more}" for first, last in segments for more in ("", ".data")
    }


def test_a_folder_for_browsers_holds_what_they_need_and_not_where_it_was_made(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    for name in ("out", "again"):
        (tmp_path / name).mkdir()
        counts = write.export(
            settings=ExportSettings(backends=("web",), max_int8_drop=None), model=model, out=tmp_path / name
        )
    web = tmp_path / "out" / "web"
    assert files_of(web) == {
        *("index.html", "page.js", "halfling.js", "halfling.wasm"),
        *("engine.json", "native.weights.gz", "native.tokenizer.gz"),
    }
    assert counts["web_bytes"] == sum(path.stat().st_size for path in web.iterdir())
    assert counts["native_num_sentences"] == 64
    for path in web.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "web" / path.name).read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    for name in ("native.weights", "native.tokenizer"):
        assert gzip.decompress((web / f"{name}.gz").read_bytes()) == (tmp_path / "out" / name).read_bytes()
    assert read_exported(tmp_path / "out").backends == ("native",)  # and runs there as ever
    shutil.rmtree(web)
    assert AdaptiveEngine.from_pretrained(tmp_path / "out").predict(["Anna lives"])


def test_browsers_run_int8_and_xlm_rs_tokenizer_alone(write_tagger, tmp_path):
    assert ExportSettings(backends=("web",)).precision == "int8"
    with pytest.raises(ValidationError, match="web: runs int8 only"):
        ExportSettings(backends=("web",), precision="float32")
    model = write_tagger(tmp_path / "model")
    path = model / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "TokenizersBackend"}))
    with pytest.raises(HalflingError, match="another than XLM-R's"):
        exported(model, tmp_path / "out", backends=("web",), max_int8_drop=None)
    assert files_of(tmp_path / "out") == set()


def test_what_a_killed_export_left_is_no_part_of_the_next(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    exported(model, tmp_path / "whole")
    exported(model, tmp_path / "out", backends=("onnx", "torch"))  # killed at its end
    write.export(settings=ExportSettings(), model=model, out=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert read_exported(tmp_path / "out") == read_exported(tmp_path / "whole")


def test_two_products_of_int8_fit_into_16_bits_as_processors_without_vnni_add_them(write_tagger, tmp_path):
    exported(write_tagger(tmp_path / "model"), tmp_path / "out", backends=("onnx",), precision="int8")
    (path,) = (tmp_path / "out" / "onnx").glob("*.onnx")
    constants = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    weights = [constant.astype(int) for constant in constants if constant.dtype == np.int8 and constant.ndim == 2]
    assert len(weights) == 2 * 6 + 1  # two layers: queries, keys, values, what follows, the inner layer's two; a head
    for weight in weights:
        largest = np.abs(weight).max()
        assert largest * 2 * 255 < 2**15
        assert largest > 60  # and no more of the 8 bits is given away


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0, 1e-5), ("int8", 1e-4, 0.3)])
def test_the_agreement_is_that_of_the_answers(precision, least, most, write_tagger, tmp_path, monkeypatch):
    model = write_tagger(tmp_path / "model")
    (honest,) = exported(model, tmp_path / "out", backends=("onnx",), precision=precision, max_int8_drop=None)
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
    dishonest = agreement(trained, sentences(trained, task_of(model)), tmp_path / "out", "onnx")
    assert dishonest.largest_difference == pytest.approx(1, abs=most)


def test_a_tokenizer_that_the_native_one_cannot_follow_goes_along_as_it_is(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    for name, change in (
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
        ("tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}),
    ):
        (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | change))
    exported(model, tmp_path / "out", backends=("torch",))
    assert read_exported(tmp_path / "out").tokenizer == "tokenizers"
    its, ours = (json.loads((folder / "tokenizer.json").read_text()) for folder in (model, tmp_path / "out"))
    scores = [dict(one["model"].pop("vocab")) for one in (its, ours)]
    assert its == ours
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)  # transformers' reader rounds the last digit


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
        exported(model, tmp_path / "out", backends=("torch",), policy=policy)


def test_a_policy_for_tokens_is_none_for_a_classifier_of_texts(write_policy, write_classifier, tiny_tasks, tmp_path):
    model = write_classifier(tmp_path / "model", tiny_tasks["pairs"], [1, 2], layers=2)
    with pytest.raises(HalflingError, match="lets tokens exit alone"):
        exported(model, tmp_path / "out", policy=write_policy(0.5, granularity="token"))


def store(model, policy):
    """Write a policy into a model's configuration."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"exit_policy": policy}))


def test_a_policy_that_is_stored_in_the_model_goes_along_unless_another_is_given(write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    stored = ExitPolicy.uniform((1, 2), 0.25, criterion="margin", model=weights_sha256(model))
    store(model, stored.model_dump(mode="json"))
    exported(model, tmp_path / "stored", backends=("torch",))
    assert read_exported(tmp_path / "stored").policy == stored
    exported(model, tmp_path / "given", backends=("torch",), policy=write_policy(0.5))
    assert read_exported(tmp_path / "given").policy == ExitPolicy.uniform((1, 2), 0.5)
    store(model, {"layers": [1, 2], "thresholds": [0.75]})  # as transformers takes it: what is left out is usual
    exported(model, tmp_path / "short", backends=("torch",))
    assert read_exported(tmp_path / "short").policy == ExitPolicy.uniform((1, 2), 0.75)
    # Exits off, to the letter: a policy that lets nobody leave.
    exported(model, tmp_path / "off", backends=("torch",), policy=write_policy(0.0))
    assert read_exported(tmp_path / "off").policy == ExitPolicy(layers=(2,), thresholds=())


def test_a_stored_policy_of_another_model_is_refused(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    other = weights_sha256(write_tagger(tmp_path / "other", seed=1))
    store(model, ExitPolicy.uniform((1, 2), 0.25, model=other).model_dump(mode="json"))
    with pytest.raises(HalflingError, match="was made for another model") as raised:
        exported(model, tmp_path / "out", backends=("torch",))
    assert str(raised.value).startswith(f"{model}: its policy")


def test_the_task_travels_with_the_export(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    exported(model, tmp_path / "out", backends=("torch",))
    assert read_task(tmp_path / "out") == task_of(model)
    assert not list((tmp_path / "out/torch").glob("task*"))


def test_dev_texts_of_the_task_scale_and_check_it(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    (tmp_path / "few.conll").write_text("Anna O\nlives O\n\nRome O\n\n" * 3)
    given = Task(dev={"en": str(tmp_path / "few.conll")})
    (one,) = exported(model, tmp_path / "out", task=given, backends=("onnx",), precision="int8", max_int8_drop=None)
    assert one.num_sentences == 6
    found = sentences(load_trained(model, None), task_of(model, given))
    assert [len(ids) for ids in found.ids] == [4, 3] * 3
    assert found.texts[:3] == ["Anna", "lives", "Rome"]


def test_a_model_without_a_task_wants_data(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    dev = task_of(model).dev
    (model / "task.json").unlink()
    with pytest.raises(HalflingError, match="no task travels with it: name its data with --train and --dev"):
        exported(model, tmp_path / "without", backends=("torch",))
    exported(model, tmp_path / "out", backends=("torch",), task=Task(name="given", dev=dev))
    assert read_task(tmp_path / "out").labels == read_exported(tmp_path / "out").labels


@pytest.mark.parametrize("task", ["moods", "products"])
def test_labels_in_another_order_give_the_same_answers(task, write_classifier, permute_labels, tiny_tasks, tmp_path):
    model = write_classifier(tmp_path / "model", tiny_tasks[task], [1, 3])
    texts = ["Anna lives in Rome", "no", "maybe Anna"]

    def answered(out):
        exported(model, out, backends=("onnx",))
        engine = AdaptiveEngine.from_pretrained(out, "onnx", 1)
        return engine.exported.labels, engine.predict(texts)

    labels, before = answered(tmp_path / "before")
    order = [*reversed(range(len(labels)))]
    permute_labels(model, order)
    permuted, after = answered(tmp_path / "after")
    assert permuted == tuple(labels[number] for number in order)
    for one, other in zip(before, after, strict=True):
        assert (one.label, one.tags) == (other.label, other.tags)
        assert other.scores == (one.scores and pytest.approx(one.scores, abs=1e-6))


def test_a_tokenizer_of_another_model_is_refused(write_tagger, tokenizer_folder, tmp_path):
    model = write_tagger(tmp_path / "model")
    for path in tokenizer_folder.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    with pytest.raises(HalflingError, match=r"its tokenizer has \d+ pieces, the model 42: save the model with its own"):
        exported(model, tmp_path / "out", backends=("torch",))


def test_torch_is_not_exported_in_int8():
    with pytest.raises(ValidationError, match="torch: runs float32 and bfloat16: export int8 for native or onnx"):
        ExportSettings(backends=("onnx", "torch"), precision="int8")


def test_an_activation_that_the_graphs_do_not_know_is_refused(write_tagger, tmp_path):
    model = write_tagger(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(HalflingError, match="hidden_act relu"):
        exported(model, tmp_path / "out", backends=("onnx",))
    exported(model, tmp_path / "torch", backends=("torch",))


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
        exported(model, tmp_path / "out", backends=(backend,), precision=precision)


def test_a_refused_export_leaves_nothing(write_tagger, tmp_path, monkeypatch):
    model = write_tagger(tmp_path / "model")

    def refused(out, **settings):
        with pytest.raises(HalflingError):
            exported(model, out, **settings)
        return list(out.iterdir())

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert not refused(tmp_path / "activation", backends=("onnx",))
    (model / "config.json").write_text(json.dumps(config))
    with monkeypatch.context() as patch:
        patch.setattr(write, "_ROUNDING", 0.0)
        assert not refused(tmp_path / "other answers", backends=("onnx", "torch"))
    (model / "tokenizer.json").unlink()
    assert not refused(tmp_path / "tokenizer", backends=("torch",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([], "config.json: no model's configuration"),
        ({"architectures": [5]}, r"a xlm-roberta-early-exit model \(5\): halfling reads XLM-R"),
        ({"architectures": 5}, "config.json: no model's configuration"),
        ({"model_type": "bert"}, "a bert model"),
        ({"problem_type": "multi_label_classification"}, "halfling answers with one label a text"),
        ({"id2label": {"9": "B-X"}}, "have a gap: name every class from 0"),
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
        exported(model, tmp_path / "out", backends=("torch",))


@pytest.fixture
def four_words(monkeypatch):
    """Every language uses four words of the tests' vocabulary."""
    counts = np.zeros(42, np.int64)
    counts[[5, 6, 7, 8]] = 1  # ▁Anna ▁lives ▁in ▁Rome
    monkeypatch.setattr("halfling.training.trim.own_ids", lambda tokenizer: np.arange(len(tokenizer)))
    monkeypatch.setattr("halfling.training.trim.known_counts", lambda codes: dict.fromkeys(codes, counts))


@pytest.mark.usefixtures("four_words")
def test_sets_of_languages_that_are_cut_away_go_with_them(write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    policy = write_policy(0.5, model=weights_sha256(model))
    path = policy / "exit_policy.json"
    whole = Calibration.read(path)
    point = {"quality": 1, "drop_bound": 3, "flops_share": 0.5, "mean_exit_layer": 1.5}
    point |= {"layers": whole.policy.layers, "thresholds": whole.policy.thresholds}
    own = {
        "policy": whole.policy.model_dump(),
        "from_labels": False,
        "point": point,
        "num_texts": 9,
        "confidence": 0.95,
    }
    path.write_text(
        json.dumps(
            json.loads(path.read_text()) | {"languages": {"sw-KE": own, "ru": own, "en": own | {"from_labels": True}}}
        )
    )
    (tmp_path / "out").mkdir()
    settings = ExportSettings(backends=("onnx",), languages=("sw", "en"))
    found = write.export(settings=settings, model=model, out=tmp_path / "out", policy=policy)
    assert found["says"] == [
        "ru: none of --languages: get the default's thresholds",
        "sw-KE: what was promised is of the whole vocabulary: check it here with `halfling watch`",
    ]
    assert [*read_exported(tmp_path / "out").policies] == ["sw-KE", "en"]
    assert [*Calibration.read(tmp_path / "out/exit_policy.json").languages] == ["sw-KE", "en"]
    assert [*Calibration.read(path).languages] == ["sw-KE", "ru", "en"]


@pytest.mark.usefixtures("four_words")
def test_a_model_of_fewer_languages_has_fewer_pieces_and_the_policy_it_had(write_tagger, write_policy, tmp_path):
    model = write_tagger(tmp_path / "model")
    policy = write_policy(0.5, model=weights_sha256(model))
    (tmp_path / "out").mkdir()
    settings = ExportSettings(backends=("onnx",), languages=("sw", "en"))
    found = write.export(settings=settings, model=model, out=tmp_path / "out", policy=policy)
    assert (found["pieces_before"], found["pieces"]) == (42, 39)
    assert found["onnx_largest_difference"] < 1e-4
    assert 0 < found["unchanged en"] < 1
    assert read_exported(tmp_path / "out").segments == ((1, 1), (2, 2))
    whole, trimmed = tmp_path / "whole", AdaptiveEngine.from_pretrained(tmp_path / "out")
    exported(model, whole, backends=("onnx",), policy=policy)
    text = ["Anna lives in Rome"]
    one, other = (next(iter(each.predict(text))) for each in (AdaptiveEngine.from_pretrained(whole), trimmed))
    assert one.tags == other.tags
    assert trimmed.exported.shape.vocab_size == 39
