"""CC100's host on good days and bad ones."""

import lzma
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources import SourceSettings, download, open_source
from halfling.errors import HalflingError
from halfling.stage import Stage, run_stage

BAD_DAY = ["429", "503", "500", "refused", "dropped", "truncated", "too large", "too small"]


# In one process: of two, chance would decide which of them meets a fault.
HALF = {
    "languages": ["sw", "tr"],
    "total_bytes": 800_000,
    "selection": "head",
    "alpha": 0,
    "chunks": 3,
    "patience_seconds": 600,
    "workers": 1,
}


def long_documents(code: str, number: int) -> list[str]:
    """Documents of words that nobody has seen, so that they compress about as well as text does."""
    chance = random.Random(code)

    def word() -> str:
        return "".join(chance.choices("abcdefghijklmnoprstuvwz", k=chance.randint(2, 9)))

    return ["\n".join(" ".join(word() for _ in range(40)) for _ in range(4)) for _ in range(number)]


@pytest.fixture(scope="module")
def long_texts() -> dict[str, list[str]]:
    return {code: long_documents(code, 1200) for code in ("sw", "tr")}


@pytest.fixture(scope="module")
def long_files(long_texts, tmp_path_factory, write_source) -> Path:
    return write_source(tmp_path_factory.mktemp("long"), long_texts)


@pytest.fixture(scope="module")
def half(long_files, build, tmp_path_factory):
    """What is said of a corpus of half of the text, from a folder; and the corpus: read it, do not change it."""
    folder = tmp_path_factory.mktemp("half")
    return build(long_files, folder, **HALF), folder


@pytest.fixture
def served(host, long_files):
    """The host of two languages of a million bytes each."""
    shutil.copytree(long_files, host.folder, dirs_exist_ok=True)
    return host


@pytest.fixture
def small(host, long_texts, write_source):
    """The host of a beginning of the same."""
    write_source(host.folder, {code: texts[:120] for code, texts in long_texts.items()})
    return host


def source(host, cache, **settings):
    return open_source(host.address, SourceSettings(**settings), ("sw", "tr"), cache)


def needed(path, documents: list[str]) -> int:
    """Return how much of an xz file one has to have to read these documents and the line after them."""
    text = sum(len(document.encode()) + 2 for document in documents)
    decompressor, size, out = lzma.LZMADecompressor(), 0, 0
    content = path.read_bytes()
    while out < text:
        out += len(decompressor.decompress(content[size : size + 64]))
        size += 64
    return size


def bad_day(seed: int, share: float = 0.5):
    """Return faults that are the same for the same seed: every kind once at first, then by chance."""
    chance = random.Random(seed)
    order = chance.sample(BAD_DAY, len(BAD_DAY))

    def fault(name: str, number: int) -> str | None:
        if order:
            return order.pop()
        return chance.choice(BAD_DAY) if chance.random() < share else None

    return fault


@pytest.mark.parametrize("seed", range(3))
def test_a_corpus_from_a_bad_day_is_that_of_a_clean_folder_and_costs_what_its_quotas_need(
    served, half, long_texts, tmp_path, build, contents, seed
):
    expected, folder = half
    served.fault = bad_day(seed)
    assert build(served.address, tmp_path / "host", **HALF) == expected
    assert contents(tmp_path / "host") == contents(folder)
    assert sum(language["quota_bytes"] for language in expected["languages"].values()) == HALF["total_bytes"]
    least = 0
    for code, language in expected["languages"].items():
        taken = sum(language["documents"])
        assert taken < len(long_texts[code])
        least += needed(served.folder / f"{code}.txt.xz", long_texts[code][: taken + 1])
    assert least <= served.sent <= 1.05 * least
    assert {fault for *_, fault in served.asked} >= set(BAD_DAY)


def test_a_second_reading_fetches_nothing_and_a_whole_file_its_size(served, long_texts, tmp_path):
    files = pickle.loads(pickle.dumps(source(served, tmp_path / "cache", selection="sample")))  # as for a worker
    assert list(files.documents("sw")) == long_texts["sw"]
    size = (served.folder / "sw.txt.xz").stat().st_size
    assert served.sent == size
    assert list(files.documents("sw")) == long_texts["sw"]
    assert served.sent == size
    files.forget("sw")
    assert not list((tmp_path / "cache").glob("sw*"))


