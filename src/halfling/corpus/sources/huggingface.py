"""A data set of Hugging Face with a text column, streamed; a row is a document."""

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from halfling import languages
from halfling.corpus.sources import SourceSettings
from halfling.errors import HalflingError
from halfling.files import whole_file

PREFIX = "hf://datasets/"
_PART_ROWS = 1000
_STATE = b"halfling.state"
"""Metadata of a part: where in the data set it ends, as `IterableDataset.state_dict` says it."""


class HuggingFaceSource:
    """Rows of a data set, copied to `cache` in parts of a thousand as far as they are read.

    Connections, their retries and reading on from a state are the data set library's own.
    """

    def __init__(self, address: str, wanted: str | Sequence[str], cache: Path, settings: SourceSettings) -> None:
        """Name the data set; nothing is fetched yet.

        Raises:
            HalflingError: A language is unknown, "all" is asked for, or `subset` is no pattern of a code.
        """
        if wanted == "all":
            raise HalflingError(f"{address}: nobody knows which languages it holds: name them (languages=...)")
        self.codes = tuple(sorted(languages.resolve(wanted)))
        self.address, self.cache = address, cache
        self.subset, self.split, self.text_column = settings.subset, settings.split, settings.text_column
        try:
            self.subset.format(code="en")
        except (KeyError, IndexError, ValueError) as error:
            raise HalflingError(
                f"subset: {self.subset!r}: write {{code}} for the language's code, no other name"
            ) from error

    def documents(self, code: str) -> Iterator[str]:
        """Yield a language's documents, fetching what is not in the cache."""
        state = None
        number = 0
        for number in itertools.count():
            path = self._part(code, number)
            if not path.exists():
                break
            table = pq.read_table(path)
            state = json.loads(table.schema.metadata[_STATE])
            yield from table["text"].to_pylist()
            if len(table) < _PART_ROWS:
                return
        for texts, reached in self._stream(code, state):
            schema = pa.schema([("text", pa.large_string())], metadata={_STATE: json.dumps(reached)})
            path = self._part(code, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                pq.write_table(pa.table([texts], schema=schema), partial, compression="zstd")
            yield from texts
            number += 1

    def text_bytes(self, code: str) -> None:
        """Nobody knows how much text a data set has."""

    def place(self, code: str) -> str:
        """Return the data set and the configuration of a language."""
        return f"{self.address} {self.subset.format(code=code)}".rstrip()

    def forget(self, code: str) -> None:
        """Delete the copies of a language."""
        shutil.rmtree(self.cache / code, ignore_errors=True)

    def _part(self, code: str, number: int) -> Path:
        return self.cache / code / f"{number:06d}.parquet"

    def _stream(self, code: str, state: dict[str, Any] | None) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """Yield rows from a state on, a thousand at a time, with the state after them; the last are fewer, or none."""
        # Here: most corpora come from CC100's files, and the library takes its time to load.
        import datasets

        name, _, revision = self.address.removeprefix(PREFIX).partition("@")
        try:
            rows = datasets.load_dataset(
                name, self.subset.format(code=code) or None, split=self.split, streaming=True, revision=revision or None
            )
            if rows.column_names is not None and self.text_column not in rows.column_names:
                found = ", ".join(rows.column_names)
                raise HalflingError(
                    f"{self.place(code)}: no column {self.text_column!r} among {found}: set text_column"
                )
            rows = rows.select_columns([self.text_column])
            if state is not None:
                rows.load_state_dict(state)
            ongoing = iter(rows)
            while True:
                texts = [row[self.text_column] or "" for row in itertools.islice(ongoing, _PART_ROWS)]
                if any(not isinstance(text, str) for text in texts):
                    raise HalflingError(f"{self.place(code)}: column {self.text_column!r} is not text: set text_column")
                yield texts, rows.state_dict()
                if len(texts) < _PART_ROWS:
                    return
        except HalflingError:
            raise
        # The libraries below raise a score of unrelated kinds: connection, HTTP, configuration, Parquet.
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise HalflingError(
                f"{self.place(code)}: cannot be streamed ({reason}): check its name, subset and split"
            ) from error
