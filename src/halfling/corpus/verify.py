"""Proof that a corpus is whole: chunks disjoint, complete and aligned."""

from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from halfling.corpus.digests import digest64
from halfling.corpus.partition import Partition
from halfling.corpus.store import chunk_folder, chunk_languages, chunk_numbers, document_id, read_batches
from halfling.errors import HalflingError
from halfling.files import sha256
from halfling.records import Manifest

_RUN_ROWS = 2**20
_PARTS = 256


def verify(corpus: Path) -> list[str]:
    """Return the faults of a corpus, a line each; an empty list says that it is whole.

    Args:
        corpus: Folder that `build_corpus` wrote. With a `manifest.json`, files and counts must be as it says.
    """
    faults: list[str] = []
    manifest = None
    try:
        if (corpus / "manifest.json").exists():
            manifest = Manifest.read(corpus / "manifest.json")
            faults += file_faults(corpus, manifest)
        numbers = chunk_numbers(corpus)
    except HalflingError as error:
        return [*faults, str(error)]
    num_chunks = manifest.settings.get("chunks", max(numbers)) if manifest else max(numbers)
    expected = [number for number in numbers if number <= num_chunks]
    for before, after in pairwise([0, *expected, num_chunks + 1]):
        if after - before > 1:
            more = f" to chunk-{after - 1}" if after - before > 2 else ""
            faults.append(f"{chunk_folder(corpus, before + 1)}{more}: missing")
    faults += [f"{chunk_folder(corpus, n)}: one chunk too many" for n in numbers if n > num_chunks]
    counted = manifest.counts.get("languages", {}) if manifest else {}
    codes = {code for number in numbers for code in chunk_languages(chunk_folder(corpus, number))}
    if not codes:
        faults.append(f"{corpus}: holds no {{code}}.parquet: not the text of a corpus")
    faults += [
        f"{corpus}: {code}: a language that the manifest does not know"
        for code in sorted(codes - set(counted))
        if manifest
    ]
    for code in sorted(codes | set(counted)):
        faults += _language_faults(corpus, code, numbers, counted.get(code))
    return faults


def file_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield a line for each file of a stage's folder that is not what its manifest says."""
    hashes = manifest.counts.get("sha256", {})
    for name, size in manifest.files.items():
        path = folder / name
        if not path.exists():
            yield f"{path}: missing"
        elif path.stat().st_size != size:
            yield f"{path}: {path.stat().st_size} bytes, but the manifest says {size}"
        elif name in hashes and sha256(path) != hashes[name]:
            yield f"{path}: its content is not what the manifest's SHA-256 says"


def _language_faults(corpus: Path, code: str, numbers: list[int], counted: dict[str, Any] | None) -> Iterator[str]:
    sizes = dict.fromkeys(numbers, 0)
    documents = dict.fromkeys(numbers, 0)
    largest = 0
    readable = True
    with TemporaryDirectory(prefix="halfling-verify-") as folder:
        repeats = _Repeats(Path(folder))
        for number in numbers:
            path = chunk_folder(corpus, number) / f"{code}.parquet"
            if not path.exists():
                yield f"{path}: missing: chunk {number} is short of a language"
                readable = False
                continue
            try:
                for document in (document for batch in read_batches(path) for document in batch):
                    # By its text, not by its id: a fault may sit in either.
                    key = digest64(document.text)
                    if document.id != document_id(code, key) or document.lang != code:
                        yield f"{path}: document {document.id}: its id or language does not fit its text"
                    repeats.add(key, number)
                    size = len(document.text.encode())
                    sizes[number] += size
                    documents[number] += 1
                    largest = max(largest, size)
            except HalflingError as error:
                yield str(error)
                readable = False
        for key, first, number in repeats.found():
            also = "twice" if first == number else f"also in chunk {first}"
            yield f"{chunk_folder(corpus, number) / code}.parquet: document {document_id(code, key)}: {also}"
    if not readable:
        return  # sums over what is left would only repeat the fault
    if max(sizes.values()) - min(sizes.values()) > largest:
        shares = ", ".join(str(size) for size in sizes.values())
        yield f"{corpus}: {code}: chunks hold {shares} bytes: more than one document ({largest}) apart"
    if counted is not None:
        for what, found in (("documents", documents), ("bytes", sizes)):
            said = {number: counted[what][number - 1] for number in numbers if number <= len(counted[what])}
            if found != said:
                yield f"{corpus}: {code}: {what} by chunk {found}, but the manifest says {said}"


class _Repeats:
    """Takes documents' digests, then says which came again; they wait on disk, some eight bytes each."""

    def __init__(self, folder: Path) -> None:
        """Begin; `folder` takes what waits."""
        self._on_disk = Partition(folder, "digests", 0, _PARTS)
        self._digests, self._chunks = array("Q"), array("q")

    def add(self, digest: int, chunk: int) -> None:
        """Take the digest of a document of a chunk; chunks come in ascending order."""
        self._digests.append(digest)
        self._chunks.append(chunk)
        if len(self._digests) == _RUN_ROWS:
            self._write()

    def found(self) -> Iterator[tuple[int, int, int]]:
        """Yield the digest of each document that came before, the chunk where it came last, and its own chunk."""
        self._write()
        for part in range(self._on_disk.num_parts):
            rows = self._on_disk.read(part)
            digests, chunks = rows["digest"].to_numpy(), rows["chunk"].to_numpy()
            order = np.argsort(digests, kind="stable")
            again = np.flatnonzero(digests[order][1:] == digests[order][:-1])
            for before, after in zip(order[again].tolist(), order[again + 1].tolist(), strict=True):
                yield int(digests[after]), int(chunks[before]), int(chunks[after])

    def _write(self) -> None:
        digests = np.array(self._digests, np.uint64)
        rows = pa.table({"digest": digests, "chunk": np.array(self._chunks, np.int64)})
        self._on_disk.write(self._on_disk.num_runs, rows, digests)
        self._on_disk.num_runs += 1
        self._digests, self._chunks = array("Q"), array("q")
