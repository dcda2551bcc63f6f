"""Killed with SIGKILL, the same command goes on and ends with the numbers of a run that nobody killed."""

import csv
import fcntl
import json
import os
import random
import signal
import time

import pytest

# Whole runs: beside other work each takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MEASURED = {"latency_ms_b1", "latency_ms_b32", "peak_bytes"}
NAME = "student-uniform-wikiann-0"
# Every kind of stage, in order, with the call of its progress at which it is killed, and what lies there then.
KILLS = [
    ("sample", 3, ".sample.halfling/partial/cc100/en.txt.xz"),
    ("corpus", 9, ".corpus.halfling/partial/work"),
    ("tokenizer", 2, ".tokenizer.halfling/work"),
    ("pack", 4, ".packed.halfling/partial/chunk-1"),
    ("teacher", 30, ".teacher.halfling/partial/checkpoints/checkpoint-25/complete"),
    ("distill/uniform", 30, "distill/.uniform.halfling/partial/checkpoints/checkpoint-25/complete"),
    ("masked-lm/teacher", 1, "masked-lm/.teacher.halfling/work"),
    (f"finetune/{NAME}", 30, f"finetune/.{NAME}.halfling/partial/checkpoints/checkpoint-25/complete"),
    (f"export/{NAME}/int8", 1, f"export/{NAME}/.int8.halfling/work"),
    (f"quality/{NAME}", 3, f"quality/.{NAME}.halfling/work"),
    (f"exits/{NAME}", 30, f"exits/.{NAME}.halfling/partial/checkpoints/checkpoint-25/complete"),
    (f"calibrate/{NAME}", 2, f"calibrate/.{NAME}.halfling/work"),
    ("costs/wikiann", 2, "costs/.wikiann.halfling/work"),
    ("report", 3, ".report.halfling/partial/results.csv"),
]


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
