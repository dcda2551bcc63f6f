"""Small early-exit models with random weights, exported once for all tests."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LABELS = {
    "sequence": ("entailment", "neutral", "contradiction"),
    "token": ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
}
LAYERS = (1, 2, 3)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer of XLM-R's kind, trained on the embedded sample's languages."""
    from halfling.models.pieces import as_xlm_roberta
    from halfling.sample.language import LANGUAGES, read_language
    from halfling.tokens.unigram import train_unigram

    texts = [text for language in map(read_language, LANGUAGES) for text in (*language.plain, *language.ner)]
    model = train_unigram(iter(texts * 2), vocab_size=800, character_coverage=0.9995, num_threads=1)
    return as_xlm_roberta(model, 32)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The task of each kind of model: its dev split is the embedded sample's sentences."""
    from halfling.sample.language import read_language
    from halfling.tasks.task import Task

    folder = tmp_path_factory.mktemp("labelled")
    sentences = [text.replace("{", "").replace("}", "") for text in read_language("en").plain]
    pairs = [f"{one}\t{two}\tneutral\n" for one, two in pairwise(sentences)]
    (folder / "pairs.tsv").write_text("text\ttext_pair\tlabel\n" + "".join(pairs), encoding="utf-8")
    words = ["".join(f"{word}\tO\n" for word in one.split()) + "\n" for one in sentences]
    (folder / "words.conll").write_text("".join(words), encoding="utf-8")
    return {
        "sequence": Task(
            name="nli", kind="pair_classification", labels=LABELS["sequence"], dev={"en": str(folder / "pairs.tsv")}
        ),
        "token": Task(name="names", kind="tagging", labels=LABELS["token"], dev={"en": str(folder / "words.conll")}),
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, tasks: dict[str, Any]) -> dict[str, Path]:
    """A model of each kind with exits after each of its three layers, and plain ones of the same weights."""
    from transformers import XLMRobertaConfig, set_seed

    from halfling.models import XLMRobertaEarlyExitConfig
    from halfling.models.classifier import EARLY_EXIT, PLAIN
    from halfling.models.shapes import Dimensions, config_for

    folder = tmp_path_factory.mktemp("trained")
    shape = Dimensions(num_layers=3, width=32, num_heads=2, max_tokens=32).with_vocabulary(len(tokenizer))
    found = {}
    for kind, task in tasks.items():
        set_seed(0)
        names = dict(enumerate(LABELS[kind]))
        settings = config_for(shape).to_dict() | {
            "initializer_range": 0.3,
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
        }
        settings.pop("architectures", None)
        network = EARLY_EXIT[kind](XLMRobertaEarlyExitConfig(**settings, exit_layers=[1, 2]))
        network.save_pretrained(folder / kind)
        plain = PLAIN[kind](XLMRobertaConfig(**{k: v for k, v in settings.items() if k != "model_type"}))
        plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("exits")})
        plain.save_pretrained(folder / f"{kind}-plain")
        for name in (kind, f"{kind}-plain"):
            tokenizer.save_pretrained(folder / name)
            task.write(folder / name)
            found[name] = folder / name
    return found


@pytest.fixture(scope="session")
def write_export(tmp_path_factory: pytest.TempPathFactory, trained: dict[str, Path]) -> Callable[..., Path]:
    """A function that exports one of the models with one threshold for all exits."""
    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy
    from halfling.export.write import ExportSettings, export

    def write(kind: str, threshold: float | None, *, backends: tuple[str, ...] = ("onnx",), **more: Any) -> Path:
        folder = tmp_path_factory.mktemp("exported")
        precision = more.pop("precision", "float32")
        settings = ExportSettings(backends=backends, precision=precision, max_int8_drop=None)  # random weights
        policy = None
        if threshold is not None:
            chosen = ExitPolicy.uniform(LAYERS, threshold, **more)
            (policy := folder / "policy").mkdir()
            Calibration(task="any", policy=chosen, max_drop=1.0, curve=()).write(policy / "exit_policy.json")
        (folder / "model").mkdir()
        export(settings=settings, model=trained[kind], out=folder / "model", policy=policy)
        return folder / "model"

    return write


@pytest.fixture(scope="session")
def exported(write_export: Callable[..., Path]) -> Callable[..., Path]:
    """A function that exports one of the models, once for the same wishes."""
    made: dict[Any, Path] = {}

    def make(kind: str, precision: str = "float32", threshold: float | None = 0.75) -> Path:
        wish = kind, precision, threshold
        if wish not in made:
            backends = ("onnx", "torch") if precision == "float32" else ("onnx",)
            made[wish] = write_export(kind, threshold, backends=backends, precision=precision)
        return made[wish]

    return make


@pytest.fixture(scope="session")
def texts() -> dict[str, list[Any]]:
    """Pairs and sentences of several lengths and scripts."""
    from halfling.sample.language import LANGUAGES, read_language

    random = np.random.default_rng(0)
    words = [word for code in LANGUAGES for text in read_language(code).plain[:4] for word in text.split()]

    def some(most: int) -> list[str]:
        return [words[number] for number in random.integers(0, len(words), random.integers(1, most))]

    return {
        "sequence": [(" ".join(some(6)), " ".join(some(4))) for _ in range(12)],
        "token": [some(8) for _ in range(12)],
    }
