"""The two steps of one language, each of them a task that can run anywhere and be run again.

`gather` reads the source until a quota is sure to be met; `deal` writes the chunks. Both leave a record of what they
found, and do nothing where it stands. A task that was killed goes on where it stood; two at the same language wait
for each other. Nothing depends on who runs it, on which machine, in what company.
"""

import contextlib
import fcntl
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from halfling.corpus.dedup import Draw
from halfling.corpus.filters.clean import Cleaner, CleanSettings, digest64
from halfling.corpus.ingest import REJECTED, Gatherer, rejections
from halfling.corpus.sources import Source
from halfling.corpus.split import Dealer
from halfling.corpus.store import ChunkWriter, chunk_folder
from halfling.errors import HalflingError
from halfling.files import whole_file
from halfling.languages import CC100
from halfling.records import Record


@dataclass(frozen=True)
class Job:
    """What the tasks of one corpus share.

    Attributes:
        source: Where documents come from.
        out: Folder of the corpus; `out/work/{code}` is a task's own.
        chunks: Number of chunks.
        seed: Of sampling, order and chunks.
        sampled: Whether documents are drawn from the whole file, not from its head.
        clean: What a document must be like.
        keep_rejected: Whether `rejected/{code}.parquet` is written.
    """

    source: Source
    out: Path
    chunks: int
    seed: int
    sampled: bool
    clean: CleanSettings
    keep_rejected: bool

    def folder(self, code: str) -> Path:
        """Return where the tasks of a language work."""
        return self.out / "work" / code

    def source_bytes(self, wanted: Mapping[str, int]) -> int:
        """Return about how much text is to be read for the quotas `wanted`."""
        all_of_it = {code: self.text_bytes(code) for code in wanted}  # a sample is drawn from whole files
        return sum(all_of_it[code] if self.sampled else min(wanted[code], all_of_it[code]) for code in wanted)

    def text_bytes(self, code: str) -> int:
        """Return about how much text a language's source holds."""
        file = Path(self.source.place(code))
        if not file.is_file():
            return CC100[code].text_bytes
        return file.stat().st_size * (4 if file.suffix == ".xz" else 1)


class Gathered(Record):
    """What `gather` found; the file is `gathered.json`."""

    source_bytes: int
    available_bytes: int = Field(description="that can be drawn, after cleaning and de-duplication")
    exhausted: bool = Field(description="there is no more in the source")
    dropped: dict[str, int] = Field(description="reason -> documents")
    dropped_lines: dict[str, int] = Field(description="reason -> lines taken out of documents that stay")
    num_loss_runs: int


class Dealt(Record):
    """What `deal` wrote; the file is `dealt.json`."""

    quota: int
    documents: tuple[int, ...] = Field(description="by chunk")
    bytes: tuple[int, ...] = Field(description="by chunk")


def gather(job: Job, code: str, quota: int) -> Gathered:
    """Read a language until `quota` bytes of clean text are there, or there is no more, and return what was found.

    Raises:
        HalflingError: The source cannot be read, or cleaning leaves nothing of it.
    """
    with _alone(job.folder(code)):
        return _gather(job, code, quota)


def deal(job: Job, code: str, quota: int) -> Dealt:
    """Write a language's part of every chunk, `quota` bytes at most but at least one document, and return counts."""
    record = job.folder(code) / "dealt.json"
    paths = [chunk_folder(job.out, number) / f"{code}.parquet" for number in range(1, job.chunks + 1)]
    with _alone(job.folder(code)):
        if record.exists() and all(path.exists() for path in paths):
            dealt = Dealt.read(record)
            if dealt.quota == quota:
                return dealt
        record.unlink(missing_ok=True)
        for path in paths:
            path.parent.mkdir(exist_ok=True)
        if not (job.folder(code) / "gathered").exists():  # dealt before, and a file was lost since
            (job.folder(code) / "gathered.json").unlink()
        found = _gather(job, code, quota)
        draw = Draw(_gatherer(job, code), job.folder(code) / "gathered", job.seed, found.num_loss_runs)
        dealt = _write(job, code, draw, quota, paths)
        dealt.write(record)
        shutil.rmtree(job.folder(code) / "gathered")
        return dealt


