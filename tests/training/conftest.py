"""Tiny teachers, encoders, packed corpora and labelled data to train on."""

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from halfling.models.shapes import Dimensions
from halfling.training.distill import DistillSettings
from halfling.training.finetune import FinetuneSettings, finetune


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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """XNLI where the hypothesis alone tells the label, and WikiANN where each name is always of one kind."""
    answers = [("yes", "entailment"), ("maybe", "neutral"), ("no", "contradiction")]
    pairs = [f"{'ab' * (1 + n % 5)}\t{answers[n % 3][0]}\t{answers[n % 3][1]}\n" for n in range(60)]
    tagged = ["Anna\tB-PER\nlives\tO\nin\tO\nRome\tB-LOC\n\n", "Rome\tB-LOC\nlives\tO\n\n", "in\tO\nAnna\tB-PER\n\n"]
    for name, text in (("xnli", "".join(pairs)), ("panx", "".join(tagged) * 20)):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "train-en.tsv.xz").write_bytes(lzma.compress(text.encode()))
    return tmp_path / "data"


@pytest.fixture
def finetuned(tmp_path: Path, data: Path, write_masked_lm: Callable[..., Path]) -> Callable[..., Path]:
    """A function that fine-tunes three layers on a task."""

    def make(task: str, epochs: int = 3) -> Path:
        encoder, out = write_masked_lm(tmp_path / "encoder", num_layers=3), tmp_path / "finetuned"
        out.mkdir()
        settings = FinetuneSettings(task=task, epochs=epochs, batch_size=10, learning_rate=3e-3, max_tokens=30)
        finetune(settings=settings, encoder=encoder, data=data, out=out)
        return out

    return make
