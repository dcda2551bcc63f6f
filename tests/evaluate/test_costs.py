import json
import sys
from pathlib import Path

import pytest

from halfling.errors import HalflingError
from halfling.evaluate import costs, fresh_process
from halfling.evaluate.costs import CostSettings, measure_costs
from halfling.records import Cost

SETTINGS = {"task": "xnli", "languages": ("en", "sw"), "max_tokens": 24, "rounds": 2, "warmup": 0}


def rows(out) -> list[Cost]:
    return [Cost.model_validate_json(line) for line in (out / "costs.jsonl").read_text().splitlines()]


@pytest.fixture
def models(write_model, write_policy):
    folders = {"plain": write_model("plain", "xnli"), "early": write_model("early", "xnli", [1, 3])}
    return {"models": folders, "policies": {"early": write_policy("xnli", (1, 3), 0.9)}}


@pytest.fixture
def constant_peaks(monkeypatch):
    """Memory is a matter of its own: a fresh process takes seconds to begin."""

    def peak_bytes(command):
        return 1000 + len(json.loads(Path(command[-1]).read_text())["model"])

    monkeypatch.setattr(costs, "peak_bytes", peak_bytes)


@pytest.mark.usefixtures("constant_peaks")
def test_there_is_a_row_for_each_model_and_language(models, data, tmp_path, monkeypatch):
    def interleaved(calls, *, rounds, warmup):
        return {name: [0.18, 0.24, 0.30] for name in calls}

    monkeypatch.setattr(costs, "interleaved", interleaved)
    told = []
    counts = measure_costs(
        settings=CostSettings(**SETTINGS),
        **models,
        data=data,
        out=tmp_path,
        progress=lambda *step: told.append(step[:2]),
    )
    found = rows(tmp_path)
    assert [(row.model, row.language) for row in found] == [
        ("plain", "en"),
        ("early", "en"),
        ("plain", "sw"),
        ("early", "sw"),
    ]
    # Twelve sentences one by one, and all of them at once.
    assert {(row.latency_ms_b1, row.latency_ms_b32) for row in found} == {(20.0, 240.0)}
    for name, folder in models["models"].items():
        assert {row.peak_bytes for row in found if row.model == name} == {1000 + len(str(folder))}
    assert told == [(done, 4) for done in range(5)]
    assert counts == {"largest_spread": 0.25}


@pytest.mark.usefixtures("constant_peaks")
def test_models_are_interleaved(models, data, tmp_path, monkeypatch):
    called = []
    answer = costs.predict

    def predict(network, encoded, batch_size, policy):
        called.append((type(network).__name__.startswith("XLMRobertaEarlyExit"), batch_size))
        return answer(network, encoded, batch_size, policy=policy)

    monkeypatch.setattr(costs, "predict", predict)
    measure_costs(settings=CostSettings(**(SETTINGS | {"languages": ("en",)})), **models, data=data, out=tmp_path)
    single = [early for early, batch_size in called if batch_size == 1]
    batched = [early for early, batch_size in called if batch_size == costs.BATCH]
    assert single == batched[:4] == [False, True, True, False]  # every second round runs backwards
    assert batched[4:] == [False, True]  # once more, untimed, to count the arithmetic


@pytest.mark.usefixtures("constant_peaks")
def test_a_policy_for_another_model_is_refused_before_anything_is_measured(models, write_policy, data, tmp_path):
    models["policies"]["early"] = write_policy("wikiann", (1, 3), 0.5)
    with pytest.raises(HalflingError, match="calibrate this model"):
        measure_costs(settings=CostSettings(**SETTINGS), **models, data=data, out=tmp_path)
    assert not (tmp_path / "costs.jsonl").exists()


@pytest.mark.usefixtures("constant_peaks")
def test_more_tokens_than_a_model_reads_are_refused(models, data, tmp_path):
    with pytest.raises(HalflingError, match="plain: reads at most 40 tokens, not max_tokens=99"):
        measure_costs(settings=CostSettings(**(SETTINGS | {"max_tokens": 99})), **models, data=data, out=tmp_path)


@pytest.mark.slow
def test_the_peak_is_that_of_a_fresh_process_which_answers(models, data, tmp_path):
    only = {"models": {"early": models["models"]["early"]}, "policies": models["policies"]}
    measure_costs(settings=CostSettings(**SETTINGS), **only, data=data, out=tmp_path)
    peaks = {row.peak_bytes for row in rows(tmp_path)}
    assert len(peaks) == 1
    assert 50e6 < peaks.pop() < 4e9


def test_the_fresh_process_answers_both_tasks_with_and_without_a_policy(
    write_model, write_policy, tmp_path, capsys, monkeypatch
):
    batches = {
        "xnli": [[{"premise": "Anna", "hypothesis": "in Rome", "label": 1}]],
        "wikiann": [[{"tokens": ["Anna", "lives"], "tags": [1, 0]}, {"tokens": ["no"], "tags": [0]}]],
    }
    for task, given in batches.items():
        for exits, policy in ((None, None), ([1, 3], write_policy(task, (1, 3), 0.5))):
            model = write_model(f"{task}-{exits}", task, exits)
            work = {
                "task": task,
                "model": str(model),
                "policy": policy and str(policy),
                "max_tokens": 24,
                "batches": given,
            }
            (tmp_path / "work.json").write_text(json.dumps(work))
            monkeypatch.setattr(sys, "argv", ["fresh_process", str(tmp_path / "work.json")])
            fresh_process.main()
            assert json.loads(capsys.readouterr().out)["peak_bytes"] > 50e6
