"""What a stage says while it works, where there is no terminal."""

from pathlib import Path

import pytest

from halfling.cli import view
from halfling.records import Settings
from halfling.stage import Stage


@pytest.fixture
def progress():
    with view.LiveView(7) as shown:
        yield shown.start(Stage("distill/uniform", dict, Settings(), Path("out")))


def test_a_log_says_how_far_a_long_stage_is(progress, monkeypatch, capsys):
    monkeypatch.setattr(view, "SECONDS_BETWEEN_LINES", 0.0)
    progress(1200, 1950, "loss 0.123")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("[1/7] distill/uniform")
    assert "1,200 of 1,950" in line
    assert line.endswith("loss 0.123")


def test_a_log_has_a_line_a_minute_not_a_line_a_step(progress, capsys):
    for step in range(1950):
        progress(step, 1950, "loss 0.123")
    assert capsys.readouterr().err == ""
