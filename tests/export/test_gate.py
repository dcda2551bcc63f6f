"""What int8 costs, which export is refused for it, and which layers are widened."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from halfling.engine import AdaptiveEngine
from halfling.engine.answer import Answer
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.export import gate as gate_module
from halfling.export import write
from halfling.export.gate import Gate, GateSettings, told
from halfling.export.trained import load_trained
from halfling.export.widen import narrowest
from halfling.export.write import ExportSettings
from halfling.records import silent
from halfling.tasks.bootstrap import drop_bounds, resamples
from halfling.tasks.encode import encode
from halfling.tasks.examples import TextExample
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers, predict
from halfling.tasks.score import Tally
from halfling.tasks.task import Task

WORDS = ["Anna", "lives", "in", "Rome", "yes", "no", "maybe"]


def plant(model, factor):
    """Make three channels of every norm's output larger, and read them as they were."""
    weights = load_file(model / "model.safetensors")
    for layer in range(3):
        here = f"roberta.encoder.layer.{layer}"
        for part in ("weight", "bias"):
            weights[f"{here}.attention.output.LayerNorm.{part}"][[2, 7, 11]] *= factor
        weights[f"{here}.intermediate.dense.weight"][:, [2, 7, 11]] /= factor
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def self_labelled(write_classifier, tiny_tasks, tmp_path):
    """A function that writes a classifier of three layers, and dev data labelled as the model answers them."""

    def write(factor=1, **sizes):
        model = write_classifier(tmp_path / "model", tiny_tasks["intents"])
        plant(model, factor)
        trained, chance = load_trained(model, None), random.Random(0)
        dev = {}
        for code, size in sizes.items():
            texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))) for _ in range(size)]
            examples = [TextExample(text, None, "") for text in texts]
            encoded = encode(examples, trained.tokenizer, 40)
            said = answers(predict(trained.network, encoded, 32).logits, encoded, trained.labels, None)
            dev[code] = str(tmp_path / f"own-{code}.csv")
            lines = [f"{text},{label}\n" for text, label in zip(texts, said, strict=True)]
            (tmp_path / f"own-{code}.csv").write_text("text,intent\n" + "".join(lines))
        (model / "task-sources.json").unlink()
        return model, Task(name="intents", dev=dev)

    return write


class Damaged:
    """What answers as the model does, but for a share of the answers, where another class wins."""

    def __init__(self, trained, every):
        self.trained, self.every = trained, every

    def __call__(self, sequences, leave_after=None, language=None):
        found = predict(self.trained.network, sequences, 32).logits
        for one in found[:: self.every] if self.every else []:
            one += 1e3 * (one == one.min())
        return [Answer(one, 3, 0.0) for one in found]


def gate_of(model, task, limit=0.5, **settings):
    trained = load_trained(model, None)
    return trained, Gate(trained, task_of(model, task), GateSettings(**settings), limit, silent)


def test_a_drop_and_its_bounds_are_those_of_the_answers_that_differ(self_labelled):
    trained, gate = gate_of(*self_labelled(en=200, sw=40))
    en, sw = gate.measure(Damaged(trained, 10), "native", silent)
    assert (en.language, en.num_examples, en.metric, en.backend) == ("en", 200, "accuracy", "native")
    assert (en.float32, en.int8, en.drop) == (1, 0.9, pytest.approx(10))
    assert (sw.language, sw.num_examples, sw.int8) == ("sw", 40, 0.9)
    right = (np.arange(200) % 10 > 0).astype(float)
    tallies = Tally(np.ones(200), np.ones(200)), Tally(right, np.ones(200))
    assert (en.lower, en.bound) == drop_bounds(*tallies, resamples(200, 2000, 0))
    # One-sided 95 %: 1.645 standard errors of a share of 0.1.
    assert en.bound == pytest.approx(10 + 164.5 * (0.1 / 200) ** 0.5, abs=0.8)
    assert en.lower == pytest.approx(10 - 164.5 * (0.1 / 200) ** 0.5, abs=0.8)


