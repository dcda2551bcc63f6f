"""What all tests share: annotations are checked as the code runs, and one thread computes."""

import lzma
import os
import random
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports torch: tests are small, and on a busy machine a second thread waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

# The command line is annotated for typer, whose parameters beartype knows nothing of.
install_import_hook("halfling", "beartype.beartype")

# What takes longest begins first, or one process would end minutes after the other.
FIRST = [
    *(f"end_to_end/test_{name}.py" for name in ("own_labels", "whole_run", "readme")),
    "training/test_processes.py",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        place = {Path(__file__).parent / name: number for number, name in enumerate(FIRST)}
        items.sort(key=lambda item: place.get(item.path, len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """End at once where a module cannot be imported; several processes would first run all other tests."""
    if node.config.pluginmanager.get_plugin("terminalreporter").stats.get("error"):
        pytest.exit("a module of tests cannot be imported", returncode=pytest.ExitCode.TESTS_FAILED)


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = ["▁", "▁Anna", "▁lives", "▁in", "▁Rome", "▁yes", "▁no", "▁maybe", *"abcdefghijklmnopqrstuvwxyzAR."]


@pytest.fixture
def tiny_tokenizer() -> Any:
    """An XLM-R tokenizer of a few words and the letters; ids 0..3 and the last (41) are XLM-R's special ones."""
    from transformers import XLMRobertaTokenizer  # here: most tests need no transformers

    scored = [(piece, -1.0 - number / 100) for number, piece in enumerate(PIECES)]
    return XLMRobertaTokenizer(vocab=[*((name, 0.0) for name in SPECIAL), *scored, ("<mask>", 0.0)])


@pytest.fixture
def write_masked_lm(tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random masked language model, 16 wide and of 64 tokens, with its tokenizer."""
    from transformers import XLMRobertaForMaskedLM, set_seed

    from halfling.models.shapes import Dimensions, config_for

    def write(folder: Path, *, num_layers: int = 2, width: int = 16, seed: int = 0) -> Path:
        set_seed(seed)
        shape = Dimensions(num_layers=num_layers, width=width, num_heads=2, max_tokens=64)
        config = config_for(shape.with_vocabulary(len(tiny_tokenizer)))
        config.initializer_range = 0.2
        XLMRobertaForMaskedLM(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def write_classifier(tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random model for a task, with exits after the layers named, its tokenizer and its task.

    Three layers, 16 wide. Weights are wide enough that random exits are sure of some inputs, and of different classes.
    """
    from transformers import set_seed

    from halfling.models import XLMRobertaEarlyExitConfig
    from halfling.models.classifier import EARLY_EXIT, PLAIN
    from halfling.models.shapes import Dimensions, config_for
    from halfling.tasks.examples import understood

    def write(
        folder: Path, task: Any, exits: list[int] | None = None, *, seed: int = 2, layers: int = 3, **changes: Any
    ) -> Path:
        set_seed(seed)
        whole = understood(task)
        names = dict(enumerate(whole.labels))
        shape = Dimensions(num_layers=layers, width=16, num_heads=2, max_tokens=40).with_vocabulary(len(tiny_tokenizer))
        config = config_for(shape)
        config.update(
            {"id2label": names, "label2id": {name: number for number, name in names.items()}, "initializer_range": 0.5}
        )
        config.update(changes)
        if exits is None:
            model = PLAIN[whole.head](config)
        else:
            values = {**config.to_dict(), "exit_layers": exits, **changes}
            model = EARLY_EXIT[whole.head](XLMRobertaEarlyExitConfig(**values))
        model.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        whole.write(folder)
        return folder

    return write


@pytest.fixture
def tiny_tasks(tmp_path: Path) -> dict[str, Any]:
    """A task of each kind by name: 40 English examples, of which half are also trained on, and 12 in Swahili, shorter.

    `moods` has two labels and `intents` five; the words of `products` are PRODUCT and DATE, those of `names` PER, ORG
    and LOC. Training data are another file, so that none of dev is held out of it.
    """
    from halfling.tasks.task import Task

    words = ["Anna lives in Rome", "no", "maybe Anna", "in Rome", "yes Anna lives", "Rome"]
    texts = {"en": words, "sw": ["in", "no", "yes"]}
    folder = tmp_path / "labelled"
    folder.mkdir()

    def sources(name: str, ending: str, header: str, row: Callable[[list[str], int], str]) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "train": {}, "dev": {}}
        for split, code, number in (("train", "en", 20), ("dev", "en", 40), ("dev", "sw", 12)):
            path = folder / f"{name}-{split}-{code}.{ending}"
            path.write_text(header + "".join(row(texts[code], n) for n in range(number)), encoding="utf-8")
            found[split][code] = str(path)
        return found

    def tagged(tags: dict[str, str]) -> Callable[[list[str], int], str]:
        def row(some: list[str], n: int) -> str:
            sentence = [*some[n % len(some)].split(), *["Rome"] * (len(some) == 3)]
            return "".join(f"{word}\t{tags.get(word, 'O')}\n" for word in sentence) + "\n"

        return row

    def labelled(labels: tuple[str, ...]) -> Callable[[list[str], int], str]:
        return lambda some, n: f"{some[n % len(some)]},{labels[n % len(labels)]}\n"

    nli = ("entailment", "neutral", "contradiction")
    five = ("cancel", "billing", "network", "roaming", "greeting")
    return {
        "pairs": Task(
            **sources(
                "pairs",
                "tsv",
                "premise\thypothesis\tlabel\n",
                lambda some, n: f"{some[n % len(some)]}\t{some[n * 5 % len(some)]}\t{nli[n % 3]}\n",
            ),
            labels=nli,
        ),
        "moods": Task(**sources("moods", "csv", "text,label\n", labelled(("glad", "sad")))),
        "intents": Task(**sources("intents", "csv", "text,intent\n", labelled(five)), metric="macro F1"),
        "names": Task(
            **sources("names", "conll", "", tagged({"Anna": "B-PER", "Rome": "B-LOC"})),
            labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
        ),
        "products": Task(
            **sources("products", "conll", "", tagged({"Anna": "B-PRODUCT", "lives": "I-PRODUCT", "Rome": "B-DATE"}))
        ),
    }


@pytest.fixture
def permute_labels() -> Callable[[Path, list[int]], None]:
    """A function that numbers a model's labels anew in its folder: class n of now is the one that was `order[n]`."""
    import json

    from safetensors.numpy import load_file, save_file

    def permute(folder: Path, order: list[int]) -> None:
        config = json.loads((folder / "config.json").read_text())
        names = [config["id2label"][str(number)] for number in order]
        config |= {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}
        (folder / "config.json").write_text(json.dumps(config))
        weights = load_file(folder / "model.safetensors")
        for name, weight in weights.items():
            if name.startswith(("classifier", "exits")) and len(weight) == len(order):
                weights[name] = weight[order]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return permute


@pytest.fixture
def write_tagger(tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random tagger of two layers with an exit after the first, its tokenizer and its task."""
    from transformers import set_seed

    from halfling.models import XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForTokenClassification
    from halfling.models.shapes import Dimensions, config_for
    from halfling.tasks.task import Task

    labels = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    words = ["Anna", "lives", "in", "Rome", "yes", "no", "maybe"]

    def write(folder: Path, seed: int = 0) -> Path:
        set_seed(seed)
        shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=32).with_vocabulary(len(tiny_tokenizer))
        names = dict(enumerate(labels))
        settings = config_for(shape).to_dict() | {
            "initializer_range": 0.2,
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
        }
        XLMRobertaEarlyExitForTokenClassification(
            XLMRobertaEarlyExitConfig(**settings, exit_layers=[1])
        ).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        chance = random.Random(0)
        sentences = [chance.choices(words, k=chance.randint(1, 8)) for _ in range(80)]
        dev = folder.with_name(f"{folder.name}-dev.conll")
        dev.write_text("".join("".join(f"{word} O\n" for word in one) + "\n" for one in sentences), encoding="utf-8")
        Task(name="names", kind="tagging", labels=labels, dev={"en": str(dev)}).write(folder)
        return folder

    return write


@pytest.fixture
def write_packed() -> Callable[..., Path]:
    """A function that writes chunks of blocks of token ids as the pack stage does; a sequence begins at each 0."""
    from halfling.tokens.blocks import BlocksWriter, PackedSummary, Run, block_schema, blocks_file

    def write(folder: Path, chunks: list[list[list[int]]], vocab_size: int = 42) -> Path:
        block_tokens = len(chunks[0][0])
        for number, blocks in enumerate(chunks, start=1):
            (folder / f"chunk-{number}").mkdir(parents=True)
            ids = np.array(blocks)
            rows, starts = np.nonzero(ids == 0)
            schema = block_schema(block_tokens, vocab_size)
            with closing(BlocksWriter(blocks_file(folder, number, "en"), schema)) as writer:
                writer.write(Run("en", ids, starts, np.searchsorted(rows, np.arange(len(ids) + 1))))
        PackedSummary(
            block_tokens=block_tokens,
            vocab_size=vocab_size,
            blocks={f"chunk-{number}": {"en": len(blocks)} for number, blocks in enumerate(chunks, start=1)},
            tokens={"en": 0},
        ).write(folder / "corpus.json")
        return folder

    return write


@pytest.fixture
def full_blocks() -> Callable[..., list[list[list[int]]]]:
    """A function that makes chunks of random blocks of 24 tokens, one to three sequences in each and no padding."""

    def make(num_chunks: int, num_blocks: int, seed: int = 0) -> list[list[list[int]]]:
        random = np.random.default_rng(seed)

        def block() -> list[int]:
            cuts = sorted(random.choice([5, 9, 13, 17], random.integers(0, 3), replace=False).tolist())
            parts = np.split(random.integers(4, 41, 22 - 2 * len(cuts)), cuts)
            return [piece for words in parts for piece in (0, *words.tolist(), 2)]

        return [[block() for _ in range(num_blocks)] for _ in range(num_chunks)]

    return make


@pytest.fixture
def tiny_config(tiny_tokenizer: Any) -> Any:
    """The configuration of two layers, 16 wide, 40 tokens."""
    from transformers import XLMRobertaConfig

    return XLMRobertaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        type_vocab_size=1,
        # Wide enough that random models disagree with themselves from input to input.
        initializer_range=0.5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


@pytest.fixture
def encoder(tmp_path: Path, tiny_tokenizer: Any, tiny_config: Any) -> Path:
    """A folder with a random masked language model and its tokenizer."""
    from transformers import XLMRobertaForMaskedLM, set_seed

    set_seed(0)
    folder = tmp_path / "encoder"
    tiny_config.initializer_range = 0.1
    XLMRobertaForMaskedLM(tiny_config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_xz() -> Callable[[Path, str], Path]:
    """A function that writes a text as .xz, and its folder."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(text.encode()))
        return path

    return write


WORDS = {
    "en": "the river runs past an old mill and the children watch boats carry grain to market town",
    "ru": "река течёт мимо старой мельницы и дети смотрят как лодки везут зерно на рынок города",
    "sw": "mto unapita karibu na kinu cha zamani na watoto wanatazama mashua zikibeba nafaka sokoni",
    "hi": "नदी पुरानी चक्की के पास से बहती है और बच्चे नावों को देखते हैं जो अनाज ले जाती हैं",
}


def made_documents(code: str, number: int) -> list[str]:
    """Documents of one to four paragraphs, all different."""
    chance = random.Random(f"{code}{number}")
    return [
        "\n".join(
            f"{i} {j} " + " ".join(chance.choices(WORDS[code].split(), k=chance.randint(4, 40)))
            for j in range(chance.randint(1, 4))
        )
        for i in range(number)
    ]


def write_source(folder: Path, documents: dict[str, list[str]]) -> Path:
    """Write CC100-format files."""
    folder.mkdir(parents=True, exist_ok=True)
    for code, texts in documents.items():
        with lzma.open(folder / f"{code}.txt.xz", "wt", encoding="utf-8", preset=1) as file:
            file.write("".join(f"{text}\n\n" for text in texts))
    return folder


def build(source: Path, out: Path, **settings) -> dict[str, Any]:
    from halfling.corpus.build import CorpusSettings, build_corpus

    out.mkdir(exist_ok=True)
    return build_corpus(settings=CorpusSettings(**settings), source=source, out=out)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by its path in the folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def documents() -> dict[str, list[str]]:
    """Every document of `source`, by language."""
    return {code: made_documents(code, n) for code, n in {"en": 300, "ru": 120, "sw": 40, "hi": 60}.items()}


@pytest.fixture(scope="session")
def source(documents, tmp_path_factory) -> Path:
    """CC100's files of four languages."""
    return write_source(tmp_path_factory.mktemp("source"), documents)


@pytest.fixture(scope="session")
def corpus(source, tmp_path_factory) -> Path:
    """Five chunks of four languages, one language at a time: read it, do not change it."""
    out = tmp_path_factory.mktemp("corpus")
    build(source, out, workers=1)
    return out


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A tokenizer of XLM-R's layout that knows a few words and every character of them."""
    from transformers import XLMRobertaTokenizer

    known = [word for words in WORDS.values() for word in words.split()]
    characters = sorted({character for word in known for character in word} | set("0123456789<>/▁"))
    scores = {f"▁{word}": -3.0 for word in known} | dict.fromkeys(characters, -9.0)
    vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [*scores.items(), ("<mask>", 0.0)]
    folder = tmp_path_factory.mktemp("tokenizer")
    XLMRobertaTokenizer(vocab=vocab).save_pretrained(folder)
    return folder


@pytest.fixture(name="write_source", scope="session")
def _write_source():
    return write_source


@pytest.fixture(name="build", scope="session")
def _build():
    return build


@pytest.fixture(name="contents")
def _contents():
    return contents


@dataclass(frozen=True)
class Said:
    """What a command line ended with: its status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def halfling(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """A function that calls `halfling` with some words."""
    from halfling.cli import main  # here: most tests need no command line

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
