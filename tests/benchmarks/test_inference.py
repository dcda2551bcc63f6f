"""The benchmark's harness on a tiny shape: that it compares what it says it compares, not how fast anything is."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from halfling.records import EncoderShape

TINY = EncoderShape(num_layers=4, width=32, num_heads=2, ffn_width=64, vocab_size=600, max_tokens=512)


def task(name, data):
    from halfling.tasks import Task
    from halfling.tasks.presets import preset

    return Task(**preset(name, str(data)))


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries that export warn of themselves
def test_the_harness_measures_every_candidate_and_finds_equal_answers(tmp_path, capsys, monkeypatch):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("nncf")
    import inference

    # On a busy machine a second thread waits for the first.
    monkeypatch.setattr(inference.rivals, "THREADS", 1)
    plan = inference.Plan(TINY, (2, 4), ("xnli",), 1, 1, 2, slow=False, memory=False, pieces=600, vocabulary=600)
    found = inference.run(plan, tmp_path / "not there")
    json.dumps(found)
    rivals_of = {
        "float32": {"OpenVINO bfloat16 (its default here), dynamic shapes", "transformers, naive early exit"},
        "int8": {"ONNX Runtime int8", "OpenVINO int8, a static graph a shape"},
    }
    for size, precision in product(("batch 1", "batch 32"), rivals_of):
        figures = found["time"]["xnli"][size]
        assert figures["flops_share"] == pytest.approx(0.686, abs=0.1)
        raced = figures[precision]
        assert {inference.EAGER} | rivals_of[precision] <= {*raced["median_ms"]}
        assert raced["settings"][inference.EAGER] == str(inference.rivals.Setting(group=32, multiple=1))
        exact = {name: gap for name, gap in raced["largest_difference"].items() if "float32" in name}
        assert max(exact.values(), default=0) < 1e-4
        assert len(exact) == (2 if precision == "float32" else 0)
        assert raced["largest_difference"].get(inference.NAIVE, 0) < 1e-4
        assert raced["ours"]["exits"] == f"ours openvino {precision}, exits"
        assert not raced["fastest_other"].startswith("ours")
        assert {*raced["ratios"]} == {*inference.LIMITS} - {"exits_against_grouped"}
    assert capsys.readouterr().out.count("(>= 8)") == 4


def test_the_naive_loop_stops_where_the_deepest_leaves(tmp_path):
    import rivals
    import workload

    from halfling.engine import Encoded

    data = workload.data_folder(tmp_path / "absent", tmp_path / "data")
    (tokenizer,) = workload.tokenizers(data, 600)
    plain, early = workload.write_model(tmp_path / "model", task("xnli", data), TINY, (2, 4), tokenizer)
    some = [Encoded(np.arange(5, 5 + n), np.zeros(1, np.int64)) for n in (4, 7)]
    expected = rivals.Rival(rivals.transformers_eager(plain))(some)
    naive = rivals.NaiveEarlyExit(early)
    np.testing.assert_allclose(naive(some, [2, 4]), expected, atol=1e-5)
    assert not np.allclose(naive(some, [2, 2]), expected, atol=1e-3)


def test_imposed_exits_leave_the_thesis_share_of_the_arithmetic():
    import workload

    shape = TINY.model_copy(update={"num_layers": 12})
    taken, share = workload.impose(shape, task("wikiann", Path()), [10, 20, 30, 40] * 8, (4, 8, 12))
    assert share == pytest.approx(workload.SHARE, abs=0.02)
    assert {*taken} == {4, 8, 12}


def test_a_rival_gives_each_sequence_its_own_picked_logits_in_every_setting():
    import rivals

    from halfling.engine import Encoded

    def echo(ids, mask):
        assert (mask == (ids != 1)).all()
        return np.stack([ids, ids], axis=-1)

    sequences = [Encoded(np.arange(10, 10 + n), np.array([1, n - 1])) for n in (5, 3, 9, 4)]
    for setting in (rivals.Setting(4, 1), rivals.Setting(2, 8)):
        for one, logits in zip(sequences, rivals.Rival(echo, setting)(sequences), strict=True):
            assert (logits[:, 0] == one.ids[one.picked]).all()


def test_a_verdict_is_the_number_and_the_threshold(capsys):
    import inference

    assert inference.judge(1.05, "<=", 1.05) == "pass (<= 1.05)"
    assert inference.judge(7.9, ">=", 8.0) == "FAIL (>= 8)"


def test_a_ratio_within_rounds_is_what_the_verdicts_read():
    import inference

    close = {f"ours x float32, {what}": took for what, took in _TIMES.items()}
    wide = close | {inference.EAGER: [8.0, 16.0], inference.GROUPED: [4.0, 8.0], "other": [2.0, 4.0]}
    figures = inference.compare(close, wide, 0.5)
    assert figures["fastest_other"] == "other"
    assert {name: ratio["median"] for name, ratio in figures["ratios"].items()} == pytest.approx(
        {
            "realisation": 1.2,
            "none_taken": 1.1,
            "exits_against_eager": 8 / 0.6,
            "exits_against_grouped": 4 / 0.6,
            "exits_against_fastest": 2 / 0.6,
            "off_against_fastest": 2.0,
        }
    )


_TIMES = {"exits off": [1.0, 2.0], "none taken": [1.1, 2.2], "exits": [0.6, 1.2]}
