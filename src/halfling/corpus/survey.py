"""What is in a language's file, found by reading it through once."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

from halfling.corpus.clean import Cleaner
from halfling.corpus.read import read_documents
from halfling.errors import HalflingError
from halfling.files import whole_file


class Survey(NamedTuple):
    """What a language's file holds."""

    digests: UInt64[np.ndarray, " documents"]  # of the documents that cleaning keeps, in the file's order
    sizes: Int64[np.ndarray, " documents"]  # their UTF-8 bytes
    source_bytes: int  # text of the file before cleaning
    dropped: dict[str, int]  # reason -> documents


def survey(path: Path, cleaner: Cleaner, cache: Path) -> Survey:
    """Return what `cleaner` keeps of `path`; `cache` keeps the answer for a try that is resumed.

    Raises:
        HalflingError: The file cannot be read, or no document of it is kept.
    """
    if cache.exists():
        return _read(cache)
    digests, sizes, source_bytes = [], [], 0
    for raw in read_documents(path):
        source_bytes += len(raw.encode())
        if cleaned := cleaner.clean(raw):
            text, digest = cleaned
            digests.append(digest)
            sizes.append(len(text.encode()))
    dropped = dict(sorted(cleaner.dropped.items()))
    if not sizes:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise HalflingError(f"{path}: cleaning leaves no document ({reasons}): loosen it or leave the language out")
    found = Survey(np.array(digests, np.uint64), np.array(sizes, np.int64), source_bytes, dropped)
    _write(found, cache)
    return found


def _write(found: Survey, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            digests=found.digests,
            sizes=found.sizes,
            source_bytes=found.source_bytes,
            reasons=np.array(list(found.dropped), np.str_),
            dropped=np.array(list(found.dropped.values()), np.int64),
        )


def _read(path: Path) -> Survey:
    with np.load(path) as saved:
        dropped = dict(zip(saved["reasons"].tolist(), saved["dropped"].tolist(), strict=True))
        return Survey(saved["digests"], saved["sizes"], int(saved["source_bytes"]), dropped)
