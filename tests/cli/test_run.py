import json
from pathlib import Path

import pytest

from halfling.languages import SETS

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
    *lines, summary = [line for line in said.out.splitlines() if not line.startswith("set: ")]
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1].split() == [str(len(lines)), "report", "to", "do"]
    assert summary == f"{tmp_path}/runs/{recipe.stem}: {len(lines)} to do"
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_is_done_and_changed(halfling, tmp_path):
    demo = RECIPES[0].with_name("demo.yaml")
    run = ("run", demo, "--dry-run", "--runs", tmp_path, "sample.lines=30", "sample.dev_sentences=20")
    small = ["lines=30", "dev_sentences=20", "train_sentences=20"]
    assert halfling("sample", tmp_path / "demo/sample", *small).status == 0

    def states(*more: str) -> dict[str, str]:
        lines = [line for line in halfling(*run, *more).out.splitlines()[:-1] if not line.startswith("set: ")]
        return {name: state for _, name, state in (line.split(maxsplit=2) for line in lines)}

    found = states("sample.train_sentences=20")
    assert (found["sample"], found["corpus"], found["tokenizer"]) == ("done", "to do", "to do")
    assert states("sample.train_sentences=21")["sample"] == "changed"


def test_a_dry_run_without_its_data_fails_and_names_the_folder(halfling, tmp_path):
    recipe = RECIPES[0].with_name("real.yaml")
    said = halfling("run", recipe, f"data={tmp_path}/nowhere", "--dry-run", "--runs", tmp_path)
    assert said.status == 1
    assert said.out.splitlines()[0].split(maxsplit=2) == [
        "1",
        "corpus",
        f"missing source at {tmp_path}/nowhere/cc100-mini",
    ]
    assert said.err == (
        f"error: corpus: missing source at {tmp_path}/nowhere/cc100-mini: mend the path, or make it first\n"
    )


def test_a_dry_runs_json_holds_the_resolved_settings(halfling, tmp_path):
    recipe = RECIPES[0].with_name("demo.yaml")
    said = halfling("run", recipe, "teacher.epochs=2", "seed=9", "--dry-run", "--json", "--runs", tmp_path)
    stages = {stage["stage"]: stage for stage in json.loads(said.out)}
    assert stages["teacher"]["settings"]["epochs"] == 2
    assert stages["corpus"]["settings"]["seed"] == 9
    assert stages["teacher"]["state"] == "to do"
    assert stages["sample"]["out"] == str(tmp_path / "demo/sample")
