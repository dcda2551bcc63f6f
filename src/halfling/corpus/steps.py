"""The two steps of one language, each of them a task that can run anywhere and be run again.

`ingest` reads the source until a quota is sure to be met; `split` writes the chunks. Both leave a record of what they
found, and do nothing where it stands. A task that was killed goes on where it stood; two at the same language wait
for each other. Nothing depends on who runs it, on which machine, in what company.
"""

import contextlib
import fcntl
import itertools
import resource
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from halfling.bounds import Part
from halfling.corpus.dedup import Deduplicated
from halfling.corpus.digests import digest64
from halfling.corpus.ingest import Ingest, IngestSettings
from halfling.corpus.partition import open_files
from halfling.corpus.sources import Source
from halfling.corpus.split import Splitter
from halfling.corpus.store import ChunkWriter, chunk_folder
from halfling.errors import HalflingError
from halfling.files import whole_file
from halfling.records import Record


class StepSettings(IngestSettings):
    """What the tasks of a language are told."""

    chunks: Part = Field(5, description="language-aligned parts; an epoch of distillation reads one")


_OTHER_FILES = 40
"""That a process has open: libraries, pipes, what it was given."""


def require_open_files(chunks: int) -> None:
    """Refuse more chunks than a process may have open at the same time, beside the two partitions it reads.

    Raises:
        HalflingError: There are too many.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = allowed - 2 * open_files() - _OTHER_FILES
    if allowed != resource.RLIM_INFINITY and chunks > most:
        raise HalflingError(
            f"chunks: {chunks}, but {allowed} files may be open here (ulimit -n), enough for {max(0, most)}: "
            "take fewer chunks, or raise the limit"
        )


@dataclass(frozen=True)
class Job:
    """What the tasks of one corpus share.

    Attributes:
        source: Where documents come from.
        out: Folder of the corpus; `out/work/{code}` is a task's own.
    """

    source: Source
    out: Path
    settings: StepSettings

    def folder(self, code: str) -> Path:
        """Return where the tasks of a language work."""
        return self.out / "work" / code


class Ingested(Record):
    """What `ingest` found; the file is `ingested.json`."""

    source_bytes: int
    available_bytes: int = Field(description="that can be drawn, after cleaning and de-duplication")
    exhausted: bool = Field(description="there is no more in the source")
    dropped: dict[str, int] = Field(description="reason -> documents")
    dropped_lines: dict[str, int] = Field(description="reason -> lines taken out of documents that stay")
    mended: dict[str, int] = Field(description="change -> documents in which it was made, copies included")
    num_loss_runs: int


class Split(Record):
    """What `split` wrote; the file is `split.json`."""

    quota: int
    documents: tuple[int, ...] = Field(description="by chunk")
    bytes: tuple[int, ...] = Field(description="by chunk")


def ingest(job: Job, code: str, quota: int) -> Ingested:
    """Read a language until `quota` bytes of clean text are there, or there is no more, and return what was found.

    Raises:
        HalflingError: The source cannot be read, or cleaning leaves nothing of it.
    """
    with _alone(job.folder(code)):
        return _ingest(job, code, quota)


def split(job: Job, code: str, quota: int) -> Split:
    """Write a language's part of every chunk, `quota` bytes at most but at least one document, and return counts."""
    folder, record = job.folder(code) / "ingested", job.folder(code) / "split.json"
    paths = [chunk_folder(job.out, number) / f"{code}.parquet" for number in range(1, job.settings.chunks + 1)]
    with _alone(job.folder(code)):
        if record.exists() and all(path.exists() for path in paths):
            done = Split.read(record)
            if done.quota == quota:
                return done
        record.unlink(missing_ok=True)
        for path in paths:
            path.parent.mkdir(exist_ok=True)
        if not folder.exists():  # split before, and a file was lost since
            (job.folder(code) / "ingested.json").unlink()
        num_loss_runs = _ingest(job, code, quota).num_loss_runs
        done = _write(code, Deduplicated(Ingest(folder, code, job.settings), num_loss_runs), quota, paths)
        done.write(record)
        shutil.rmtree(folder)
        return done


def _ingest(job: Job, code: str, quota: int) -> Ingested:
    folder, record, sampled = job.folder(code) / "ingested", job.folder(code) / "ingested.json", job.settings.sampled
    if record.exists():
        found = Ingested.read(record)
        if found.exhausted or found.available_bytes >= quota:
            return found
        record.unlink()
        if sampled:  # too few were let through: begin again, with more
            shutil.rmtree(folder)
    expected = min(2 * quota, 2 * job.source.text_bytes(code))
    target = quota + quota // (4 if sampled else 256)
    stream: Iterator[str] | None = None
    while True:
        language = Ingest(folder, code, job.settings)
        if not language.state.ended:
            if stream is None:
                stream = itertools.islice(job.source.documents(code), language.state.documents, None)
            language.read(stream, target, expected)
        found = _found(language)
        if found.exhausted or found.available_bytes >= quota:
            break
        target += quota - found.available_bytes + quota // 16
        if language.state.ended:  # a sample that lost more to duplicates than was foreseen
            shutil.rmtree(folder)
            stream = None
    if not found.available_bytes:
        reasons = ", ".join(f"{number} {reason}" for reason, number in found.dropped.items())
        place = job.source.place(code)
        raise HalflingError(f"{place}: cleaning leaves no document ({reasons}): loosen it or leave the language out")
    found.write(record)
    if sampled:
        job.source.forget(code)  # the copy of a whole file, 82 GB of English; what was drawn waits in `ingested`
    return found


def _found(language: Ingest) -> Ingested:
    """Count what can be drawn."""
    state, distinct = language.state, Deduplicated(language)
    dropped = state.sums(state.dropped)
    lines = Counter({"repeated": state.total(state.repeated_lines)})
    available = 0
    for part in distinct.sizes():
        available += int(part.sizes[part.stays].sum())
        dropped["duplicate"] += part.num_copies
        dropped["duplicate_lines"] += int((~part.stays).sum())
        lines["duplicate"] += int(part.lost[part.stays].sum())
    return Ingested(
        source_bytes=state.source_bytes,
        available_bytes=available,
        exhausted=state.ended and state.level == 0,
        dropped={reason: number for reason, number in sorted(dropped.items()) if number},
        dropped_lines={reason: number for reason, number in sorted(lines.items()) if number},
        mended=dict(sorted(state.sums(state.mended).items())),
        num_loss_runs=distinct.num_loss_runs,
    )


def _write(code: str, distinct: Deduplicated, quota: int, paths: list[Path]) -> Split:
    splitter = Splitter(len(paths), quota)
    documents, sizes = [0] * len(paths), [0] * len(paths)
    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(whole_file(path)) for path in paths]
        writers = [stack.enter_context(ChunkWriter(each, code, n)) for n, each in enumerate(partials, start=1)]
        for part, texts in distinct.texts():
            stays = np.flatnonzero(part.stays)
            chunk_of = splitter.deal(part.sizes[stays])
            digests = part.digests.copy()
            for place in np.flatnonzero((part.lost > 0) & part.stays).tolist():
                digests[place] = digest64(texts[place].as_py())
            for number, writer in enumerate(writers):
                places = stays[: len(chunk_of)][chunk_of == number]
                writer.add(digests[places], texts.take(pa.array(places)), part.sizes[places])
                documents[number] += len(places)
                sizes[number] += int(part.sizes[places].sum())
            if splitter.full:
                break
    return Split(quota=quota, documents=tuple(documents), bytes=tuple(sizes))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for the right to work in `folder`; the system takes it back from a killed process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
