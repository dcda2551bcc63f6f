"""Tiny teachers, encoders, packed corpora and labelled data to train on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.models.shapes import Dimensions
from halfling.tasks.encode import encode
from halfling.tasks.examples import read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers, predict
from halfling.tasks.score import Score, score
from halfling.tasks.task import Task
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


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    """Pairs whose second text alone tells the label, and sentences where each name is always of one type."""
    answers = [("yes", "entailment"), ("maybe", "neutral"), ("no", "contradiction")]
    pairs = [f"{'ab' * (1 + n % 5)}\t{answers[n % 3][0]}\t{answers[n % 3][1]}\n" for n in range(60)]
    tagged = ["Anna B-PER\nlives O\nin O\nRome B-LOC\n\n", "Rome B-LOC\nlives O\n\n", "in O\nAnna B-PER\n\n"]
    made, folder = {}, tmp_path_factory.mktemp("tasks")
    for name, text in (
        ("pairs.tsv", "text\ttext_pair\tlabel\n" + "".join(pairs)),
        ("tags.conll", "".join(tagged) * 20),
    ):
        (folder / name).write_text(text)
        source = {"en": str(folder / name)}
        made[Path(name).stem] = Task(name=Path(name).stem, train=source, dev=source)
    return made


@pytest.fixture(scope="session")
def finetuned_once() -> dict[tuple[str, int], Path]:
    """Where each task's model lies that was fine-tuned for some epochs: read it, do not change it."""
    return {}


@pytest.fixture
def finetuned(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tasks: dict[str, Task],
    write_masked_lm: Callable[..., Path],
    finetuned_once: dict[tuple[str, int], Path],
) -> Callable[..., Path]:
    """A function that returns a copy of three layers fine-tuned on a task."""

    def make(task: str, epochs: int = 3) -> Path:
        if (task, epochs) not in finetuned_once:
            folder = tmp_path_factory.mktemp("finetuned")
            settings = FinetuneSettings(epochs=epochs, batch_size=10, learning_rate=3e-3, max_tokens=30)
            encoder = write_masked_lm(folder / "encoder", num_layers=3)
            (folder / "model").mkdir()
            finetune(settings=settings, encoder=encoder, task=tasks[task], out=folder / "model")
            finetuned_once[task, epochs] = folder / "model"
        return shutil.copytree(finetuned_once[task, epochs], tmp_path / "finetuned")

    return make


class Scored(NamedTuple):
    """What a trained model scores, and after which layers its inputs exited."""

    score: Score
    exits_taken: list[int]


@pytest.fixture
def scored() -> Callable[[Path], Scored]:
    """A function that scores a trained model on the dev split of its task."""

    def score_model(folder: Path) -> Scored:
        task = task_of(folder)
        examples = read_examples(task, "dev", task.languages[0])
        encoded = encode(examples, load_tokenizer(folder), 30)
        words = [len(one.words) for one in examples] if task.kind == "tagging" else None
        found = predict(load_classifier(folder), encoded, 16)
        return Scored(score(task, examples, answers(found.logits, encoded, task.labels, words)), found.exits_taken)

    return score_model


@pytest.fixture
def renumber() -> Callable[..., None]:
    """A function that renumbers a trained plain model's classes on disk, and may rename them."""

    def reorder(folder: Path, order: list[int], names: dict[str, str] | None = None) -> None:
        model = load_classifier(folder)
        layer = getattr(model.classifier, "out_proj", model.classifier)
        with torch.no_grad():
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
        old = [model.config.id2label[number] for number in order]
        labels = [(names or {}).get(label, label) for label in old]
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}
        model.save_pretrained(folder)

    return reorder
