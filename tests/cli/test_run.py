import json
import re
from pathlib import Path

import pytest

from halfling.languages import SETS

COLUMNS = ["stage", "shape", "tokens", "steps", "GiB a device", "device-hours", "GB on disk", "state"]
DEV = [f"dev-{code}" for code in ("en", "ru", "hi", "tr", "sw", "ur")]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.fixture
def data(tmp_path):
    """A data folder, as overrides of a recipe."""
    (tmp_path / "data/cc100").mkdir(parents=True)
    for code in SETS["xlmr-100"]:
        (tmp_path / f"data/cc100/{code}.txt").write_text("A text.\n", encoding="utf-8")
    for folder, codes in (("xnli", ("train-en", *DEV)), ("panx", ("train-en", *DEV))):
        (tmp_path / "data" / folder).mkdir()
        for code in codes:
            (tmp_path / "data" / folder / f"{code}.tsv.xz").touch()
    return [f"data={tmp_path}/data", f"text={tmp_path}/data/cc100"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_dry_runs_and_writes_nothing(recipe, data, halfling, tmp_path):
    said = halfling("run", recipe, *data, "--dry-run", "--runs", tmp_path / "runs")
    assert (said.status, said.err) == (0, "")
    head, *lines = said.out.splitlines()
    assert re.split("  +", head.strip()) == COLUMNS
    listed = [line for line in lines if re.match(r" *\d+  ", line)]
    assert [int(line.split()[0]) for line in listed] == list(range(1, len(listed) + 1))
    number, last, *rest = listed[-1].split()
    assert (int(number), rest) == (len(listed), [*["-"] * 6, "to", "do"])
    assert last.split("/")[0] == ("quality" if recipe.stem == "study" else "report")
    assert lines[-1] == f"{tmp_path}/runs/{recipe.stem}: {len(listed)} to do"
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_is_done_and_changed(halfling, tmp_path):
    demo = RECIPES[0].with_name("demo.yaml")
    run = ("run", demo, "--dry-run", "--runs", tmp_path, "sample.lines=30", "sample.dev_sentences=20")
    small = ["lines=30", "dev_sentences=20", "train_sentences=20"]
    assert halfling("sample", tmp_path / "demo/sample", *small).status == 0

    def states(*more: str) -> dict[str, str]:
        lines = [line for line in halfling(*run, *more).out.splitlines() if re.match(r" *\d+  ", line)]
        return {line.split()[1]: line.split(maxsplit=8)[-1] for line in lines}

    found = states("sample.train_sentences=20")
    assert (found["sample"], found["corpus"], found["tokenizer"]) == ("done", "to do", "to do")
    assert states("sample.train_sentences=21")["sample"] == "changed"


def test_a_dry_run_without_its_data_fails_and_names_the_folder(halfling, tmp_path):
    recipe = RECIPES[0].with_name("real.yaml")
    said = halfling("run", recipe, f"data={tmp_path}/nowhere", "--dry-run", "--runs", tmp_path)
    assert said.status == 1
    missing = f"missing source at {tmp_path}/nowhere/cc100-mini"
    assert said.out.splitlines()[1].split(maxsplit=8) == ["1", "corpus", *["-"] * 6, missing]
    assert said.err == (
        f"error: corpus: missing source at {tmp_path}/nowhere/cc100-mini: mend the path, or make it first\n"
    )


def test_of_several_processes_one_says_what_a_run_takes(halfling, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = ("run", RECIPES[0].with_name("demo.yaml"), "--dry-run", "--runs", tmp_path)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        said = halfling(*run)
        assert (said.status, said.err, bool(said.out)) == (0, "", rank == "0")


def test_a_dry_runs_json_holds_the_resolved_settings(halfling, tmp_path):
    recipe = RECIPES[0].with_name("demo.yaml")
    said = halfling("run", recipe, "teacher.epochs=2", "seed=9", "--dry-run", "--json", "--runs", tmp_path)
    stages = {stage["stage"]: stage for stage in json.loads(said.out)}
    assert stages["teacher"]["settings"]["epochs"] == 2
    assert stages["corpus"]["settings"]["seed"] == 9
    assert stages["teacher"]["state"] == "to do"
    assert stages["sample"]["out"] == str(tmp_path / "demo/sample")
    assert stages["finetune/teacher-xnli-9"]["estimate"]["tokens"] == 2 * 640 * 64, "at most: the sample is not there"


def test_a_dry_run_of_the_thesis_says_what_it_takes(data, halfling, tmp_path):
    run = ("run", RECIPES[0].with_name("thesis.yaml"), *data, "text=https://data.statmt.org/cc-100/", "--dry-run")
    said = halfling(*run, "--runs", tmp_path, "estimate.devices=4").out
    cells = {line.split()[1]: line.split()[2:8] for line in said.splitlines() if re.match(r" *\d+  ", line)}
    shape, tokens, steps, memory, hours, disk = cells["distill/uniform"]
    # A step reads 16 x 4 blocks of 512.
    assert int(tokens.replace(",", "")) == int(steps.replace(",", "")) * 32_768
    # 278 million weights of 4 bytes, after three epochs.
    assert (shape, disk) == ("12x768", "3.34")
    # 4 hours of an H100 a thousand million tokens, as docs/benchmarks.md measured 73,792 a second.
    assert float(hours) == pytest.approx(int(tokens.replace(",", "")) / 73_792 / 3600, rel=0.06)
    assert float(memory) == pytest.approx(13.5, abs=0.2)
    all_hours = float(next(line for line in said.splitlines() if "not done, in all" in line).split()[-2])
    assert all_hours == pytest.approx(4 * float(hours), rel=0.01)
    assert "88 stages train" in said
    assert "; hours without 84 of them;" in said, "the labelled data are empty files here"
    assert f"on 4 devices {hours} hours" in said
    assert "device-hours: 10.5% of the 989 TFLOP/s that h100's maker names, the share assumed: 103.8 TFLOP/s" in said
