"""What is in a language's file, found by reading it once, to its end or until a quota is full."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

from halfling.corpus.clean import Cleaner
from halfling.errors import HalflingError
from halfling.files import whole_file


class Survey(NamedTuple):
    """What a language's file holds."""

    digests: UInt64[np.ndarray, " documents"]  # of the documents that cleaning keeps, in the file's order
    sizes: Int64[np.ndarray, " documents"]  # their UTF-8 bytes
    source_bytes: int  # text that was read, before cleaning
    dropped: dict[str, int]  # reason -> documents
    whole: bool  # read to the end


def survey(documents: Iterable[str], cleaner: Cleaner, quota: int | None, cache: Path, where: str) -> Survey:
    """Return what `cleaner` keeps of a language.

    Args:
        documents: The language's documents, in the order of the source.
        cleaner: A fresh one.
        quota: Stop as soon as so many bytes are kept; None reads to the end.
        cache: Keeps the answer for a try that is resumed.
        where: The place of the documents, for messages.

    Raises:
        HalflingError: The documents cannot be read, or none of them is kept.
    """
    if cache.exists():
        found = _read(cache)
        if found.whole or (quota is not None and int(found.sizes.sum()) >= quota):
            return found
    digests, sizes, source_bytes, kept, whole = [], [], 0, 0, False
    documents = iter(documents)
    while quota is None or kept < quota:
        raw = next(documents, None)
        if raw is None:
            whole = True
            break
        source_bytes += len(raw.encode())
        if cleaned := cleaner.clean(raw):
            text, digest = cleaned
            digests.append(digest)
            sizes.append(len(text.encode()))
            kept += sizes[-1]
    dropped = dict(sorted(cleaner.dropped.items()))
    if not sizes:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise HalflingError(f"{where}: cleaning leaves no document ({reasons}): loosen it or leave the language out")
    found = Survey(np.array(digests, np.uint64), np.array(sizes, np.int64), source_bytes, dropped, whole)
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
            whole=found.whole,
            reasons=np.array(list(found.dropped), np.str_),
            dropped=np.array(list(found.dropped.values()), np.int64),
        )


def _read(path: Path) -> Survey:
    with np.load(path) as saved:
        dropped = dict(zip(saved["reasons"].tolist(), saved["dropped"].tolist(), strict=True))
        return Survey(saved["digests"], saved["sizes"], int(saved["source_bytes"]), dropped, bool(saved["whole"]))
