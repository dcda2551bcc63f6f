"""Compressed files that hold more, less or other than one good stream. `xz -dc` is the judge."""

import bz2
import gzip
import json
import lzma
import random
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from halfling.compressed import CorruptError, unpacked
from halfling.corpus.sources.cc100 import read_documents
from halfling.errors import HalflingError
from halfling.tasks.examples import TextExample, read_examples
from halfling.tasks.task import Task

COMPRESS = {".xz": lzma.compress, ".bz2": bz2.compress, ".gz": gzip.compress}
TOOL = {".xz": "xz", ".bz2": "bzip2", ".gz": "gzip"}
WHOLE, TRUNCATED, CORRUPT = None, "truncated", "corrupt"


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def forms(ending: str) -> dict[str, tuple[bytes, bytes, str | None]]:
    """Name -> a file, what it holds, and what is wrong with it."""
    compress = COMPRESS[ending]
    one, two = b"the first document\n\n", b"and the second one\n\n"
    first, second = compress(one), compress(two)
    found = {
        "one": (first, one, WHOLE),
        "two": (first + second, one + two, WHOLE),
        "an empty stream between": (first + compress(b"") + second, one + two, WHOLE),
        "nothing at all": (b"", b"", TRUNCATED),
        "a cut": (first[:-5], one, TRUNCATED),
        "a cut in the second": (first + second[:-5], one, TRUNCATED),
        "a cut in the second's head": (first + second[:3], one, TRUNCATED),
        "garbage behind": (first + b"garbage that is no stream", one, CORRUPT),
        "garbage between": (first + b"garbage" + second, one, CORRUPT),
        "garbage before": (b"garbage" + first, b"", CORRUPT),
        "a damaged second": (first + flipped(second, len(second) // 2), one, CORRUPT),
        "a damaged head of the second": (first + flipped(second, 0) + second, one, CORRUPT),
    }
    if ending == ".xz":
        found |= {
            f"{zeros} zeros": (first + bytes(zeros) + second, one + two, CORRUPT if zeros % 4 else WHOLE)
            for zeros in (1, 3, 4, 5, 8, 2**17, 2**17 + 2, 2**18)
        }
        found |= {
            "zeros at the end": (first + bytes(4), one, WHOLE),
            "zeros and garbage": (first + bytes(4) + b"garbage", one, CORRUPT),
            "five zeros at the end": (first + bytes(5), one, CORRUPT),
            "zeros before": (bytes(4) + first, b"", CORRUPT),
            "zeros alone": (bytes(12), b"", CORRUPT),
        }
    return found


EVERY = [(ending, name) for ending in COMPRESS for name in forms(ending)]


def outcome(content: bytes, ending: str, folder: Path) -> bytes | str:
    path = folder / f"file{ending}"
    path.write_bytes(content)
    try:
        with path.open("rb") as file:
            return b"".join(unpacked(file, ending))
    except EOFError:
        return TRUNCATED
    except CorruptError:
        return CORRUPT


@pytest.mark.parametrize(("ending", "name"), EVERY)
def test_every_stream_is_read_and_what_is_no_stream_is_an_error(ending, name, tmp_path):
    content, holds, wrong = forms(ending)[name]
    found = outcome(content, ending, tmp_path)
    if wrong == CORRUPT or (wrong and name.endswith("head")):  # three bytes may tell either
        assert found in (CORRUPT, TRUNCATED)
    else:
        assert found == (wrong or holds)


@pytest.mark.parametrize(("ending", "name"), EVERY)
def test_the_tool_itself_says_the_same(ending, name, tmp_path):
    if not (tool := shutil.which(TOOL[ending])):
        pytest.skip(f"no {TOOL[ending]} here")
    content, holds, wrong = forms(ending)[name]
    done = subprocess.run([tool, "-dc"], input=content, capture_output=True, check=False)
    ignored = ending != ".xz" and "garbage" in done.stderr.decode()  # said, but no failure
    if wrong:
        assert done.returncode or ignored
    else:
        assert (done.returncode, done.stdout) == (0, holds)


@pytest.mark.parametrize("seed", range(60))
def test_random_streams_paddings_and_damage_end_as_xz_does(seed, tmp_path):
    if not (tool := shutil.which("xz")):
        pytest.skip("no xz here")
    chance = random.Random(seed)
    content = b""
    for _ in range(chance.randint(1, 4)):
        check = chance.choice([lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256, lzma.CHECK_NONE])
        content += lzma.compress(chance.randbytes(chance.randint(0, 300)), check=check)
        content += bytes(chance.choice([0, 0, 4, 8, chance.randint(0, 9)]))
    if chance.random() < 0.3:
        content = flipped(content, chance.randrange(len(content)))
    if chance.random() < 0.2:
        content = content[: chance.randrange(len(content))]
    done = subprocess.run([tool, "-dc"], input=content, capture_output=True, check=False)
    found = outcome(content, ".xz", tmp_path)
    assert (done.stdout if done.returncode == 0 else None) == (found if isinstance(found, bytes) else None)


@pytest.mark.parametrize("name", forms(".xz"))
def test_a_corpus_reads_every_document_or_names_the_file(name, tmp_path):
    content, holds, wrong = forms(".xz")[name]
    path = tmp_path / "en.txt.xz"
    path.write_bytes(content)
    if wrong:
        with pytest.raises(HalflingError, match=rf"^{path}: (truncated|corrupt xz)") as error:
            list(read_documents(path))
        assert "\n" not in str(error.value)
    else:
        assert list(read_documents(path)) == holds.decode().strip().split("\n\n")


@pytest.mark.parametrize("ending", COMPRESS)
def test_task_files_of_several_streams_and_damaged_ones(ending, tmp_path):
    rows = [json.dumps({"text": text, "label": "yes"}).encode() + b"\n" for text in ("one", "two")]
    first, second = map(COMPRESS[ending], rows)
    path = tmp_path / f"dev.jsonl{ending}"
    task = Task(dev={"en": str(path)})
    path.write_bytes(first + (bytes(8) if ending == ".xz" else b"") + second)
    assert read_examples(task, "dev", "en") == [TextExample("one", None, "yes"), TextExample("two", None, "yes")]
    for damaged in (first + second[:-5], first + b"garbage", first + flipped(second, len(second) // 2)):
        path.write_bytes(damaged)
        with pytest.raises(HalflingError, match=rf"^{path}: (truncated|broken)") as error:
            read_examples(task, "dev", "en")
        assert "\n" not in str(error.value)


def test_a_bomb_comes_in_pieces_and_is_refused_in_little_memory(tmp_path):
    stream = lzma.LZMACompressor(preset=0)
    path = tmp_path / "en.txt.xz"
    path.write_bytes(b"".join(stream.compress(b"bomb" * 2**18) for _ in range(96)) + stream.flush())
    tracemalloc.start()
    try:
        with pytest.raises(HalflingError, match="a document of more than 16777216 characters"):
            list(read_documents(path))
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    with path.open("rb") as file:
        assert max(map(len, unpacked(file, ".xz", 1000))) <= 1000