@pytest.mark.parametrize(
    ("size", "every", "limit", "suffices", "fails"),
    [
        (700, 0, 0.5, True, False),  # nothing differs, and 600 would show it
        (400, 0, 0.5, False, False),
        (400, 10, 0.5, True, True),  # 10 points, 7.5 to 12.6
        (40, 40, 0.5, False, False),  # 2.5 points, 0 to 7.5: one answer is no proof
        (400, 20, 5.0, True, True),  # 5 points, 3.2 to 7: as close as the limit
        (400, 20, 3.5, False, False),  # further apart than the limit, which lies between them
        (400, 20, 8.0, True, False),
    ],
)
def test_a_language_fails_where_its_sentences_suffice_to_say_so(size, every, limit, suffices, fails, self_labelled):
    trained, gate = gate_of(*self_labelled(en=size), limit=limit)
    drops = gate.measure(Damaged(trained, every), "onnx", silent)
    assert (drops[0].suffices, bool(gate.failed(drops))) == (suffices, fails)
    assert ("too few sentences to bound the drop by" in told(drops[0], limit)) == (not suffices)
    if fails:
        with pytest.raises(
            HalflingError, match=rf"^onnx int8 costs \d+\.00 points of accuracy in en \(.*max_int8_drop {limit:g}: "
        ):
            gate.refuse(drops)
    else:
        gate.refuse(drops)


def test_the_gate_reads_so_many_examples_of_each_language(self_labelled):
    model, task = self_labelled(en=60, sw=20)
    for most, sizes in ((30, [30, 20]), (None, [60, 20])):
        trained, gate = gate_of(model, task, gate_examples=most)
        assert [one.num_examples for one in gate.measure(Damaged(trained, 0), "native", silent)] == sizes


class Writer:
    """Writes weights of which answers are wrong until enough layers are wide."""

    def __init__(self, trained, good_enough):
        self.trained, self.good_enough, self.written = trained, good_enough, []

    def __call__(self, wide):
        self.written.append(wide)
        return Damaged(self.trained, 0 if self.good_enough(wide) else 10 - len({*wide} & {1, 3}))


def test_the_layer_that_mends_most_is_widened_first(self_labelled):
    trained, gate = gate_of(*self_labelled(en=200))
    writer = Writer(trained, lambda wide: 2 in wide)
    wide, drops = narrowest(gate, writer, 3, silent)
    assert writer.written == [(), (1,), (2,), (3,), (2,)]
    assert wide == (2,)
    assert drops[0].int8 == 1


def test_nothing_is_widened_where_int8_alone_passes(self_labelled):
    trained, gate = gate_of(*self_labelled(en=200))
    writer = Writer(trained, lambda wide: True)
    assert narrowest(gate, writer, 3, silent)[0] == ()
    assert writer.written == [()]


def test_layers_are_widened_two_and_four_at_a_time_and_never_more_than_there_are(self_labelled):
    trained, gate = gate_of(*self_labelled(en=200))
    for enough in (2, 3):
        writer = Writer(trained, lambda wide, enough=enough: len(wide) >= enough)
        assert len(narrowest(gate, writer, 3, silent)[0]) == enough
        assert [len(wide) for wide in writer.written[4:]] == [1, 2, 3][:enough]


def test_what_all_layers_do_not_mend_is_refused(self_labelled):
    trained, gate = gate_of(*self_labelled(en=200))
    with pytest.raises(
        HalflingError, match=r"^native int8 with all layers in 16 bits costs 1\d\.\d\d points of accurac"
    ):
        narrowest(gate, Writer(trained, lambda wide: False), 3, silent)


def exported(model, task, out, **settings):
    out.mkdir()
    return write.export(settings=ExportSettings(**settings), model=model, out=out, task=task)


@pytest.mark.parametrize("backend", ["native", "onnx"])
def test_what_int8_costs_travels_with_the_export(backend, self_labelled, tmp_path):
    model, task = self_labelled(en=60, sw=20)
    counts = exported(model, task, tmp_path / "out", backends=(backend,), precision="int8", max_int8_drop=20)
    found = read_exported(tmp_path / "out").int8
    assert [(one.backend, one.language, one.num_examples) for one in found] == [
        (backend, "en", 60),
        (backend, "sw", 20),
    ]
    assert counts["says"] == [told(one, 20.0) for one in found]
    assert counts["largest_int8_drop"] == round(max(one.drop for one in found), 2)
    assert {*counts} == {"says", "mean_int8_drop", "largest_int8_drop"}