def test_after_kill_9_nothing_is_fetched_twice(served, long_texts, tmp_path):
    killed = f"""
import os, signal
from itertools import islice
from pathlib import Path
from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources import SourceSettings, open_source
source = open_source({served.address!r}, SourceSettings(selection="head"), ("sw",), Path({str(tmp_path / "cache")!r}))
for _ in islice(source.documents("sw"), 700):
    pass
for _ in source.documents("sw"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", killed], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(source(served, tmp_path / "cache", selection="head").documents("sw")) == long_texts["sw"]
    begins = [begin for _, begin, _ in served.asked]
    assert begins == sorted(set(begins))
    assert served.sent <= (served.folder / "sw.txt.xz").stat().st_size


def test_what_a_short_language_leaves_is_fetched_of_the_other(served, long_texts, tmp_path, build, write_source):
    write_source(served.folder, {"sw": long_texts["sw"][:100]})
    settings = {"languages": ["sw", "tr"], "total_bytes": 700_000, "selection": "head", "alpha": 0}
    counts = build(served.address, tmp_path / "out", **settings)
    languages = counts["languages"]
    assert languages["sw"]["quota_bytes"] == sum(len(text.encode()) for text in long_texts["sw"][:100])
    assert languages["sw"]["quota_bytes"] + languages["tr"]["quota_bytes"] == 700_000
    assert sum(languages["tr"]["bytes"]) > 350_000


def test_a_single_answer_of_another_file_is_doubted(small, long_texts, tmp_path):
    small.fault = lambda name, number: "changed" if number == 1 else None
    assert list(source(small, tmp_path / "cache").documents("sw")) == long_texts["sw"][:120]


def test_the_host_is_left_alone_for_as_long_as_it_asks(small, tmp_path):
    small.fault = lambda name, number: {0: "429", 1: "503", 2: "503"}.get(number)
    next(source(small, tmp_path / "cache").documents("sw"))
    asked, second, third = small.waits
    assert asked == 17
    assert 2 <= second <= 4 <= third <= 8


def test_no_more_connections_than_allowed(small, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_CONNECTIONS", 2)
    lists = [[] for _ in range(6)]
    sources = [source(small, tmp_path / "cache") for _ in lists]
    small.slow = 0.2
    for code in ("sw", "tr"):  # three readers of one file would write into one copy
        (small.folder / f"{code}.txt.xz").rename(small.folder / "first.xz")
        for number in range(3):
            (small.folder / f"{code}{number}.txt.xz").write_bytes((small.folder / "first.xz").read_bytes())
    names = [f"{code}{number}" for code in ("sw", "tr") for number in range(3)]

    def read(each, name, into):
        into.extend(each.documents(name))

    threads = [threading.Thread(target=read, args=work) for work in zip(sources, names, lists, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(texts) == 120 for texts in lists)
    assert small.most_at_once == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("404", r"sw\.txt\.xz: the host answers 404 Not Found: mend the address"),
        ("503", r"sw\.txt\.xz: the host answers 503 Service Unavailable \(\d tries\)"),
        ("refused", r"sw\.txt\.xz: .* tries\): try again later, .* what was fetched is kept"),
        ("truncated", r"sw\.txt\.xz: the file is truncated: it ends after \d+ bytes in the middle"),
        ("no ranges", r"sw\.txt\.xz: the host answers with the whole file where a part was asked for"),
        ("flipped", r"sw\.txt\.xz: corrupt xz after line \d+"),
        ("changed", r"sw\.txt\.xz: changed on the host since"),
    ],
)
def test_what_stays_broken_is_one_line_and_nothing_half_written(small, tmp_path, fault, message):
    path = small.folder / "sw.txt.xz"
    whole = path.read_bytes()
    if fault == "404":
        path.unlink()
    elif fault == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    else:
        small.fault = lambda name, number: fault if name == path.name and (fault != "changed" or number) else None
    out = tmp_path / "out"
    settings = CorpusSettings(languages=("sw", "tr"), selection="head", workers=1)  # which does not really wait
    stage = Stage("corpus", build_corpus, settings, out, {"source": small.address})
    with pytest.raises(HalflingError, match=message) as error:
        run_stage(stage)
    assert "\n" not in str(error.value)
    assert not out.exists()
    # Mended, the same command ends well.
    path.write_bytes(whole)
    small.fault = lambda name, number: None
    run_stage(stage)
    assert [chunk.name for chunk in sorted(out.glob("*/sw.parquet"))] == ["sw.parquet"] * 5
