"""Which documents of a language stand more than once, in memory that does not grow with their number."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from halfling.corpus.partition import Partition

_RUN_ROWS = 2**20
_PARTS = 256


class Repeats:
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
        if not self._on_disk.num_runs:
            self._on_disk.num_parts = 1
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
