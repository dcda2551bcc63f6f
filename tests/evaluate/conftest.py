"""Models and data that evaluation is tried on."""

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import set_seed

from halfling.exits.policy import Calibration, ExitPolicy
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.shapes import Dimensions, config_for
from halfling.records import TaskName
from halfling.tasks import TASKS

LANGUAGES = ("en", "sw")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Dev splits of a few sentences in two languages, shorter in Swahili."""
    for language, words in (("en", ["Anna lives in Rome", "no", "maybe Anna"]), ("sw", ["in", "no", "yes"])):
        labels = ["entailment", "neutral", "contradiction"]
        pairs = [f"{words[n % 3]}\t{words[n * 2 % 3]}\t{labels[n % 3]}\n" for n in range(12)]
        tagged = ["".join(f"{word}\tO\n" for word in words[n % 3].split()) + "Rome\tB-LOC\n\n" for n in range(12)]
        for folder, text in (("xnli", "".join(pairs)), ("panx", "".join(tagged))):
            path = tmp_path / "data" / folder / f"dev-{language}.tsv.xz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lzma.compress(text.encode()))
    return tmp_path / "data"


@pytest.fixture
def write_model(tmp_path: Path, tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random model for a task: three layers, with exits after those that are named."""

    def write(name: str, task: TaskName, exits: list[int] | None = None) -> Path:
        set_seed(2)
        shape = Dimensions(num_layers=3, width=16, num_heads=2, max_tokens=40).with_vocabulary(len(tiny_tokenizer))
        config = config_for(shape)
        config.update({"num_labels": len(TASKS[task].labels), "initializer_range": 0.5})
        if exits is None:
            model = TASKS[task].model_class(config)
        else:
            model = EARLY_EXIT_MODELS[task](XLMRobertaEarlyExitConfig(**{**config.to_dict(), "exit_layers": exits}))
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_policy(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a calibration."""

    def write(task: TaskName, layers: tuple[int, ...], threshold: float) -> Path:
        folder = tmp_path / f"policy-{task}-{threshold}"
        folder.mkdir()
        policy = ExitPolicy.uniform(layers, threshold)
        Calibration(task=task, policy=policy, max_drop=1.0, curve=()).write(folder / "exit_policy.json")
        return folder

    return write
