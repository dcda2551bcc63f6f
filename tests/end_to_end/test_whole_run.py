"""A whole run makes what it says; killed with SIGKILL, the same command goes on and ends with the same numbers.

In one file, so that one process makes the whole run for both.
"""

import csv
import fcntl
import json
import math
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

# Whole runs: beside other work each takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

COLUMNS = (
    "model,task,language,runtime,precision,exits,seed,trained_on,num_examples,metric,score,accuracy,f1,mean_exit_layer,"
    "gflops,gmacs_linear,latency_ms_b1,latency_ms_b32,timed_gflops,peak_bytes,disk_bytes"
)
MODELS = {"teacher", "student-uniform", "student-uniform-exits"}
LANGUAGES = {"xnli": {"en", "ru", "hi", "tr", "sw", "ur"}, "wikiann": {"en", "sw"}}
# For each task: teacher and student (learn, export, quality), exits (learn, calibrate, two exports, quality), costs.
STAGES = 5 + 1 + 2 + 2 * (2 * 3 + 5 + 1) + 1
FORMS = [("engine", "False"), ("pytorch", "False")]
CASES = [(model, *form) for model in sorted(MODELS) for form in FORMS] + [("student-uniform-exits", "engine", "True")]

MEASURED = {"latency_ms_b1", "latency_ms_b32", "peak_bytes"}
NAME = "student-uniform-wikiann-0"
# Every kind of stage, in order, with the call of its progress at which it is killed, and what lies there then.
KILLS = [
    ("sample", 3, ".sample.halfling/partial/cc100/en.txt.xz"),
    ("corpus", 9, ".corpus.halfling/partial/work"),
    ("tokenizer", 2, ".tokenizer.halfling/work"),
    ("pack", 4, ".packed.halfling/partial/chunk-1"),
    ("teacher", 30, ".teacher.halfling/partial/checkpoints/checkpoint-25/complete"),
    ("masked-lm/teacher", 1, "masked-lm/.teacher.halfling/work"),
    ("distill/uniform", 30, "distill/.uniform.halfling/partial/checkpoints/checkpoint-25/complete"),
    (f"finetune/{NAME}", 30, f"finetune/.{NAME}.halfling/partial/checkpoints/checkpoint-25/complete"),
    (f"export/{NAME}/int8", 1, f"export/{NAME}/.int8.halfling/work"),
    (f"quality/{NAME}", 3, f"quality/.{NAME}.halfling/work"),
    # Twelve batches are read once before the first step.
    (f"exits/{NAME}", 12 + 30, f"exits/.{NAME}.halfling/partial/checkpoints/checkpoint-25/complete"),
    (f"calibrate/{NAME}", 2, f"calibrate/.{NAME}.halfling/work"),
    ("costs/wikiann", 2, "costs/.wikiann.halfling/work"),
    ("report", 3, ".report.halfling/partial/results.csv"),
]


def test_one_command_makes_the_whole_report(whole_run):
    assert whole_run.ended.status == 0, whole_run.ended.err
    # On a slow machine a stage says after a minute how far it is.
    lines = [line for line in whole_run.ended.err.splitlines() if not re.search(r" of [\d,]+ in \d+ s", line)]
    assert len(lines) == STAGES
    assert all(" done " in line for line in lines)
    assert whole_run.ended.out.rstrip().endswith(f"The page: {whole_run.folder / 'report/index.html'}")
    assert not [*whole_run.folder.rglob("*.halfling")]


def policy_of(run: Path, task: str) -> dict:
    file = run / f"calibrate/student-uniform-{task}-0/exit_policy.json"
    return json.loads(file.read_text())["policy"]


