"""The command line, called within this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


@pytest.fixture
def error(halfling: Callable[..., Said], tmp_path: Path) -> Callable[..., str]:
    """A function that calls `halfling`, checks that it fails with one line and writes nothing, and returns the line."""

    def there() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in tmp_path.rglob("*")}

    def call(*argv: object, goes_on: bool = False) -> str:
        before = there()
        said = halfling(*argv)
        assert said.status == 1, said
        assert len(said.err.splitlines()) == 1, said.err
        assert said.out == ""
        # Long work that a later try goes on from lies in a hidden folder.
        after = {path: time for path, time in there().items() if not goes_on or ".out.halfling" not in path.parts}
        assert after == before
        return said.err.removeprefix("error: ").strip()

    return call
