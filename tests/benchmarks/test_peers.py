"""The benchmark's harness on tiny models: that it compares what it says it compares, not how fast anything is."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def measured(tmp_path, tiny_tasks, write_classifier):
    """A function that runs the benchmark on a random model of a task."""
    import peers

    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy

    def run(task, chosen, *more, exits=(1, 2)):
        model, scratch = write_classifier(tmp_path / "model", tiny_tasks[task], [*exits] or None), tmp_path / "scratch"
        scratch.mkdir()
        arguments = [str(model), "--sentences", "12", "--seconds", "0", "--threads", "1", "--peers", chosen, *more]
        if exits:
            policy = ExitPolicy.uniform((*exits, 3), 0.8, model="of other weights")
            Calibration(task=task, policy=policy, curve=()).write(tmp_path / "policy.json")
            arguments += ["--policy", str(tmp_path / "policy.json")]
        return model, peers.run(peers.parse(arguments), scratch)

    return run


def scores_of(folder, languages):
    """What the model scores in PyTorch, as `halfling quality` measures it."""
    from halfling.evaluate.runtime import Transformers
    from halfling.tasks.examples import dev_examples
    from halfling.tasks.of_model import task_of
    from halfling.tasks.score import score

    task, runtime = task_of(folder), Transformers(folder)
    split = dev_examples(task, languages, 12)
    return {code: 100 * score(task, some, runtime.answer(some, 32).answers).value for code, some in split.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries that export warn of themselves
def test_every_candidate_is_timed_and_scored_beside_float32(measured):
    import verdicts
    from candidates import FLOAT32, NONE, OFF, ON

    model, found = measured("names", "transformers,onnx,openvino,ctranslate2")
    everybody = found["candidates"]
    assert len(everybody) == 3 + 1 + 2 + 4 + 1
    assert {name: one["why"] for name, one in everybody.items() if one["why"]} == {}
    assert everybody[FLOAT32]["scores"] == pytest.approx(scores_of(model, ["en", "sw"]))
    assert everybody["ONNX Runtime, float32"]["drop"] == {"mean": 0, "largest": 0, "passes": True}
    assert everybody[OFF]["scores"] == everybody[NONE]["scores"]
    for times in found["times"].values():
        assert {*times} == {*everybody}
        assert min(one["median_ms"] for one in times.values()) > 0
        assert times[ON]["ratios"][ON]["median"] == 1
    # Which kernel it is hangs on the machine ("brgemm_avx512_I8", "undef_I8"): that it multiplies in int8 does not.
    assert everybody["OpenVINO, static int8, smooth quantisation 0.8"]["settings"]["products"].endswith("_I8")
    assert everybody["ONNX Runtime, float32"]["settings"]["same answers in both"] == "12 of 12"
    for own in found["ours"].values():
        assert {*own} == {"en", "sw", "all"}
        assert 0.3 < own["all"]["flops_share"] < 1
    told = {(one["ratio"], one["size"]) for one in found["verdicts"]}
    assert ("realisation", "alone") in told
    assert ("fastest that passes / exits", "in 32") in told
    shown = verdicts.report(found)
    assert all(f"| {name}" in shown for name in everybody)
    json.dumps(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pairs_of_texts_without_exits_widened(measured):
    from candidates import FLOAT32, OFF

    model, found = measured("pairs", "transformers,ctranslate2", "--widen", "96", "--languages", "en", exits=())
    assert found["shape"]["width"] == 96
    assert {*found["candidates"]} == {OFF, FLOAT32, "CTranslate2, int8"}
    assert found["candidates"][FLOAT32]["scores"] == pytest.approx(scores_of(model, ["en"]))
    assert found["candidates"]["CTranslate2, int8"]["scores"]["en"] == pytest.approx(
        found["candidates"][FLOAT32]["scores"]["en"], abs=20
    )
    assert found["ours"] == {}
    assert {one["ratio"] for one in found["verdicts"]} == {"fastest that passes / exits off"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_who_does_not_run_says_why_and_the_others_go_on(measured, monkeypatch):
    import runtimes
    import verdicts
    from candidates import FLOAT32

    def broken(*_):
        raise OSError("no such processor")

    monkeypatch.setattr(runtimes, "ctranslate2_encoder", broken)
    _, found = measured("moods", "transformers,ctranslate2")
    assert found["candidates"]["CTranslate2, int8"]["why"] == "no such processor"
    assert "CTranslate2, int8" not in found["times"]["alone"]
    assert found["times"]["alone"][FLOAT32]["median_ms"] > 0
    assert "CTranslate2, int8: no such processor" in verdicts.report(found)


def test_a_peer_passes_by_its_mean_and_by_its_worst_language():
    import peers

    float32 = {"en": 80.0, "sw": 60.0}
    assert peers.drops({"en": 79.6, "sw": 60.3}, float32) == pytest.approx({"mean": 0.05, "largest": 0.4, "passes": 1})
    assert not peers.drops({"en": 79.4, "sw": 60.6}, float32)["passes"]
    assert not peers.drops({"en": 79.8, "sw": 59.8}, float32)["passes"]


def test_limits_hold_for_the_fastest_peer_that_passes():
    import verdicts
    from candidates import NONE, OFF, ON

    def ratio(value):
        return {"median": value, "lower": value, "upper": value}

    times = {
        name: {"median_ms": ms, "ratios": {OFF: ratio(ms), ON: ratio(2 * ms)}}
        for name, ms in {OFF: 1.0, NONE: 1.0, ON: 0.5, "quick": 0.7, "exact": 3.0, "slow": 9.0}.items()
    }
    candidates = {name: {"passes": name != "quick", "drop": None} for name in times}
    own = {"all": {"realisation": ratio(1.04), "none_taken": ratio(1.0)}}
    found = {"candidates": candidates, "shape": {"width": 384}, "times": {"alone": times}, "ours": {"alone": own}}

    def judged(**more):
        every = verdicts.verdicts(found | more, ["slow"])
        return {one["ratio"]: (one["who"], one["median"], one["met"]) for one in every}

    assert judged(isa=None) == {
        "realisation": ("", 1.04, False),
        "none taken / exits off": ("", 1.0, True),
        "fastest that passes / exits": ("exact", 6.0, True),
        "fastest that passes / exits off": ("exact", 3.0, True),
        "old engine / exits": ("slow", 18.0, True),
        "old engine / exits off": ("slow", 9.0, True),
    }
    # Held to an instruction set, OpenVINO is what counts, unless it computes nothing.
    times["OpenVINO, empty"], times["OpenVINO, sound"] = times["quick"], times["exact"]
    for name, drop in (("OpenVINO, empty", 60.0), ("OpenVINO, sound", 2.0)):
        candidates[name] = {"passes": False, "drop": {"mean": drop}}
    held = judged(isa="avx2")
    assert held["fastest OpenVINO / exits off"] == ("OpenVINO, sound", 3.0, True)
    assert "fastest that passes / exits" not in held


def test_a_rival_gives_each_sequence_its_own_picked_logits_in_every_setting():
    from padding import Rival, Setting

    from halfling.engine import Encoded

    def echo(ids, mask):
        assert (mask == (ids != 1)).all()
        return np.stack([ids, ids], axis=-1)

    sequences = [Encoded(np.arange(10, 10 + n), np.array([1, n - 1])) for n in (5, 3, 9, 4)]
    for setting in (Setting(4, 1), Setting(2, 8)):
        for one, logits in zip(sequences, Rival(echo, setting)(sequences), strict=True):
            assert (logits[:, 0] == one.ids[one.picked]).all()


def test_peers_read_what_the_model_was_trained_on(tiny_tokenizer, tmp_path):
    from padding import Reader

    from halfling.tasks.encode import encode
    from halfling.tasks.examples import TaggedExample, TextExample

    tiny_tokenizer.save_pretrained(tmp_path)
    words = [["Anna", "lives", "Roma"], ["no"], ["maybe"] * 30]
    reader = Reader(tmp_path, ("O", "B-LOC", "I-LOC"), 20)
    found = reader.encode(words)
    for one, other in zip(
        found, encode([TaggedExample(tuple(w), ("O",) * len(w)) for w in words], tiny_tokenizer, 20), strict=True
    ):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.picked.tolist() == other.picked.tolist()
        assert one.words.tolist() == other.words.tolist()
    logits = [np.eye(3)[[1] * len(one.picked)] for one in found]
    # What was cut off is outside.
    assert reader.answers(words, found, logits)[2] == ["B-LOC"] * 18 + ["O"] * 12
    pairs = [("Anna lives in Rome", "no"), ("maybe " * 30, "yes")]
    for one, other in zip(
        reader.encode(pairs), encode([TextExample(*p, "O") for p in pairs], tiny_tokenizer, 20), strict=True
    ):
        assert one.ids.tolist() == other.ids.tolist()


def test_the_roof_is_the_larger_of_memory_and_arithmetic():
    from roof import Roof, measure_roof

    from halfling.cost.flops import Head
    from halfling.records import EncoderShape

    shape = EncoderShape(num_layers=1, width=2, num_heads=1, ffn_width=4, vocab_size=9, max_tokens=9)
    head = Head(kind="token", num_classes=3)
    # 32 weights; of 2 tokens 2 * 2 * 32 operations in linear layers, 4 * 4 * 2 in attention, 2 * 2 * 6 in the head.
    assert Roof(1.0, 1e9).seconds(shape, head, [[2], [1, 1]]) == 64
    assert Roof(1e9, 1.0).seconds(shape, head, [[2]]) == 128 + 32 + 24
    assert min(measure_roof(1, megabytes=1, goes=1)) > 1e6


def test_the_older_engine_is_that_of_its_checkout(tmp_path, capfd):
    from old_engine import OldEngine

    with pytest.raises(SystemExit, match="ended with status 1"):
        OldEngine(tmp_path, tmp_path / "model", None, 1, tmp_path)
    assert capfd.readouterr().err.endswith(f"{tmp_path}: holds no src/halfling: name a checkout of this repository\n")


def test_imposed_exits_leave_the_thesis_share_of_the_arithmetic():
    import workload

    from halfling.records import EncoderShape
    from halfling.tasks.presets import preset
    from halfling.tasks.task import Task

    shape = EncoderShape(num_layers=12, width=32, num_heads=2, ffn_width=64, vocab_size=600, max_tokens=512)
    task = Task(**preset("wikiann", "absent"))
    taken, share = workload.impose(shape, task, [10, 20, 30, 40] * 8, (4, 8, 12))
    assert share == pytest.approx(workload.SHARE, abs=0.02)
    assert {*taken} == {4, 8, 12}
