import csv
import json
import math
import re
from pathlib import Path

import pytest

# Whole runs: beside other work each takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

COLUMNS = (
    "model,task,language,runtime,precision,exits,seed,trained_on,num_examples,metric,score,accuracy,f1,mean_exit_layer,"
    "gflops,gmacs_linear,latency_ms_b1,latency_ms_b32,timed_gflops,peak_bytes,disk_bytes"
)
MODELS = {"teacher", "student-uniform", "student-uniform-exits"}
LANGUAGES = {"en", "ru", "hi", "tr", "sw", "ur"}
# For each task: teacher and student (learn, export, quality), exits (learn, calibrate, two exports, quality), costs.
STAGES = 5 + 1 + 2 + 2 * (2 * 3 + 5 + 1) + 1
FORMS = [("engine", "False"), ("pytorch", "False")]
CASES = [(model, *form) for model in sorted(MODELS) for form in FORMS] + [("student-uniform-exits", "engine", "True")]


def test_one_command_makes_the_whole_report(whole_run):
    assert whole_run.ended.status == 0, whole_run.ended.err
    lines = whole_run.ended.err.splitlines()
    assert len(lines) == STAGES
    assert all(" done " in line for line in lines)
    assert whole_run.ended.out.rstrip().endswith(f"The page: {whole_run.folder / 'report/index.html'}")
    assert not [*whole_run.folder.rglob("*.halfling")]


