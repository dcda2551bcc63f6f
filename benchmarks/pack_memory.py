"""The memory of packing with a vocabulary of XLM-R's size, on text that asks for most of it.

    python benchmarks/pack_memory.py [--megabytes 30] [--workers 2] [--json FILE]

The tokenizer has 250,002 pieces, made by `workload.pieces`. Each worker packs a language of its own; what is printed is
the peak of the process that packs:

- `real`: documents of CC100, English;
- `different`: words that never come again, so that every one is cut;
- `endless`: Chinese documents of a million characters, of one word each: no white space.

Each in a process of its own. Linux.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from halfling.corpus.filters.clean import digest64
from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.store import ChunkWriter
from halfling.cost.memory import peak_bytes_of_this_process
from halfling.tokens.pack import PackSettings, pack_corpus

PIECES = 250_002
CODES = ("en", "de", "fr", "es", "ru", "zh-Hans", "ja", "ar")
_LONGEST = 1_000_000  # characters that cleaning lets through


def real(data: Path) -> Iterator[str]:
    """Yield real documents, again and again, each with a number before it."""
    documents = list(read_documents(data / "cc100-mini" / "en.txt.xz"))
    return (f"{number} {text}" for number, text in enumerate(cycle(documents)))


def different(_: Path) -> Iterator[str]:
    """Yield documents of random words."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    while True:
        yield " ".join("".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(200))


def endless(data: Path) -> Iterator[str]:
    """Yield documents of one word each."""
    text = "".join("".join(document.split()) for document in read_documents(data / "cc100-mini" / "zh-Hans.txt.xz"))
    characters = cycle(text)
    while True:
        yield "".join(islice(characters, _LONGEST))


KINDS = {"real": real, "different": different, "endless": endless}


def write_tokenizer(data: Path, out: Path) -> None:
    """Make the tokenizer; it imports torch, so not in a process that is measured."""
    from workload import tokenizers

    tokenizers(data, PIECES)[0].save_pretrained(out)


def write_text(documents: Iterator[str], out: Path, codes: tuple[str, ...], size: int) -> None:
    """Write a chunk of `size` bytes in each language."""
    out.mkdir(parents=True)
    for code in codes:
        written = 0
        with ChunkWriter(out / f"{code}.parquet", code, 1) as writer:
            while written < size:
                text = next(documents).encode()
                writer.add(np.array([digest64(text)], np.uint64), pa.array([text]), np.array([len(text)]))
                written += len(text)


def peak_mib(corpus: Path, tokenizer: Path, out: Path, workers: int) -> int:
    """Pack, and return the largest resident size of this process so far."""
    out.mkdir()
    settings = PackSettings(block_tokens=512, workers=workers)
    pack_corpus(settings=settings, corpus=corpus, tokenizer=tokenizer, out=out)
    return peak_bytes_of_this_process() // 2**20


def main() -> None:
    """Make, pack, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--megabytes", type=float, default=30, help="of text for each worker")
    options.add_argument("--workers", type=int, default=2, choices=range(1, len(CODES) + 1))
    options.add_argument("--json", type=Path, help="write the numbers here too")
    chosen = options.parse_args()
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="halfling-memory-") as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        scratch = Path(folder)
        pool.submit(write_tokenizer, chosen.data, scratch / "tokenizer").result()
        for kind, documents in KINDS.items():
            codes = CODES[: chosen.workers]
            write_text(documents(chosen.data), scratch / kind / "chunk-1", codes, int(chosen.megabytes * 1e6))
            out = scratch / f"{kind}-packed"
            found[kind] = pool.submit(peak_mib, scratch / kind, scratch / "tokenizer", out, chosen.workers).result()
            print(f"{kind:10} {found[kind]:5} MiB at its peak, {chosen.workers} workers", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps({"pieces": PIECES, "peak_mib": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
