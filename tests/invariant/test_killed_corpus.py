"""A corpus whose build is killed with SIGKILL, at any moment, ends with the same bytes as one that is not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halfling.corpus.build import CorpusSettings, build_corpus

SEED = 20261122
"""Of the moments; another seed, other moments."""

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from halfling.corpus import ingest
from halfling.corpus.build import CorpusSettings, build_corpus

ingest.RUN_BYTES = 30_000  # many runs
ingest._BATCH_CHARACTERS = 3000
ingest._MIN_PARTS = ingest._MAX_PARTS = 8

if __name__ == "__main__":
    print("ready", flush=True)
    settings = CorpusSettings.model_validate_json(sys.argv[2])
    build_corpus(settings=settings.model_copy(update={"workers": 1}), source=Path(sys.argv[3]), out=Path(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Three languages, with duplicate documents and lines far apart."""
    chance = random.Random(0)
    folder = tmp_path_factory.mktemp("source")
    for code, number in {"en": 900, "sw": 500, "tr": 300}.items():
        texts = ["\n".join(" ".join(chance.choices("abcdefgh", k=40)) for _ in range(5)) for _ in range(number)]
        texts += texts[::7] + [
            "\n".join([*text.split("\n")[:2], "one more line " * 4 + text[:20]]) for text in texts[::5]
        ]
        (folder / f"{code}.txt").write_text("".join(f"{text}\n\n" for text in texts), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def chunks(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in contents(folder).items() if path.startswith("chunk-")}


def start(script: Path, settings: CorpusSettings, source: Path, out: Path) -> subprocess.Popen:
    """Start a build, and return once its libraries are loaded."""
    package = str(Path(sys.modules["halfling"].__file__).parents[1])
    arguments = [package, settings.model_dump_json(), str(source), str(out)]
    child = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen) -> None:
    assert child.wait() == 0
    child.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"total_bytes": 120_000, "selection": "sample"}], ids=["all", "sample"])
def test_a_build_killed_five_times_at_random_ends_with_the_same_bytes(source, tmp_path, settings):
    wanted = CorpusSettings(**settings)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    for out in (tmp_path / "whole", tmp_path / "killed"):
        out.mkdir()
    began = time.monotonic()
    finish(start(script, wanted, source, tmp_path / "whole"))
    seconds = time.monotonic() - began
    chance = random.Random(SEED)
    kills = 0
    while kills < 5:
        child = start(script, wanted, source, tmp_path / "killed")
        moment = chance.uniform(0, seconds / 4)
        sys.stdout.write(f"seed {SEED}, kill {kills}: after {moment:.3f} s\n")
        try:
            ended = child.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            ended = child.wait()
        child.stdout.close()
        kills += 1
        if ended == 0:
            break  # finished between two kills: it went on each time
        assert ended == -signal.SIGKILL
    if (tmp_path / "killed" / "work").exists():
        finish(start(script, wanted, source, tmp_path / "killed"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    # In one run instead of many: parts and runs leave no trace in the chunks.
    (tmp_path / "once").mkdir()
    build_corpus(settings=CorpusSettings(workers=1, **settings), source=source, out=tmp_path / "once")
    assert chunks(tmp_path / "once") == chunks(tmp_path / "whole")
