import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The package index knows another project by the bare name.
FOREIGN = re.compile(
    r"(?:pip3?|pipx|uv(?: tool| pip)?) +(?:install|add)\b(?:(?!halfling)[^\n;&|])*halfling(?!-nlp)"
    r"|\bhalfling\\?\[[a-z*{]"
)


@pytest.mark.parametrize(
    "advice",
    ["pip install {}", "pip install -U '{}'", "uv add {}", "install {}[onnx]", r"match='{}\[train\]'"],
)
def test_only_the_distribution_s_name_is_good_advice(advice: str) -> None:
    assert FOREIGN.search(advice.format("halfling"))
    assert not FOREIGN.search(advice.format("halfling-nlp"))


def test_no_text_advises_another_project_s_installation() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    texts = {
        path: path.read_bytes().decode(errors="ignore")
        for path in paths
        if path.suffix != ".safetensors" and path.is_file()
    }
    assert len(texts) > 100
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}" for path, text in texts.items() for match in FOREIGN.finditer(text)
    ]
    assert found == []


def test_the_distribution_is_halfling_nlp_and_the_command_halfling() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["name"], {*project["scripts"]}) == ("halfling-nlp", {"halfling"})


def test_each_runtime_s_extra_is_one_of_the_distribution_s() -> None:
    from halfling.engine.backends import EXTRAS

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {*EXTRAS.values()} <= {*project["optional-dependencies"]}
