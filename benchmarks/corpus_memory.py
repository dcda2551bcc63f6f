"""The memory of the corpus stage on one language of any size.

    python benchmarks/corpus_memory.py ../shared/data/cc100-mini/en.txt.xz --gigabytes 3

Makes a file of so much text (real lines in a random order, each with a number before it, so that all are different),
builds a corpus of it in one process, and says the peak of that process and the rate. A tenth of the documents have
stood in the file before. Linux.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.verify import verify
from halfling.cost.memory import peak_bytes_of_this_process


def numbered(real: Path, out: Path, size: int, seed: int = 0) -> None:
    """Write `size` bytes of documents to `out`."""
    chance = random.Random(seed)
    lines = [line for document in read_documents(real) for line in document.split("\n")]
    again: list[str] = []
    written = number = 0
    with out.open("w", encoding="utf-8") as file:
        while written < size:
            picked = chance.choices(lines, k=chance.randint(5, 60))
            text = "\n".join([f"{number + place} {line}" for place, line in enumerate(picked)]) + "\n\n"
            number += len(picked)
            if len(again) == 1000 and chance.random() < 0.1:
                text = again[chance.randrange(1000)]
            elif len(again) < 1000:
                again.append(text)
            file.write(text)
            written += len(text.encode())


def main() -> None:
    """Make, build, verify, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="a CC100-format file of one language, named {code}.txt.xz")
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, help="where there is room for three times as much")
    parser.add_argument("--verify", action="store_true", help="verify what was built, and say the peak after it")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="halfling-memory-", dir=arguments.folder))
    try:
        source, out = folder / "source", folder / "corpus"
        source.mkdir()
        out.mkdir()
        code = arguments.real.name.partition(".")[0]
        numbered(arguments.real, source / f"{code}.txt", int(arguments.gigabytes * 1e9))
        before, began = peak_bytes_of_this_process(), time.monotonic()
        counts = build_corpus(settings=CorpusSettings(workers=1), source=source, out=out)
        seconds = time.monotonic() - began
        language = counts["languages"][code]
        built = peak_bytes_of_this_process()
        faults = verify(out) if arguments.verify else None
        numbers = {
            "source_bytes": language["source_bytes"],
            "bytes": counts["bytes"],
            "documents": counts["documents"],
            "dropped": language["dropped"],
            "dropped_lines": language["dropped_lines"],
            "seconds": round(seconds, 1),
            "megabytes_per_second": round(language["source_bytes"] / 1e6 / seconds, 1),
            "peak_mib_before": before // 2**20,
            "peak_mib": built // 2**20,
            "peak_mib_verified": peak_bytes_of_this_process() // 2**20,
            "faults": faults,
        }
    finally:
        shutil.rmtree(folder)
    print(json.dumps(numbers, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
