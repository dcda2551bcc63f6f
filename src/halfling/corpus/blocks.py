"""Packed blocks on disk, and their reader."""

import json
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int32, Int64
from pydantic import Field

from halfling.errors import HalflingError
from halfling.records import Record

COUNTS_KEY = "halfling.counts"
"""Metadata of a blocks file: JSON, kind of count -> language -> number."""


class Block(NamedTuple):
    """One training example: whole sequences `<s> ... </s>`, one after the other."""

    input_ids: Int32[np.ndarray, " block"]
    starts: Int32[np.ndarray, " sequences"]  # where each sequence begins; the first at 0


class PackedSummary(Record):
    """What a packed corpus holds; the file is `corpus.json`."""

    block_tokens: int = Field(description="tokens of every block, special tokens included")
    vocab_size: int = Field(description="of the tokenizer that made the ids, special tokens included")
    blocks: dict[str, int] = Field(description="chunk folder -> blocks")
    tokens: dict[str, int] = Field(description="language -> tokens over all chunks, special tokens left out")


def blocks_file(packed: Path, number: int) -> Path:
    """Return the path of the blocks of chunk `number` (from 1)."""
    return packed / f"chunk-{number}" / "blocks.parquet"


def block_schema(block_tokens: int) -> pa.Schema:
    """Return the columns of a blocks file."""
    ids = pa.list_(pa.field("element", pa.int32()), block_tokens)
    return pa.schema([("lang", pa.string()), ("input_ids", ids), ("starts", pa.list_(pa.int32()))])


def file_counts(path: Path) -> dict[str, Counter[str]]:
    """Return the counts that were written into a blocks file: kind -> language -> number.

    Raises:
        HalflingError: The file is missing, damaged, or not a file of blocks.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        stored = json.loads(metadata[COUNTS_KEY.encode()])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise HalflingError(f"{path}: not a whole file of blocks ({reason}): pack the corpus again") from error
    return {kind: Counter(numbers) for kind, numbers in stored.items()}


class PackedBlocks:
    """The blocks of one chunk, by number.

    They stay in Arrow's memory, four bytes a token; reading a block copies that block alone.
    """

    def __init__(self, chunk: Path) -> None:
        """Open the blocks of the folder `chunk`, one `chunk-{n}` of a packed corpus.

        Raises:
            HalflingError: `blocks.parquet` is missing or damaged.
        """
        path = chunk / "blocks.parquet"
        try:
            table = pq.read_table(path, page_checksum_verification=True).combine_chunks()
            ids, starts = (table[name].combine_chunks() for name in ("input_ids", "starts"))
            self._ids: Int32[np.ndarray, "blocks block"] = ids.values.to_numpy().reshape(len(table), ids.type.list_size)
            self._starts: Int32[np.ndarray, " sequences"] = starts.values.to_numpy()
            self._offsets: Int32[np.ndarray, " blocks+1"] = starts.offsets.to_numpy()
            self._languages = table["lang"]
        except (OSError, pa.ArrowException, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise HalflingError(f"{path}: cannot be read ({reason}): pack the corpus again") from error

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> Block:
        """Return block `number`; its arrays are copies, the caller's to change."""
        number = range(len(self))[number]  # negative numbers count from the end, others raise IndexError
        begin, end = self._offsets[number : number + 2]
        return Block(self._ids[number].copy(), self._starts[begin:end].copy())

    @property
    def block_tokens(self) -> int:
        """The tokens of every block."""
        return self._ids.shape[1]

    @cached_property
    def languages(self) -> list[str]:
        """The language of each block."""
        return self._languages.to_pylist()

    @property
    def input_ids(self) -> Int32[np.ndarray, "blocks block"]:
        """All ids, read-only."""
        return self._ids

    def sequence_starts(self) -> tuple[Int64[np.ndarray, " sequences"], Int32[np.ndarray, " sequences"]]:
        """Return, for every sequence of the chunk, its block's number and where it begins in it."""
        return np.repeat(np.arange(len(self)), np.diff(self._offsets)), self._starts
