"""Tables larger than memory: written a run at a time, read back a part at a time.

A 64-bit key decides a row's part: the parts follow each other as the keys do. So a part holds all rows of its range,
from every run, and going through the parts in order, sorting each, sorts everything (an external radix sort).
"""

import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from halfling.files import whole_file

_MOST_OPEN = 128
_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("lz4"))


def open_files() -> int:
    """Return how many runs a partition keeps open: an eighth of the files that this process may open, at most 128."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if allowed == resource.RLIM_INFINITY else min(_MOST_OPEN, allowed // 8)


class Partition:
    """Rows of one kind, as runs `{name}-{number}.arrow` with a record batch for each part."""

    def __init__(self, folder: Path, name: str, num_runs: int, num_parts: int) -> None:
        """Know of `num_runs` whole runs in `folder`, each cut into `num_parts` parts, a power of two."""
        self.num_runs = num_runs
        self.num_parts = num_parts
        self._folder = folder
        self._readers: dict[tuple[int, str], pa.RecordBatchFileReader] = {}
        self._name = name

    def write(self, number: int, rows: pa.Table, keys: UInt64[np.ndarray, " rows"]) -> None:
        """Write run `number` (from 0) in place of one that may be there; within a part, rows keep their order."""
        with (
            whole_file(self._run(number), lasting=False) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, rows.schema, options=_OPTIONS) as writer,
        ):
            if self.num_parts == 1:
                writer.write_batch(_batch(rows))
                return
            parts = keys >> np.uint64(65 - self.num_parts.bit_length())
            order = np.argsort(parts, kind="stable")
            bounds = np.searchsorted(parts[order], np.arange(self.num_parts + 1, dtype=np.uint64)).tolist()
            for start, end in pairwise(bounds):
                writer.write_batch(_batch(rows.take(pa.array(order[start:end]))))

    def read(self, part: int, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of one part, run after run; `columns` leaves the others on disk."""
        readers = (self._readers.get((n, str(columns))) or self._open(n, columns) for n in range(self.num_runs))
        return pa.Table.from_batches([reader.get_batch(part) for reader in readers]).combine_chunks()

    def _open(self, number: int, columns: list[str] | None) -> pa.RecordBatchFileReader:
        file = pa.OSFile(str(self._run(number)), "rb")
        reader = pa.ipc.open_file(file)
        if columns:
            included = [reader.schema.get_field_index(name) for name in columns]
            reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=included))
        if len(self._readers) < open_files():
            self._readers[number, str(columns)] = reader
        return reader

    def _run(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:05d}.arrow"


def _batch(rows: pa.Table) -> pa.RecordBatch:
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)
