"""A tiny teacher and a packed corpus to distil on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from halfling.distill.build import DistillSettings
from halfling.models.shapes import Dimensions


@pytest.fixture
def teacher(tmp_path: Path, write_masked_lm: Callable[..., Path]) -> Path:
    """Four layers of 16."""
    return write_masked_lm(tmp_path / "teacher", num_layers=4)


@pytest.fixture
def packed(tmp_path: Path, write_packed: Callable[..., Path], full_blocks: Callable) -> Path:
    """Five chunks of sixteen blocks of 24 tokens."""
    return write_packed(tmp_path / "packed", full_blocks(5, 16))


@pytest.fixture
def settings() -> Callable[..., DistillSettings]:
    """A function that returns settings of a student of two layers of 8, with changes."""

    def make(**changes: object) -> DistillSettings:
        student = Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64)
        return DistillSettings(**{"student": student, "batch_size": 8, "save_steps": 25, **changes})

    return make
