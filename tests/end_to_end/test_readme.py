"""The README's commands and code do what it says, run in a folder where `recipes/demo.yaml` is the tiny recipe."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in fenced("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(write_recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "here"
    # A dry run looks whether the data of `recipes/real.yaml` is there.
    (folder.parent / "shared/data/cc100-mini").mkdir(parents=True)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (folder / "tests").mkdir()
    (folder / "tests/data").symlink_to(ROOT / "tests/data")
    # One task: `test_whole_run.py` runs a recipe with both.
    tiny = yaml.safe_load(write_recipe("wikiann").read_text(encoding="utf-8"))
    tiny |= {"name": "demo"}
    (folder / "recipes" / "demo.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False), encoding="utf-8")
    data = folder.parent / "shared/data"
    for name in ("xnli", "panx"):
        (data / name).mkdir()
        for split in ("train-en", *(f"dev-{code}" for code in ("en", "ru", "hi", "tr", "sw", "ur"))):
            (data / name / f"{split}.tsv.xz").touch()
    (data / "cc100-mini/en.txt").write_text("A text.\n", encoding="utf-8")
    return folder


def test_the_readme_has_commands_of_both_kinds():
    assert {command.split()[0] for command in COMMANDS} == {"make", "halfling", "."}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_each_target_of_make_is_there(command):
    # Not run to the end: `make test` is what runs this test, and `make demo` is the recipe that is run below.
    done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_works_in_its_order(halfling, workplace):
    for command in COMMANDS:
        # The page trains until the labels are learned; here a command is to work.
        name, *words = shlex.split(re.sub(r"--epochs \d+", "--epochs 1", command))
        if name == "halfling":
            ended = halfling(*words, cwd=workplace)
            assert ended.status == 0, f"{command}: {ended.err}"
            assert ended.out.strip(), command


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(0, r"\(.*\) \d\n"), (1, r"tensor\(\[\d, \d\]\) tensor\(")])
def test_the_python_examples_work(number, said, workplace):
    code = fenced("python")[number]
    done = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(said, done.stdout), done.stdout


def test_the_table_of_arithmetic_is_what_the_command_prints(halfling):
    (command,) = [command for command in COMMANDS if command.startswith("halfling flops")]
    (shown,) = [block for block in fenced("text") if "gmacs_linear" in block]
    printed = halfling(*command.split()[1:]).out
    assert [line.split() for line in printed.splitlines()] == [line.split() for line in shown.splitlines()]


def test_the_plan_of_the_corpus_is_what_the_command_prints(halfling, workplace):
    (command,) = [command for command in COMMANDS if command.startswith("halfling corpus plan")]
    (shown,) = [block for block in fenced("text") if "quota bytes" in block]
    printed = halfling(*command.split()[1:], cwd=workplace).out.splitlines()
    assert [line for line in printed if line in shown] == [line for line in shown.splitlines() if line != "..."]
