import importlib.util
import lzma
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import XLMRobertaTokenizer

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources import download
from halfling.records import Counts

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


def build(source: Path, out: Path, **settings) -> Counts:
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


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A host of the folder `served`, as `host.py` says; nobody waits for it."""
    spec = importlib.util.spec_from_file_location("host", Path(__file__).with_name("host.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["host"] = module
    spec.loader.exec_module(module)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waits: list[float] = []
    monkeypatch.setattr(download, "sleep", waits.append)
    (tmp_path / "served").mkdir()
    with module.serve(tmp_path / "served") as served:
        served.waits = waits
        yield served
    del sys.modules["host"]
