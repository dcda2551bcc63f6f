"""The command line, called within this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from halfling.cli import main


@dataclass(frozen=True)
class Said:
    """What a command line ended with: its status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def halfling(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """A function that calls `halfling` with some words."""

    def call(*argv: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["halfling", *map(str, argv)])
        capsys.readouterr()
        status = 0
        try:
            main.main()
        except SystemExit as ended:
            status = ended.code or 0
        return Said(status, *capsys.readouterr())

    return call
