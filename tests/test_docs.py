import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = [*sorted(ROOT.glob("docs/*.md")), ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_file_that_a_text_names_is_there(text: Path) -> None:
    named = re.findall(r"`((?:[\w-]+/)+[\w.-]+\.(?:md|py|yaml))`", text.read_text(encoding="utf-8"))
    missing = {name for name in named if not any((ROOT / base / name).exists() for base in (".", "src/halfling"))}
    assert not missing


def test_every_claim_on_security_names_a_test_that_is_there() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 25
    missing = [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text(encoding="utf-8")]
    assert not missing
    rows = re.findall(r"^\|(.+)\|$", text.split("## Read")[1], flags=re.M)
    claims = [row for row in rows if row.count("|") == 1 and "---" not in row and "claim" not in row]
    assert len(claims) > 25
    assert not [row for row in claims if "::" not in row]


def test_the_layers_that_contributing_shows_are_those_that_are_checked() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    layers = re.findall(r'"([^"]+)"', contract)
    shown = re.search(
        r"^    (cli > [^\n]+(?:\n +> [^\n]+)+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M
    )
    assert shown
    assert " > ".join(layers) == "__main__ > " + re.sub(r"\s+", " ", shown[1])


def test_the_tables_of_the_results_are_those_of_the_scores_beside_them() -> None:
    script, scores = ROOT / "benchmarks/results.py", ROOT / "docs/results/quality.jsonl"
    made = subprocess.run(
        [sys.executable, script, scores], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    rows = [line for line in made.stdout.splitlines() if line.startswith("|")]
    assert len(rows) > 40
    shown = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in shown if line.startswith("|")] == rows
