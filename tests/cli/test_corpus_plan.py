from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


def test_a_recipes_corpus_is_planned_with_overrides(halfling):
    said = halfling("corpus", "plan", RECIPES / "thesis.yaml", "corpus.total_bytes=1GB", "--source", "https://host/cc")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["language", "quota", "bytes", "per", "chunk", "tokens", "download", "bytes"]
    assert [line.split()[0] for line in lines[1:4]] == ["en", "ru", "id"]
    quotas = [int(line.split()[1].replace(",", "")) for line in lines[1:101]]
    assert sum(quotas) == 10**9
    assert lines[101].split()[:3] == ["100", "languages", "1,000,000,000"]
    assert "of https://host/cc; tokens and downloads are estimates" in lines[102]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["total_bytes=27apples"], "'27apples' is not a number of bytes"),
        (["selektion=head"], "unknown key selektion: the nearest known is selection"),
        (["no.yaml"], "no.yaml: cannot be read"),
        (["languages=swa", "total_bytes=1GB"], "unknown 'swa'"),
        (["--source", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line(halfling, words, message):
    said = halfling("corpus", "plan", *words)
    assert (said.status, said.out) == (1, "")
    assert message in said.err
    assert said.err.count("\n") == 1