def test_results_hold_every_model_task_and_language_in_the_agreed_columns(whole_run):
    text = (whole_run.folder / "report/results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(text.splitlines()))
    cases = [(row["task"], row["language"], row["model"], row["runtime"], row["exits"]) for row in rows]
    assert len(cases) == len(set(cases))
    assert set(cases) == {(t, code, *case) for t in ("xnli", "wikiann") for code in LANGUAGES for case in CASES}
    for row in rows:
        assert 0 <= float(row["accuracy"]) <= 1
        assert 1 <= float(row["mean_exit_layer"]) <= 2
        assert min(float(row["gflops"]), float(row["latency_ms_b1"]), float(row["latency_ms_b32"])) > 0
        assert int(row["peak_bytes"]) > (300e6 if row["runtime"] == "pytorch" else 30e6)
    as_lines = [json.loads(line) for line in (whole_run.folder / "report/results.jsonl").read_text().splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in as_lines] == rows


def test_the_report_is_whole_and_the_page_loads_nothing_from_outside(whole_run):
    report = whole_run.folder / "report"
    names = {path.name for path in report.iterdir()}
    assert {"results.csv", "results.jsonl", "table.md", "index.html", "manifest.json"} <= names
    assert {"quality-xnli.svg", "quality-wikiann.svg"} <= names
    page = (report / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?https?:""", page)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", page)
    assert "viewport" in page
    assert page.count("<svg") >= 2
    table = (report / "table.md").read_text()
    row = json.loads((report / "results.jsonl").read_text().splitlines()[0])
    assert all(f"| {model} |" in table for model in MODELS)
    assert f"{100 * row['score']:.1f}" in table


def test_a_second_run_skips_everything_and_its_json_is_the_table(whole_run, halfling):
    before = {path: path.stat().st_mtime_ns for path in whole_run.folder.rglob("*") if path.is_file()}
    ended = halfling("run", whole_run.recipe, "--runs", whole_run.folder.parent, "--json")
    assert ended.status == 0
    assert [line.split()[-3:] for line in ended.err.splitlines()] == [["as", "it", "was"]] * STAGES
    assert {path: path.stat().st_mtime_ns for path in whole_run.folder.rglob("*") if path.is_file()} == before
    lines = (whole_run.folder / "report/results.jsonl").read_text().splitlines()
    assert json.loads(ended.out) == [json.loads(line) for line in lines]


def test_the_students_and_exits_learn_something(whole_run):
    """A chain whose models answer at random would pass all other tests here."""

    def losses(stage):
        counts = json.loads((whole_run.folder / stage / "manifest.json").read_text())["counts"]
        return [entry["loss"] for entry in counts["curve"]]

    assert losses("teacher")[-1] < math.log(700)  # of guessing among all pieces
    for stage in ("finetune/teacher-wikiann-0", "exits/student-uniform-wikiann-0"):
        assert losses(stage)[-1] < losses(stage)[0], stage


def commands(run: Path) -> list[tuple[str, list[object]]]:
    """Return a stage of every kind but costs, and the command line of its own that makes the same, but for OUT."""
    sample, corpus, words, packed, teacher = (
        run / name for name in ("sample", "corpus", "tokenizer", "packed", "teacher")
    )
    shape = "{num_layers: 2, width: 16, num_heads: 2, max_tokens: 48}"
    trained = ["epochs=1", "batch_size=8", "tokens_per_epoch=12800", "save_steps=25", "learning_rate=0.01"]
    learned = ["epochs=5", "batch_size=8", "learning_rate=0.003", "max_tokens=48", "save_steps=25"]
    name = "student-uniform-wikiann-0"
    student, exits, policy = run / "finetune" / name, run / "exits" / name, run / "calibrate" / name
    early = run / "export/student-uniform-exits-wikiann-0"
    forms = [(f"student-uniform-exits/{form}", early / form) for form in ("int8", "int8-exits")]
    return [
        ("sample", ["sample", "OUT", "lines=120", "train_sentences=96", "dev_sentences=48"]),
        ("corpus", ["corpus", "build", sample / "cc100", "OUT"]),
        ("tokenizer", ["tokenizer", corpus, "OUT", "vocab_size=700", "max_tokens=48", "num_threads=1"]),
        ("packed", ["pack", corpus, words, "OUT", "block_tokens=32"]),
        ("teacher", ["teacher", packed, words, "OUT", f"shape={shape}", *trained]),
        ("distill/uniform", ["distill", teacher, packed, "OUT", f"student={shape}", "save_epochs=[1]", *trained]),
        (
            f"finetune/{name}",
            ["finetune", run / "distill/uniform/epoch-1", "OUT", "--task", "wikiann", "--data", sample, *learned],
        ),
        (f"exits/{name}", ["exits", student, "OUT", *learned]),
        (f"calibrate/{name}", ["calibrate", exits, "OUT", "max_tokens=48", "timing=none"]),
        ("export/student-uniform-exits-wikiann-0/int8-exits", ["export", exits, "OUT", "--policy", policy]),
        (
            "quality/student-uniform-exits-wikiann-0",
            ["quality", "OUT"]
            + [
                word
                for form, folder in [*forms, ("student-uniform-exits/pytorch", exits)]
                for word in ("--model", f"{form}={folder}")
            ],
        ),
        ("masked-lm/teacher", ["masked-lm", teacher, packed, "OUT", "model=teacher", "chunk=5"]),
        (
            "report",
            ["report", "OUT"]
            + [
                word
                for kind in ("quality", "calibrate", "costs", "masked-lm")
                for folder in sorted((run / kind).iterdir())
                for word in ("--from", folder)
            ],
        ),
    ]


@pytest.mark.parametrize("number", range(13))
def test_each_stages_own_command_makes_what_the_run_made(number, whole_run, halfling, tmp_path):
    stage, argv = commands(whole_run.folder)[number]
    ended = halfling(*[tmp_path / "out" if word == "OUT" else word for word in argv], "--json")
    assert ended.status == 0, ended.err
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    in_run = json.loads((whole_run.folder / stage / "manifest.json").read_text())
    assert json.loads(ended.out) == manifest
    assert manifest["digest"] == in_run["digest"]
    if stage != "report":  # whose inputs a run may name in another order
        assert manifest["fingerprint"] == in_run["fingerprint"]


def test_the_runs_corpus_is_proved_whole_and_a_harmed_one_is_not(whole_run, halfling, tmp_path):
    ended = halfling("corpus", "verify", whole_run.folder / "corpus", "--packed", whole_run.folder / "packed", "--json")
    assert (ended.status, json.loads(ended.out)) == (0, {"faults": []})
    (tmp_path / "corpus").mkdir()
    ended = halfling("corpus", "verify", tmp_path / "corpus")
    assert ended.status == 1
    assert ended.err.startswith("fault: ")