def test_results_hold_every_model_task_and_language_in_the_agreed_columns(whole_run):
    text = (whole_run.folder / "report/results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(text.splitlines()))
    cases = [(row["task"], row["language"], row["model"], row["runtime"], row["exits"]) for row in rows]
    assert len(cases) == len(set(cases))
    expected = {(task, code, *case) for task, codes in LANGUAGES.items() for code in codes for case in CASES}
    # So little training may teach too little: where no exit is worth it, exits have no row.
    worth = {task for task in LANGUAGES if any(policy_of(whole_run.folder, task)["thresholds"])}
    assert set(cases) == {(task, *case) for task, *case in expected if task in worth or case[-1] == "False"}
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


def test_without_a_report_the_scores_are_what_is_printed(whole_run, halfling):
    command = ("run", whole_run.recipe, "--runs", whole_run.folder.parent, "report=null")
    rows = json.loads(halfling(*command, "--json").out)
    assert len(rows) == sum(
        len(file.read_text().splitlines()) for file in whole_run.folder.glob("quality/*/quality.jsonl")
    )
    assert {"model", "language", "score"} <= {*rows[0]}
    assert halfling(*command).out == f"The scores: {whole_run.folder / 'quality'}\n"


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
            ["quality", "OUT", "languages=[en,sw]"]
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


def digests(folder):
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text())["digest"]
        for path in folder.rglob("manifest.json")
        if path.parent.parent.name != "costs" and path.parent.name != "report"
    }


def numbers(folder):
    with (folder / "report/results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "wikiann"]
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def test_killed_in_every_kind_of_stage_the_same_command_ends_with_the_same_numbers(
    whole_run, write_recipe, halfling, tmp_path
):
    command = ("run", write_recipe("wikiann"), "--runs", tmp_path)
    for stage, call, left_behind in KILLS:
        ended = halfling(*command, stop=[stage, call, signal.SIGKILL])
        assert ended.status == -signal.SIGKILL, (stage, ended.err)
        assert (tmp_path / "tiny" / left_behind).exists(), stage
        made = left_behind.partition(".halfling")[0].rpartition(".")
        assert not (tmp_path / "tiny" / "".join(made[::2])).exists(), stage
    ended = halfling(*command)
    assert ended.status == 0, ended.err
    made = digests(tmp_path / "tiny")
    assert made == {stage: digest for stage, digest in digests(whole_run.folder).items() if stage in made}
    assert len(made) == 8 + 2 * 3 + 5  # exports too
    assert numbers(tmp_path / "tiny") == numbers(whole_run.folder)
    assert not [*tmp_path.rglob("*.halfling")]


def test_killed_at_random_again_and_again_every_stage_ends_the_same(whole_run, write_recipe, halfling, tmp_path):
    command = ("run", write_recipe("wikiann"), "--runs", tmp_path)
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    for _ in range(12):
        process = halfling.start(*command, stop=["costs/wikiann", 1, signal.SIGKILL])
        time.sleep(chance.uniform(0.2, 1.2))
        os.kill(process, signal.SIGKILL)
        assert halfling.wait().status == -signal.SIGKILL
    # Costs are measured, so never twice the same: all that goes before them.
    ended = halfling(*command, stop=["costs/wikiann", 1, signal.SIGKILL])
    assert ended.status == -signal.SIGKILL, ended.err
    made = digests(tmp_path / "tiny")
    assert made == {stage: digest for stage, digest in digests(whole_run.folder).items() if stage in made}, seed
    assert len(made) == 8 + 2 * 3 + 5  # exports too


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(whole_run, write_recipe, halfling, tmp_path):
    command = ("run", write_recipe("wikiann"), "--runs", tmp_path)
    ended = halfling(*command, stop=["teacher", 30, signal.SIGINT])
    assert ended.status == 130
    assert ended.err.splitlines()[-1] == "error: interrupted: the same command goes on from what is finished"
    assert "Traceback" not in ended.err
    assert not (tmp_path / "tiny/teacher").exists()
    halfling(*command, stop=["distill/uniform", 1, signal.SIGKILL])
    assert digests(tmp_path / "tiny")["teacher"] == digests(whole_run.folder)["teacher"]


def test_two_commands_at_one_run_do_not_meet(whole_run, write_recipe, halfling, tmp_path):
    (tmp_path / "tiny/.sample.halfling").mkdir(parents=True)
    with (tmp_path / "tiny/.sample.halfling/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = halfling("run", write_recipe("wikiann"), "--runs", tmp_path)
    assert ended.status == 1
    assert (
        ended.err
        == f"error: {tmp_path / 'tiny/sample'}: another halfling is making this folder: wait for it, or stop it\n"
    )
