import json
from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_dry_runs_and_writes_nothing(recipe, halfling, tmp_path):
    said = halfling("run", recipe, "--dry-run", "--runs", tmp_path / "runs")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1].split() == [str(len(lines)), "report", str(tmp_path / "runs" / recipe.stem / "report")]
    assert not (tmp_path / "runs").exists()


def test_a_dry_runs_json_holds_the_resolved_settings(halfling, tmp_path):
    recipe = RECIPES[0].with_name("demo.yaml")
    said = halfling("run", recipe, "teacher.epochs=2", "seed=9", "--dry-run", "--json", "--runs", tmp_path)
    stages = {stage["stage"]: stage for stage in json.loads(said.out)}
    assert stages["teacher"]["settings"]["epochs"] == 2
    assert stages["corpus"]["settings"]["seed"] == 9
    assert stages["sample"]["out"] == str(tmp_path / "demo/sample")
