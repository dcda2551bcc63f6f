"""The corpus on disk: `chunk-{n}/{code}.parquet`, a document a row."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64

from halfling.errors import HalflingError

SCHEMA = pa.schema([("id", pa.string()), ("lang", pa.string()), ("text", pa.string()), ("chunk", pa.int32())])
_CHUNK = re.compile("chunk-([1-9][0-9]*)")
_BATCH_DOCUMENTS = 1000
_GROUP_BYTES = 4 * 2**20
_FEW_DOCUMENTS = 64  # a document may be four megabytes long


class Document(NamedTuple):
    """One document of the corpus; its id is its language and the digest of its text."""

    id: str
    lang: str
    text: str


def document_id(code: str, digest: int) -> str:
    """Return the id of the document in `code` whose text has this 64-bit digest."""
    return f"{code}-{digest:016x}"


def digest_of(identifier: str) -> int:
    """Return the 64-bit digest that a document's id names.

    Raises:
        ValueError: This is no document's id.
    """
    return int(identifier.rpartition("-")[2], 16)


def chunk_folder(corpus: Path, number: int) -> Path:
    """Return the folder of chunk `number` (from 1), there or not."""
    return corpus / f"chunk-{number}"


def chunk_numbers(corpus: Path) -> list[int]:
    """Return the numbers of the chunks that lie in `corpus`, ascending.

    Raises:
        HalflingError: There is none.
    """
    names = [path.name for path in corpus.glob("chunk-*") if path.is_dir()]
    numbers = sorted(int(found[1]) for name in names if (found := _CHUNK.fullmatch(name)))
    if not numbers:
        raise HalflingError(f"{corpus}: holds no chunk-1, chunk-2 ...: build the corpus first")
    return numbers


def chunk_languages(chunk: Path) -> list[str]:
    """Return the codes of the languages of one chunk, sorted."""
    return sorted(path.stem for path in chunk.glob("*.parquet"))


class ChunkWriter(AbstractContextManager["ChunkWriter"]):
    """Writes one Parquet file of the corpus; its row groups follow from the documents, not from how they come."""

    def __init__(self, path: Path, code: str, number: int) -> None:
        """Begin to write `path`, documents of the language `code` in chunk `number`."""
        self._code = code
        self._number = number
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._writer = pq.ParquetWriter(
            path,
            SCHEMA,
            compression="zstd",
            use_dictionary=["lang", "chunk"],  # ids and texts are all different
            write_statistics=False,  # the smallest and largest text in full, and nobody asks for them
            write_page_checksum=True,
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what waits, unless something went wrong, and close the file."""
        if kind is None and (self._waiting or not self._bytes):
            self._flush()
        self._writer.close()

    def add(
        self,
        digests: UInt64[np.ndarray, " documents"],
        texts: pa.BinaryArray,
        sizes: Int64[np.ndarray, " documents"],
    ) -> None:
        """Add documents: the digests of their texts, the texts in UTF-8, their bytes."""
        ids = pa.array([document_id(self._code, digest) for digest in digests.tolist()], pa.string())
        chunk = pa.repeat(pa.scalar(self._number, pa.int32()), len(ids))
        rows = pa.table([ids, pa.repeat(self._code, len(ids)), texts.cast(pa.string()), chunk], schema=SCHEMA)
        totals = np.cumsum(sizes) + self._bytes
        # A row group ends with the document that fills it.
        ends = np.flatnonzero(np.diff(totals // _GROUP_BYTES, prepend=self._bytes // _GROUP_BYTES)) + 1
        begin = 0
        for end in ends.tolist():
            self._waiting.append(rows.slice(begin, end - begin))
            self._flush()
            begin = end
        if begin < len(rows):
            self._waiting.append(rows.slice(begin))
        self._bytes += int(sizes.sum())

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting).combine_chunks() if self._waiting else SCHEMA.empty_table()
        self._writer.write_table(rows)
        self._waiting = []


def read_batches(path: Path) -> Iterator[list[Document]]:
    """Yield the documents of one Parquet file, up to a thousand at a time.

    Raises:
        HalflingError: The file is missing, damaged, or not a part of a corpus.
    """
    for batch in _read(path, _BATCH_DOCUMENTS, list(Document._fields)):
        if any(column.null_count for column in batch.columns):
            raise HalflingError(f"{path}: a document without id, lang or text: build the corpus again")
        yield list(map(Document._make, zip(*(column.to_pylist() for column in batch.columns), strict=True)))


def read_texts(path: Path, batch_bytes: int = 4 * 2**20) -> Iterator[pa.StringArray]:
    """Yield the texts of one Parquet file as Arrow holds them, about `batch_bytes` at a time.

    Raises:
        HalflingError: The file is missing, damaged, or not a part of a corpus.
    """
    waiting: list[pa.StringArray] = []
    size = 0
    for batch in _read(path, _FEW_DOCUMENTS, ["text"]):
        waiting.append(batch["text"])
        size += batch["text"].nbytes
        if size >= batch_bytes:
            yield pa.concat_arrays(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.concat_arrays(waiting)


def _read(path: Path, num_documents: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield some documents at a time; never of two row groups, which are what bounds their bytes."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.schema_arrow != SCHEMA:
                raise HalflingError(f"{path}: columns are {file.schema_arrow.names}, not {SCHEMA.names}")
            for number in range(file.num_row_groups):
                yield from file.iter_batches(num_documents, row_groups=[number], columns=columns)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise HalflingError(f"{path}: cannot be read ({reason}): build the corpus again") from error