def _gather(job: Job, code: str, quota: int) -> Gathered:
    folder, record = job.folder(code) / "gathered", job.folder(code) / "gathered.json"
    if record.exists():
        found = Gathered.read(record)
        if found.exhausted or found.available_bytes >= quota:
            return found
        record.unlink()
        if job.sampled:  # too few were let through: begin again, with more
            shutil.rmtree(folder)
    expected = min(2 * quota, 2 * job.text_bytes(code))
    target = quota + quota // (4 if job.sampled else 256)
    stream: Iterator[str] | None = None
    while True:
        gatherer = _gatherer(job, code)
        if not gatherer.state.ended:
            if stream is None:
                stream = itertools.islice(job.source.documents(code), gatherer.state.documents, None)
            gatherer.read(stream, target, expected)
        found = _found(job, gatherer, folder)
        if found.exhausted or found.available_bytes >= quota:
            break
        target += quota - found.available_bytes + quota // 16
        if gatherer.state.ended:  # a sample that lost more to duplicates than was foreseen
            shutil.rmtree(folder)
            stream = None
    if not found.available_bytes:
        reasons = ", ".join(f"{number} {reason}" for reason, number in found.dropped.items())
        place = job.source.place(code)
        raise HalflingError(f"{place}: cleaning leaves no document ({reasons}): loosen it or leave the language out")
    found.write(record)
    if job.sampled:
        job.source.forget(code)  # the copy of a whole file, 82 GB of English; what was drawn waits in `gathered`
    return found


def _gatherer(job: Job, code: str) -> Gatherer:
    cleaner = Cleaner(job.clean, CC100[code].scripts, code)
    return Gatherer(
        job.folder(code) / "gathered",
        code,
        cleaner,
        seed=job.seed,
        sampled=job.sampled,
        keep_rejected=job.keep_rejected,
    )


def _found(job: Job, gatherer: Gatherer, folder: Path) -> Gathered:
    """Count what can be drawn."""
    state = gatherer.state
    draw = Draw(gatherer, folder, job.seed)
    dropped = Counter[str]()
    for level, reasons in state.dropped.items():
        if level >= state.level:
            dropped.update(reasons)
    lines = Counter({"repeated": state.total(state.repeated_lines)})
    available = 0
    for settled in draw.sizes():
        available += int(settled.sizes[settled.stays].sum())
        dropped["duplicate"] += len(settled.copies)
        dropped["duplicate_lines"] += int((~settled.stays).sum())
        lines["duplicate"] += int(settled.lost[settled.stays].sum())
    return Gathered(
        source_bytes=state.source_bytes,
        available_bytes=available,
        exhausted=state.ended and state.level == 0,
        dropped={reason: number for reason, number in sorted(dropped.items()) if number},
        dropped_lines={reason: number for reason, number in sorted(lines.items()) if number},
        num_loss_runs=draw.num_loss_runs,
    )


def _write(job: Job, code: str, draw: Draw, quota: int, paths: list[Path]) -> Dealt:
    dealer = Dealer(job.chunks, quota)
    documents, sizes = [0] * job.chunks, [0] * job.chunks
    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(whole_file(path)) for path in paths]
        writers = [stack.enter_context(ChunkWriter(each, code, n)) for n, each in enumerate(partials, start=1)]
        rejects = stack.enter_context(_rejects(job, code)) if job.keep_rejected else None
        for settled, texts, gathered in draw.texts():
            stays = np.flatnonzero(settled.stays)
            chunk_of = dealer.deal(settled.sizes[stays])
            digests = settled.digests.copy()
            for place in np.flatnonzero((settled.lost > 0) & settled.stays).tolist():
                digests[place] = digest64(texts[place].as_py())
            for number, writer in enumerate(writers):
                places = stays[: len(chunk_of)][chunk_of == number]
                writer.add(digests[places], texts.take(pa.array(places)), settled.sizes[places])
                documents[number] += len(places)
                sizes[number] += int(settled.sizes[places].sum())
            if rejects:
                for reason, rows in (("duplicate", settled.copies), ("duplicate_lines", settled.rows[~settled.stays])):
                    rejects.write_table(rejections(code, [reason] * len(rows), gathered["text"].take(pa.array(rows))))
            if dealer.full:
                break
    return Dealt(quota=quota, documents=tuple(documents), bytes=tuple(sizes))


@contextlib.contextmanager
def _rejects(job: Job, code: str) -> Iterator[pq.ParquetWriter]:
    """Yield the writer of `rejected/{code}.parquet`, which begins with what cleaning dropped."""
    path = job.out / "rejected" / f"{code}.parquet"
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as partial, pq.ParquetWriter(partial, REJECTED, compression="zstd") as writer:
        for run in _gatherer(job, code).rejected.runs(0):
            writer.write_table(run)
        yield writer


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for the right to work in `folder`; the system takes it back from a killed process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
