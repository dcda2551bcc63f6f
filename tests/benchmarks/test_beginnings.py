from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def test_what_a_linear_map_explains():
    import beginnings

    torch.manual_seed(0)
    own = torch.randn(400, 3).double()
    theirs = own @ torch.randn(3, 5).double() + 1
    halves = (own[:200], own[200:]), (theirs[:200], theirs[200:])
    assert beginnings.explained(*halves) == pytest.approx(1)
    noise = torch.randn(400, 5).double()
    assert beginnings.explained(halves[0], (noise[:200], noise[200:])) < 0.05


def test_text_of_one_use_is_not_that_of_another(packed):
    import beginnings

    first, second = beginnings.rows(packed, 100), beginnings.rows(packed, 100, 120)
    assert first["input_ids"].shape == second["input_ids"].shape == (5, 24)
    assert not torch.equal(first["input_ids"], second["input_ids"])
    assert (first["sequence_ids"] > 0).eq(first["input_ids"] != 1).all()


@pytest.mark.parametrize(("width", "start"), [(16, "layers"), (12, "subclone")])
def test_the_table(width, start, write_masked_lm, packed, tmp_path, monkeypatch, capsys):
    import beginnings

    teacher = write_masked_lm(tmp_path / "teacher", num_layers=4)
    monkeypatch.setattr(beginnings, "JUDGED_TOKENS", 96)
    monkeypatch.setattr(beginnings, "CALIBRATION_TOKENS", 24)
    words = f"{teacher} {packed} --width {width} --layers 2 --heads 2 --fit-tokens 260".split()
    monkeypatch.setattr("sys.argv", ["beginnings.py", *words])
    beginnings.main()
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "| beginning | seconds | 0 of 0 | 1 of 2 | 2 of 4 |"
    found = {line.split("|")[1].strip(): line for line in lines}
    assert list(found) == ["random", "embeddings", start, f"{start}, fitted on 260 tokens"]
    if start == "layers":
        assert found["layers"].split("|")[3].strip() == "1.000"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--layers 2 --heads 2 --width 12", r"error: .*chunk-1 holds fewer than \d+ tokens: give a larger corpus"),
        (
            "--layers 2 --heads 2 --width 32",
            r"error: start=subclone: expected a student's width of at most 16, came 32",
        ),
        ("--layers 2 --heads 2 --width 15", r"error: the student: .*15"),
        ("--fit-tokens 10 -5", r"error: --fit-tokens: give 1 or more"),
        ("", r"error: expected a student no deeper than its teacher, came 6 > 4"),
    ],
)
def test_what_does_not_fit_is_one_line(words, said, write_masked_lm, packed, tmp_path, monkeypatch, capsys):
    import beginnings

    teacher = write_masked_lm(tmp_path / "teacher", num_layers=4)
    monkeypatch.setattr("sys.argv", ["beginnings.py", str(teacher), str(packed), *words.split()])
    with pytest.raises(SystemExit, match=said) as error:
        beginnings.main()
    assert "\n" not in str(error.value)
    assert not capsys.readouterr().out


@pytest.fixture
def packed(tmp_path, write_packed, full_blocks):
    return write_packed(tmp_path / "packed", full_blocks(1, 32))
