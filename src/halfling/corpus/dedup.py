"""The second reading: of what was ingested of a language, duplicates go, the rest comes in the seeded order."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

from halfling.corpus.digests import line_digest, seeded_keys
from halfling.corpus.ingest import Ingest
from halfling.corpus.partition import Partition

_RUN_ROWS = 2**20


class Distinct(NamedTuple):
    """The different documents of one part, in the order of their keys."""

    rows: Int64[np.ndarray, " documents"]  # where they stand in the part as it was ingested
    digests: UInt64[np.ndarray, " documents"]  # as they were ingested
    sizes: Int64[np.ndarray, " documents"]  # bytes, without the lines that are taken out
    lost: Int64[np.ndarray, " documents"]  # lines that are taken out
    stays: Bool[np.ndarray, " documents"]  # False: no long line is left of those that it had
    num_copies: int  # further copies of documents


class Deduplicated:
    """What a language can give, a part at a time.

    Of equal documents one stays. Of equal long lines that one stays whose document comes first in the seeded order:
    the first documents of that order, however many, are therefore without duplicates among themselves, and the order
    of arrival does not matter. A document that loses lines stays while it keeps a long one, which no other document
    has; so documents that were different do not become equal.
    """

    def __init__(self, ingested: Ingest, num_loss_runs: int | None = None) -> None:
        """Find the duplicate lines, and list them on disk, in so many runs; `num_loss_runs` says that this is done."""
        self._documents = ingested.documents
        self._lines = ingested.lines
        self._level = ingested.state.level
        self._seed = ingested.settings.seed
        self._losses = Partition(ingested.folder, "losses", num_loss_runs or 0, ingested.state.num_parts)
        if num_loss_runs is None:
            self._find_losses()

    @property
    def num_loss_runs(self) -> int:
        """The runs that hold the duplicate lines."""
        return self._losses.num_runs

    def sizes(self) -> Iterator[Distinct]:
        """Yield all parts in the order of their keys, without reading texts."""
        for part in range(self._documents.num_parts):
            yield self._distinct(self._documents.read(part, ["digest", "level", "size", "long_lines"]), part)

    def texts(self) -> Iterator[tuple[Distinct, pa.BinaryArray]]:
        """Yield all parts in the order of their keys, each with the texts of the distinct documents."""
        for part in range(self._documents.num_parts):
            found = self._documents.read(part)
            distinct = self._distinct(found, part)
            texts = found["text"].combine_chunks().take(pa.array(distinct.rows))
            yield distinct, self._shorten(texts, distinct, part)

    def _distinct(self, found: pa.Table, part: int) -> Distinct:
        drawn = np.flatnonzero(found["level"].to_numpy() >= self._level)
        digests = found["digest"].to_numpy()[drawn]
        keys = seeded_keys(digests, self._seed)
        order = np.argsort(keys, kind="stable")
        first = ~_repeats(keys[order])
        rows = drawn[order[first]]
        digests = found["digest"].to_numpy()[rows]
        sizes = found["size"].to_numpy()[rows]
        lost = np.zeros(len(rows), np.int64)
        losses = self._read_losses(part)
        if losses is not None and len(losses):
            by_digest = np.argsort(digests)
            owners = by_digest[np.searchsorted(digests, losses["digest"].to_numpy(), sorter=by_digest)]
            sizes = sizes.copy()
            np.subtract.at(sizes, owners, losses["size"].to_numpy() + 1)  # and its line break
            np.add.at(lost, owners, 1)
        stays = (lost == 0) | (lost < found["long_lines"].to_numpy()[rows])
        return Distinct(rows, digests, sizes, lost, stays, len(drawn) - len(rows))

    def _shorten(self, texts: pa.BinaryArray, distinct: Distinct, part: int) -> pa.BinaryArray:
        changed = np.flatnonzero((distinct.lost > 0) & distinct.stays).tolist()
        losses = self._read_losses(part)
        if not changed or losses is None:
            return texts
        lost: dict[int, set[int]] = {}
        for digest, line in zip(losses["digest"].to_pylist(), losses["line"].to_pylist(), strict=True):
            lost.setdefault(digest, set()).add(line)
        content = texts.to_pylist()
        for place in changed:
            gone = lost[int(distinct.digests[place])]
            content[place] = b"\n".join(line for line in content[place].split(b"\n") if line_digest(line) not in gone)
        return pa.array(content, pa.binary())

    def _read_losses(self, part: int) -> pa.Table | None:
        return self._losses.read(part) if self._losses.num_runs else None

    def _find_losses(self) -> None:
        """Write down which document loses which line."""
        waiting: list[pa.Table] = []
        for part in range(self._documents.num_parts):
            lines = self._lines.read(part)
            drawn = np.flatnonzero(lines["level"].to_numpy() >= self._level)
            drawn = drawn[np.argsort(lines["line"].to_numpy()[drawn], kind="stable")]
            again = _repeats(lines["line"].to_numpy()[drawn])
            # Most lines are alone: only those that are not are worth sorting by their documents' keys.
            shared = drawn[again | np.append(again, False)[1:]]
            line, keys = lines["line"].to_numpy()[shared], seeded_keys(lines["digest"].to_numpy()[shared], self._seed)
            order = np.lexsort((keys, line))
            # The first document keeps the line. A copy of a document follows it and is no document of its own.
            lost = _repeats(line[order]) & ~_repeats(line[order], keys[order])
            if lost.any():
                waiting.append(lines.select(["digest", "line", "size"]).take(pa.array(shared[order[lost]])))
            if sum(map(len, waiting)) >= _RUN_ROWS:
                self._write_losses(waiting)
                waiting = []
        if waiting:
            self._write_losses(waiting)

    def _write_losses(self, waiting: list[pa.Table]) -> None:
        losses = pa.concat_tables(waiting).combine_chunks()
        keys = seeded_keys(losses["digest"].to_numpy(), self._seed)
        self._losses.write(self._losses.num_runs, losses, keys)
        self._losses.num_runs += 1


def _repeats(*columns: UInt64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """Return where a row equals the one before it."""
    same = np.zeros(len(columns[0]), dtype=bool)
    same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return same