def test_an_export_that_int8_ruins_leaves_nothing(self_labelled, tmp_path):
    model, task = self_labelled(factor=1000, en=200)
    with pytest.raises(HalflingError, match=r"^onnx int8 costs \d+\.\d\d points of accuracy in en \("):
        exported(model, task, tmp_path / "out", backends=("onnx",), precision="int8")
    assert not [*(tmp_path / "out").iterdir()]
    # Without a gate it would have been written.
    (said,) = exported(model, task, tmp_path / "all", backends=("onnx",), precision="int8", max_int8_drop=None)["says"]
    assert said == "what int8 costs was not measured, as max_int8_drop is null"
    assert read_exported(tmp_path / "all").int8 == ()


def test_the_native_engine_gets_layers_in_16_bits_where_int8_alone_costs_too_much(self_labelled, tmp_path):
    model, task = self_labelled(factor=1000, en=400)
    counts = exported(model, task, tmp_path / "out", max_int8_drop=5)
    found = read_exported(tmp_path / "out")
    assert found.wide_layers
    assert found.int8[0].bound <= 5
    named = f"layer{'s' * (len(found.wide_layers) > 1)} {', '.join(map(str, found.wide_layers))}"
    assert counts["says"][1:] == [f"int8 alone costs more: native has 16 bits in {named}"]
    _, gate = gate_of(model, task, limit=5.0)
    served = AdaptiveEngine.from_pretrained(tmp_path / "out")
    assert gate.measure(lambda some, language: served.answer(some), "native", silent) == found.int8
    (tmp_path / "alone").mkdir()
    exported(model, task, tmp_path / "alone/out", max_int8_drop=100)
    alone = read_exported(tmp_path / "alone/out")
    assert (alone.wide_layers, alone.int8[0].bound > 5) == ((), True)


def test_what_16_bits_do_not_mend_in_the_native_engine_leaves_nothing(self_labelled, tmp_path):
    model, task = self_labelled(factor=1000, en=400)
    with pytest.raises(HalflingError, match=r"^native int8 with all layers in 16 bits costs "):
        exported(model, task, tmp_path / "out", max_int8_drop=1)
    assert not [*(tmp_path / "out").iterdir()]


def test_the_command_prints_a_line_for_each_language(halfling, self_labelled, tmp_path):
    model, task = self_labelled(en=60, sw=20)
    data = [f"--dev={code}={source}" for code, source in task.dev.items()]
    said = halfling("export", model, tmp_path / "out", *data, "--max-int8-drop", "20")
    assert said.status == 0, said.err
    counts, en, sw, where = said.out.splitlines()
    assert {*json.loads(counts)} == {"mean_int8_drop", "largest_int8_drop"}
    assert en.startswith("en: accuracy 100.00 in float32, ")
    assert sw.endswith("with 95 % confidence (20 examples)")
    assert where == str(tmp_path / "out")


def test_a_refused_command_says_so_in_one_line_and_leaves_nothing(error, self_labelled, tmp_path):
    model, task = self_labelled(factor=1000, en=200)
    said = error("export", model, tmp_path / "out", f"--dev=en={task.dev['en']}", "--backends=onnx", "--precision=int8")
    assert said.startswith("onnx int8 costs ")
    assert said.endswith("export float32 for onnx, or allow more")


def test_precisions_other_than_int8_have_no_gate(self_labelled, tmp_path):
    model, task = self_labelled(en=20)
    counts = exported(model, task, tmp_path / "out", backends=("onnx",), max_int8_drop=0)
    assert {*counts} == {"onnx_num_sentences", "onnx_largest_difference", "onnx_equal_labels"}
    assert read_exported(tmp_path / "out").int8 == ()


def test_the_gate_draws_its_examples_from_all_of_a_sorted_file(self_labelled):
    model, task = self_labelled(en=120)
    _, whole = gate_of(model, task, gate_examples=None)
    _, some = gate_of(model, task, gate_examples=30)
    every, drawn = ([one.text for one in gate.asked["en"].examples] for gate in (whole, some))
    remaining = iter(every)
    assert len(drawn) == 30
    assert all(text in remaining for text in drawn), "in the order of the file"
    assert drawn != every[:30]


def test_each_language_is_answered_by_its_own_thresholds(self_labelled, monkeypatch):
    model, task = self_labelled(en=20, sw=20)
    trained = load_trained(model, None)
    own = ExitPolicy.uniform((1, trained.shape.num_layers), 1.0)
    asked = []
    monkeypatch.setattr(gate_module, "predict", lambda *given, policy, **_: asked.append(policy) or predict(*given))
    with_sets = replace(trained, policies={"sw": own})
    Gate(with_sets, task_of(model, task), GateSettings(), 0.5, silent)
    assert asked == [trained.policy, own]
