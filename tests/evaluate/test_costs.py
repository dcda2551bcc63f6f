import json
import subprocess
import sys
from pathlib import Path

import pytest

from halfling.evaluate import costs, fresh_process
from halfling.evaluate.costs import CostSettings, EvaluateSettings, evaluate, measure_costs
from halfling.evaluate.runtime import Engine, Transformers
from halfling.results import Cost, Quality
from halfling.tasks.examples import TaggedExample, TextExample

SETTINGS = CostSettings(languages=("en", "sw"), rounds=2, warmup=0)


def rows(out) -> list[Cost]:
    return [Cost.model_validate_json(line) for line in (out / "costs.jsonl").read_text().splitlines()]


@pytest.fixture
def models(write_model, serve):
    model = write_model("early", "pairs", [1, 3])
    return {"any/torch": model, "any/exits": serve(model, 0.9)}


@pytest.fixture
def constant_peaks(monkeypatch):
    """Memory is a matter of its own: a fresh process takes seconds to begin."""

    def peak_bytes(command):
        return 1000 + len(json.loads(Path(command[-1]).read_text())["folder"])

    monkeypatch.setattr(costs, "peak_bytes", peak_bytes)


@pytest.mark.usefixtures("constant_peaks")
def test_there_is_a_row_with_its_rounds_for_each_form_and_language(models, tmp_path, monkeypatch):
    def interleaved(calls, *, rounds, warmup):
        assert (rounds, warmup) == (2, 0)
        return {name: [0.24, 0.36] for name in calls}

    monkeypatch.setattr(costs, "interleaved", interleaved)
    told = []
    (tmp_path / "out").mkdir()
    counts = measure_costs(
        settings=SETTINGS, models=models, out=tmp_path / "out", progress=lambda *step: told.append(step[:2])
    )
    found = rows(tmp_path / "out")
    forms = [("pytorch", "float32", False), ("engine", "float32", True)]
    assert [(row.language, *row.form[1:]) for row in found] == [
        (language, *form) for language in ("en", "sw") for form in forms
    ]
    assert {(row.model, row.task) for row in found} == {("any", "pairs")}
    # The first 32 English pairs and twelve Swahili ones, one by one, and all of them at once.
    for row in found:
        number = 32 if row.language == "en" else 12
        assert row.rounds_ms_b1 == pytest.approx((240 / number, 360 / number))
        assert row.rounds_ms_b32 == pytest.approx((240, 360))
        assert row.latency_ms_b1 == pytest.approx(300 / number)
    for name, folder in models.items():
        own = [row for row in found if row.exits == (name == "any/exits")]
        assert {row.peak_bytes for row in own} == {1000 + len(str(folder))}
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "task-sources.json"]
        size = sum(path.stat().st_size for path in files)
        assert {row.disk_bytes for row in own} == {size}
    assert told == [(done, 4) for done in range(5)]
    assert counts == {"largest_spread": 0.2}


@pytest.mark.usefixtures("constant_peaks")
def test_models_take_turns(models, tmp_path, monkeypatch):
    called = []
    for kind in (Engine, Transformers):
        answer = kind.answer

        def spy(self, examples, batch_size, language=None, answer=answer):
            called.append((self.name, batch_size, len(examples)))
            return answer(self, examples, batch_size, language)

        monkeypatch.setattr(kind, "answer", spy)
    settings = CostSettings(languages=("sw",), rounds=2, warmup=0)
    measure_costs(settings=settings, models=models, out=tmp_path)
    alone = [name for name, batch_size, _ in called if batch_size == 1]
    # Twelve texts each; every second round runs backwards.
    assert alone == ["pytorch"] * 12 + ["engine"] * 24 + ["pytorch"] * 12
    batched = [(name, number) for name, batch_size, number in called if batch_size == costs.BATCH]
    assert [name for name, _ in batched[:4]] == ["pytorch", "engine", "engine", "pytorch"]
    assert {number for _, number in batched} == {12}
    assert [name for name, _ in batched[4:]] == ["pytorch", "engine"]  # once more, untimed, to count the arithmetic


@pytest.mark.usefixtures("constant_peaks")
def test_quality_and_costs_can_be_had_in_one_go(models, tmp_path):
    (tmp_path / "out").mkdir()
    settings = EvaluateSettings(languages=("sw",), rounds=2, warmup=0, seed=3)
    counts = evaluate(settings=settings, models=models, out=tmp_path / "out")
    assert {*counts} == {"any pytorch float32, sw", "any engine float32 exits, sw", "largest_spread"}
    found = [Quality.model_validate_json(line) for line in (tmp_path / "out/quality.jsonl").read_text().splitlines()]
    costs_found = rows(tmp_path / "out")
    assert [(row.form, row.language) for row in found] == [(row.form, row.language) for row in costs_found]
    # The same texts: as much arithmetic.
    assert [row.gflops for row in found] == pytest.approx([row.timed_gflops for row in costs_found])


@pytest.mark.slow
def test_the_peak_is_that_of_a_fresh_process_which_answers(models, tmp_path):
    (tmp_path / "out").mkdir()
    measure_costs(settings=SETTINGS, models=models, out=tmp_path / "out")
    torch, engine = (
        {row.peak_bytes for row in rows(tmp_path / "out") if row.exits == exits} for exits in (False, True)
    )
    assert len(torch) == len(engine) == 1
    assert 50e6 < engine.pop() < torch.pop() < 4e9


BATCHES = {
    "pairs": [[TextExample("Anna", "in Rome", "neutral")], [TextExample("no", "yes", "neutral")] * 2],
    "moods": [[TextExample("Anna", None, "glad")]],
    "names": [[TaggedExample(("Anna", "lives"), ("B-PER", "O")), TaggedExample(("no",), ("O",))]],
}


@pytest.fixture
def write_work(tmp_path):
    """A function that writes what a fresh process is to do."""

    def write(folder, batches):
        path = tmp_path / "work.json"
        path.write_text(json.dumps({"folder": str(folder), "batches": batches}))
        return path

    return write


@pytest.mark.parametrize("task", BATCHES)
def test_the_fresh_process_answers_every_kind_in_both_runtimes(
    task, write_model, serve, write_work, capsys, monkeypatch
):
    model = write_model("model", task, [1, 3])
    seen = []
    for kind in (Engine, Transformers):
        answer = kind.answer

        def spy(self, examples, batch_size, language=None, answer=answer):
            seen.append((self.name, self.exits, list(examples)))
            return answer(self, examples, batch_size, language)

        monkeypatch.setattr(kind, "answer", spy)
    for folder in (model, serve(model), serve(model, 0.5)):
        monkeypatch.setattr(sys, "argv", ["fresh_process", str(write_work(folder, BATCHES[task]))])
        fresh_process.main()
        assert json.loads(capsys.readouterr().out)["peak_bytes"] > 50e6
    runtimes = [("pytorch", False), ("engine", False), ("engine", True)]
    assert seen == [(*runtime, batch) for runtime in runtimes for batch in BATCHES[task]]


def test_the_fresh_process_of_the_engine_holds_no_torch(write_model, serve, write_work):
    code = """
import sys
from halfling.evaluate import fresh_process
fresh_process.main()
print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'datasets', 'pyarrow'}))
"""
    work = write_work(serve(write_model("model", "names", [1, 3]), 0.5), BATCHES["names"])
    path = str(Path(sys.modules["halfling"].__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, modules = done.stdout.splitlines()
    assert json.loads(peak)["peak_bytes"] > 0
    assert modules == "[]"
