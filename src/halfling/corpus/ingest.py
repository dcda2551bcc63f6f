"""The first reading of a language: its documents are cleaned, and those that may be drawn are kept on disk."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import xxhash
from jaxtyping import Int64
from pydantic import ConfigDict, Field

from halfling.corpus.filters.clean import Cleaner, Kept, Rejected, as_bytes
from halfling.corpus.partition import Partition
from halfling.corpus.split import seeded_keys
from halfling.records import Record

RUN_BYTES = 32 * 2**20
"""Text that is held before it is written to disk; a part, read back, is about as large."""
_BATCH_CHARACTERS = 2**19
_MIN_PARTS, _MAX_PARTS = 256, 4096
_MAX_LEVEL = 40

_ONE_CLEANS = Lock()
"""Cleaning holds Python's lock, but lets go of it for a moment at every document. A second thread that takes it then
costs both more than it gains; it had better read or write meanwhile."""

REJECTED = pa.schema({"lang": pa.string(), "reason": pa.string(), "text": pa.string()})


class State(Record):
    """How far a language has been read; the file is `state.json`, written after each run.

    A document's level is the number of zero bits that its seeded hash begins with: one document in 2^l is of level
    l or above. Counts stand under the level of the documents counted, so that they can be had for any level.
    This is adaptive sampling (Flajolet 1990, https://doi.org/10.1007/BF02241657), by bytes instead of by number.
    """

    model_config = ConfigDict(frozen=False)

    num_runs: int = 0
    num_parts: int = 1
    documents: int = Field(0, description="read of the source")
    source_bytes: int = Field(0, description="of these, before cleaning")
    level: int = Field(0, description="documents below are not drawn")
    ended: bool = Field(False, description="the source was read to its end")
    kept_bytes: Counter[int] = Field(default_factory=Counter, description="level -> bytes after cleaning")
    dropped: dict[int, Counter[str]] = Field(default_factory=dict, description="level -> reason -> documents")
    repeated_lines: Counter[int] = Field(default_factory=Counter, description="level -> lines taken out")

    def total(self, by_level: Counter[int], level: int | None = None) -> int:
        """Return the sum of what is counted at documents of `level` and above; without, at those that may be drawn."""
        least = self.level if level is None else level
        return sum(number for each, number in by_level.items() if each >= least)


class Gatherer:
    """Reads one language, and can be asked to read further. What it has read survives `kill -9`."""

    def __init__(
        self, folder: Path, code: str, cleaner: Cleaner, *, seed: int, sampled: bool, keep_rejected: bool
    ) -> None:
        """Keep everything in `folder`, and go on from what is there.

        Args:
            folder: Of this language alone.
            code: The language.
            cleaner: Of this language.
            seed: Of the hash that documents are sampled and sorted by.
            sampled: Whether documents are left out by their hash, once more than enough have come.
            keep_rejected: Whether what cleaning drops is kept too.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.json"
        self.state = State.read(self._file) if self._file.exists() else State()
        self._folder = folder
        self._code = code
        self._cleaner = cleaner
        self._seed = seed
        self._sampled = sampled
        self._keep_rejected = keep_rejected
        self._run = _Run()

    @property
    def documents(self) -> Partition:
        """What was kept, by seeded key: `digest`, `level`, `size` (bytes), `long_lines` (number), `text`."""
        return Partition(self._folder, "documents", self.state.num_runs, self.state.num_parts)

    @property
    def lines(self) -> Partition:
        """The long lines of what was kept, by their digest: `line`, `digest` (the document's), `level`, `size`."""
        return Partition(self._folder, "lines", self.state.num_runs, self.state.num_parts)

    @property
    def rejected(self) -> Partition:
        """What was not kept, in the order of the source: `lang`, `reason`, `text`."""
        return Partition(self._folder, "rejected", self.state.num_runs, 1)

    def read(self, documents: Iterator[str], target: int, expected: int) -> None:
        """Read on, to the end or (unless sampling) until `target` bytes are kept in all.

        Args:
            documents: What the source holds after the `state.documents` that were read.
            target: Bytes to keep; sampling goes through everything and keeps up to about twice as many.
            expected: A guess at the bytes to keep, for the size of parts; the result does not depend on it.
        """
        # Small quotas in small steps: what is read beyond a quota was fetched for nothing.
        step = _BATCH_CHARACTERS if self._sampled else min(_BATCH_CHARACTERS, max(2**11, target // 256))
        state = self.state
        for texts in _batches(documents, step):
            with _ONE_CLEANS:
                self._take(texts, target)
            if self._run.bytes >= RUN_BYTES:
                self._write(expected)
            if not self._sampled and state.total(state.kept_bytes) >= target:
                break
        else:
            state.ended = True  # not before: a run that is written on the way is not the last
        self._write(expected if state.num_runs or not state.ended else 0)

    def _take(self, texts: list[str], target: int) -> None:
        """Clean a batch, and count it."""
        state, run = self.state, self._run
        raws = list(map(as_bytes, texts))
        state.documents += len(texts)
        state.source_bytes += sum(map(len, raws))
        levels = [0] * len(texts)
        if self._sampled:
            levels = [min(_MAX_LEVEL, 64 - xxhash.xxh3_64_intdigest(raw, self._seed).bit_length()) for raw in raws]
            if state.level:
                drawn = [place for place, level in enumerate(levels) if level >= state.level]
                texts, raws = [texts[place] for place in drawn], [raws[place] for place in drawn]
                levels = [levels[place] for place in drawn]
        for level, raw, cleaned in zip(levels, raws, self._cleaner.clean(texts, raws), strict=True):
            if isinstance(cleaned, Rejected):
                state.dropped.setdefault(level, Counter())[cleaned.reason] += 1
                if self._keep_rejected:
                    run.rejected.append(cleaned)
                    run.bytes += len(raw)
            else:
                run.add(cleaned, level)
                state.kept_bytes[level] += len(cleaned.text)
                if cleaned.repeated:
                    state.repeated_lines[level] += cleaned.repeated
        while self._sampled and state.level < _MAX_LEVEL and state.total(state.kept_bytes, state.level + 1) >= target:
            state.level += 1

    def _write(self, expected: int) -> None:
        """Write what waits as a run; then, and only then, the state that knows of it."""
        state, run = self.state, self._run
        if state.num_runs == 0 and expected:
            parts = 1 << max(0, expected // RUN_BYTES).bit_length()
            state.num_parts = min(_MAX_PARTS, max(_MIN_PARTS, parts))
        number = state.num_runs
        documents, lines = run.documents(), run.lines()
        self.documents.write(number, documents, seeded_keys(documents["digest"].to_numpy(), self._seed))
        self.lines.write(number, lines, lines["line"].to_numpy())
        if self._keep_rejected:
            rejected = run.rejections(self._code)
            self.rejected.write(number, rejected, np.zeros(len(rejected), np.uint64))
        state.num_runs += 1
        state.write(self._file)
        self._run = _Run()


class _Run:
    """What waits to be written, by column."""

    def __init__(self) -> None:
        self.bytes = 0
        self.rejected: list[Rejected] = []
        self._digests: list[int] = []
        self._levels: list[int] = []
        self._texts: list[bytes] = []
        self._num_lines: list[int] = []
        self._lines: list[int] = []
        self._line_sizes: list[int] = []

    def add(self, kept: Kept, level: int) -> None:
        self.bytes += len(kept.text)
        self._digests.append(kept.digest)
        self._levels.append(level)
        self._texts.append(kept.text)
        self._num_lines.append(len(kept.lines))
        self._lines += kept.lines
        self._line_sizes += kept.line_sizes

    def documents(self) -> pa.Table:
        sizes = np.fromiter(map(len, self._texts), np.int64, len(self._texts))
        return pa.table(
            {
                "digest": np.array(self._digests, np.uint64),
                "level": np.array(self._levels, np.uint8),
                "size": sizes,
                "long_lines": np.array(self._num_lines, np.int64),
                "text": _binary(self._texts, sizes),
            }
        )

    def lines(self) -> pa.Table:
        owners = np.repeat(np.arange(len(self._digests)), self._num_lines)
        return pa.table(
            {
                "line": np.array(self._lines, np.uint64),
                "digest": np.array(self._digests, np.uint64)[owners],
                "level": np.array(self._levels, np.uint8)[owners],
                "size": np.array(self._line_sizes, np.int64),
            }
        )

    def rejections(self, code: str) -> pa.Table:
        # A lone surrogate, which UTF-8 cannot write, shows as a question mark.
        texts = [each.text.encode("utf-8", "replace") for each in self.rejected]
        return rejections(code, [each.reason for each in self.rejected], pa.array(texts, pa.binary()))


def _binary(texts: list[bytes], sizes: Int64[np.ndarray, " texts"]) -> pa.BinaryArray:
    # Of a list, `pa.array` takes six times as long.
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))])


def rejections(code: str, reasons: list[str], texts: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return rows of documents of the language `code` that were dropped: `lang`, `reason`, `text`."""
    return pa.table([pa.repeat(code, len(reasons)), pa.array(reasons, pa.string()), texts.cast(pa.string())], REJECTED)


def _batches(documents: Iterator[str], characters: int) -> Iterator[list[str]]:
    """Yield the documents in batches of about so many characters."""
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
