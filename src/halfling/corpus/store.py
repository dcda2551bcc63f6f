"""The corpus on disk: `chunk-{n}/{code}.parquet`, a document a row."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from halfling.errors import HalflingError
from halfling.files import whole_file

SCHEMA = pa.schema([("id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
_BATCH_DOCUMENTS = 1000


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
    names = [path.name.removeprefix("chunk-") for path in corpus.glob("chunk-*") if path.is_dir()]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    if not numbers:
        raise HalflingError(f"{corpus}: holds no chunk-1, chunk-2 ...: build the corpus first")
    return numbers


def chunk_languages(chunk: Path) -> list[str]:
    """Return the codes of the languages of one chunk, sorted."""
    return sorted(path.stem for path in chunk.glob("*.parquet"))


def write_chunks(paths: list[Path], rows: Iterable[tuple[int, Document]]) -> None:
    """Write each document to the file that its number (from 0) names; every file appears whole at the end."""
    with contextlib.ExitStack() as stack:
        writers = []
        for path in paths:
            partial = stack.enter_context(whole_file(path))
            writer = pq.ParquetWriter(
                partial,
                SCHEMA,
                compression="zstd",
                use_dictionary=["lang"],  # ids and texts are all different
                write_statistics=False,  # the smallest and largest text in full, and nobody asks for them
                write_page_checksum=True,
            )
            writers.append(stack.enter_context(writer))
        waiting: list[list[Document]] = [[] for _ in paths]
        for number, document in rows:
            waiting[number].append(document)
            if len(waiting[number]) == _BATCH_DOCUMENTS:
                writers[number].write_table(_table(waiting[number]))
                waiting[number] = []
        for writer, documents in zip(writers, waiting, strict=True):
            writer.write_table(_table(documents))


def _table(documents: list[Document]) -> pa.Table:
    columns = zip(*documents, strict=True) if documents else ((), (), ())
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def read_batches(path: Path) -> Iterator[list[Document]]:
    """Yield the documents of one Parquet file, up to a thousand at a time.

    Raises:
        HalflingError: The file is missing, damaged, or not a part of a corpus.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.schema_arrow != SCHEMA:
                raise HalflingError(f"{path}: columns are {file.schema_arrow.names}, not {SCHEMA.names}")
            for batch in file.iter_batches(_BATCH_DOCUMENTS):
                columns = (column.to_pylist() for column in batch.columns)
                yield [Document(*row) for row in zip(*columns, strict=True)]
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise HalflingError(f"{path}: cannot be read ({reason}): build the corpus again") from error
