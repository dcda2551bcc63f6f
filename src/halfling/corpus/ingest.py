"""The first reading of a language: its documents are filtered, and those that may be drawn are kept on disk."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import ConfigDict, Field

from halfling.bounds import Seed
from halfling.corpus.digests import seeded_keys
from halfling.corpus.filters.clean import Cleaner, CleanSettings, Kept
from halfling.corpus.partition import Partition
from halfling.corpus.sources import SourceSettings
from halfling.languages import CC100
from halfling.records import Record

RUN_BYTES = 32 * 2**20
"""Text that is held before it is written to disk; a part, read back, is about as large."""
_BATCH_CHARACTERS = 2**19
_MIN_PARTS, _MAX_PARTS = 256, 4096
_MAX_LEVEL = 40


class IngestSettings(SourceSettings):
    """What is read of a source, and what of it stays."""

    clean: CleanSettings = Field(default_factory=CleanSettings, description="what a document must be like to stay")
    seed: Seed = Field(0, description="decides which documents are taken and where they go")


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
    mended: dict[int, Counter[str]] = Field(default_factory=dict, description="level -> change -> documents that stay")

    def total(self, by_level: Counter[int], level: int | None = None) -> int:
        """Return the sum of what is counted at documents of `level` and above; without, at those that may be drawn."""
        least = self.level if level is None else level
        return sum(number for each, number in by_level.items() if each >= least)

    def sums(self, by_level: dict[int, Counter[str]]) -> Counter[str]:
        """Return what is counted by name, at documents that may be drawn."""
        return sum((counted for each, counted in by_level.items() if each >= self.level), Counter[str]())


class Ingest:
    """Reads one language, and can be asked to read further. What it has read survives `kill -9`."""

    def __init__(self, folder: Path, code: str, settings: IngestSettings) -> None:
        """Keep everything in `folder`, which is this language's alone, and go on from what is there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.json"
        self.state = State.read(self._file) if self._file.exists() else State()
        self.folder, self._code, self.settings = folder, code, settings
        self._waiting: list[tuple[int, Kept]] = []
        self._bytes = 0

    @property
    def documents(self) -> Partition:
        """What was kept, by seeded key: `digest`, `level`, `size` (bytes), `long_lines` (number), `text`."""
        return Partition(self.folder, "documents", self.state.num_runs, self.state.num_parts)

    @property
    def lines(self) -> Partition:
        """The long lines of what was kept, by their digest: `line`, `digest` (the document's), `level`, `size`."""
        return Partition(self.folder, "lines", self.state.num_runs, self.state.num_parts)

    def read(self, documents: Iterator[str], target: int, expected: int) -> None:
        """Read on, to the end or (unless sampling) until `target` bytes are kept in all.

        Args:
            documents: What the source holds after the `state.documents` that were read.
            target: Bytes to keep; sampling goes through everything and keeps up to about twice as many.
            expected: A guess at the bytes to keep, for the size of parts; the result does not depend on it.
        """
        # Small quotas in small steps: what is read beyond a quota was fetched for nothing.
        step = _BATCH_CHARACTERS if self.settings.sampled else min(_BATCH_CHARACTERS, max(2**11, target // 256))
        cleaner = Cleaner(self.settings.clean, CC100[self._code].scripts)
        state = self.state
        for texts in _batches(documents, step):
            self._take(texts, target, cleaner)
            if self._bytes >= RUN_BYTES:
                self._write(expected)
            if not self.settings.sampled and state.total(state.kept_bytes) >= target:
                break
        else:
            state.ended = True  # not before: a run that is written on the way is not the last
        self._write(expected if state.num_runs or not state.ended else 0)

    def _take(self, texts: list[str], target: int, cleaner: Cleaner) -> None:
        """Clean a batch, and count it."""
        state, seed = self.state, self.settings.seed
        # A lone surrogate, which mending takes out, passes.
        raws = [text.encode("utf-8", "surrogatepass") for text in texts]
        state.documents += len(texts)
        state.source_bytes += sum(map(len, raws))
        levels = [0] * len(texts)
        if self.settings.sampled:
            levels = [min(_MAX_LEVEL, 64 - xxhash.xxh3_64_intdigest(raw, seed).bit_length()) for raw in raws]
        drawn = [place for place, level in enumerate(levels) if level >= state.level]
        for place, cleaned in zip(drawn, cleaner.clean([texts[place] for place in drawn]), strict=True):
            level = levels[place]
            if isinstance(cleaned, str):
                state.dropped.setdefault(level, Counter())[cleaned] += 1
            else:
                self._waiting.append((level, cleaned))
                self._bytes += len(cleaned.text)
                state.kept_bytes[level] += len(cleaned.text)
                if cleaned.repeated:
                    state.repeated_lines[level] += cleaned.repeated
                if cleaned.changes:
                    state.mended.setdefault(level, Counter()).update(cleaned.changes)
        while (
            self.settings.sampled
            and state.level < _MAX_LEVEL
            and state.total(state.kept_bytes, state.level + 1) >= target
        ):
            state.level += 1

    def _write(self, expected: int) -> None:
        """Write what waits as a run; then, and only then, the state that knows of it."""
        state = self.state
        if state.num_runs == 0 and expected:
            parts = 1 << max(0, expected // RUN_BYTES).bit_length()
            state.num_parts = min(_MAX_PARTS, max(_MIN_PARTS, parts))
        number = state.num_runs
        documents, lines = _tables(self._waiting)
        self.documents.write(number, documents, seeded_keys(documents["digest"].to_numpy(), self.settings.seed))
        self.lines.write(number, lines, lines["line"].to_numpy())
        state.num_runs += 1
        state.write(self._file)
        self._waiting, self._bytes = [], 0


def _tables(waiting: list[tuple[int, Kept]]) -> tuple[pa.Table, pa.Table]:
    """Return documents and their levels as the rows that `Ingest.documents` and `Ingest.lines` hold."""
    levels = np.array([level for level, _ in waiting], np.uint8)
    digests = np.array([kept.digest for _, kept in waiting], np.uint64)
    num_lines = np.array([len(kept.lines) for _, kept in waiting], np.int64)
    texts = [kept.text for _, kept in waiting]
    sizes = np.array([len(text) for text in texts], np.int64)
    # `pa.array` of a list would double its buffer until all fits.
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    documents = {
        "digest": digests,
        "level": levels,
        "size": sizes,
        "long_lines": num_lines,
        "text": pa.Array.from_buffers(pa.binary(), len(texts), buffers),
    }
    lines = {
        "line": np.array([line for _, kept in waiting for line in kept.lines], np.uint64),
        "digest": np.repeat(digests, num_lines),
        "level": np.repeat(levels, num_lines),
        "size": np.array([size for _, kept in waiting for size in kept.line_sizes], np.int64),
    }
    return pa.table(documents), pa.table(lines)


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
