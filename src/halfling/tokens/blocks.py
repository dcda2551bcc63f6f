"""Packed blocks on disk, `chunk-{n}/{code}.arrow`, and their reader."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, Integer
from pydantic import Field

from halfling.errors import HalflingError
from halfling.records import Record

START, PAD, END, UNKNOWN = 0, 1, 2, 3
"""XLM-R's `<s>`, `<pad>`, `</s>` and `<unk>`; its `<mask>` is the last id."""

_SMALL = 2**16
"""What 16 bits can tell apart."""


class Block(NamedTuple):
    """One training example: whole sequences `<s> ... </s>`, one after the other."""

    input_ids: Int32[np.ndarray, " block"]
    starts: Int32[np.ndarray, " sequences"]  # where each sequence begins; the first at 0


class Run(NamedTuple):
    """Neighbouring blocks of one language, in arrays; as read, these are views of the mapped file."""

    language: str
    input_ids: Integer[np.ndarray, "blocks block"]
    starts: Integer[np.ndarray, " sequences"]  # of all blocks, one after the other
    offsets: Integer[np.ndarray, " blocks+1"]  # block i's starts are `starts[offsets[i] : offsets[i + 1]]`

    def begins(self) -> tuple[Int64[np.ndarray, " sequences"], Integer[np.ndarray, " sequences"]]:
        """Return, for every sequence, its block's row in `input_ids` and where it begins in it."""
        return np.repeat(np.arange(len(self.input_ids)), np.diff(self.offsets)), self.starts


class PackedSummary(Record):
    """What a packed corpus holds; the file is `corpus.json`."""

    block_tokens: int = Field(description="tokens of every block, special tokens included")
    vocab_size: int = Field(description="of the tokenizer that made the ids, special tokens included")
    blocks: dict[str, dict[str, int]] = Field(description="chunk folder -> language -> blocks")
    tokens: dict[str, int] = Field(description="language -> tokens over all chunks, special tokens left out")


def blocks_file(packed: Path, number: int, code: str) -> Path:
    """Return the path of the blocks of chunk `number` (from 1) in one language."""
    return packed / f"chunk-{number}" / f"{code}.arrow"


def block_schema(block_tokens: int, vocab_size: int) -> pa.Schema:
    """Return the columns of a blocks file: 16-bit ids where the vocabulary allows, 32-bit otherwise."""
    id_type = pa.uint16() if vocab_size <= _SMALL else pa.int32()
    place = pa.uint16() if block_tokens <= _SMALL else pa.int32()
    return pa.schema(
        [("lang", pa.string()), ("input_ids", pa.list_(id_type, block_tokens)), ("starts", pa.list_(place))]
    )


class BlocksWriter:
    """Writes blocks to one file: Arrow's file format, not compressed, so that it is read by mapping it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin to write `path`; `schema` is a `block_schema`."""
        self._schema = schema
        self._file = pa.ipc.new_file(str(path), schema)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, run: Run) -> None:
        """Write blocks behind those that are there."""
        ids, starts = (self._schema.field(name).type for name in ("input_ids", "starts"))
        flat = pa.array(run.input_ids.reshape(-1).astype(ids.value_type.to_pandas_dtype(), copy=False))
        places = pa.array(run.starts.astype(starts.value_type.to_pandas_dtype(), copy=False))
        columns = [
            pa.repeat(run.language, len(run.input_ids)),
            pa.FixedSizeListArray.from_arrays(flat, type=ids),
            pa.ListArray.from_arrays(pa.array(run.offsets.astype(np.int32)), places, type=starts),
        ]
        self._file.write_batch(pa.record_batch(columns, schema=self._schema))


class PackedBlocks:
    """The blocks of one chunk, by number: language after language.

    The files are mapped, not read: a block that nobody asks for stays on the disk, and asking for one copies that
    block alone. Processes that read one chunk share its pages. `runs` are all blocks in their order, some thousands
    at a time, as views that nobody may write to.
    """

    def __init__(self, chunk: Path) -> None:
        """Open the blocks of the folder `chunk`, one `chunk-{n}` of a packed corpus, or of one file of it.

        Raises:
            HalflingError: It holds no blocks, or a file is damaged.
        """
        paths = sorted(chunk.glob("*.arrow")) if chunk.suffix != ".arrow" else [chunk]
        if not paths:
            raise HalflingError(f"{chunk}: holds no blocks: pack the corpus again")
        self.runs = [run for path in paths for run in _runs(path)]
        widths = {run.input_ids.shape[1] for run in self.runs}
        if len(widths) > 1:
            raise HalflingError(f"{chunk}: blocks of {sorted(widths)} tokens: pack the corpus again")
        self._first = np.cumsum([0, *(len(run.input_ids) for run in self.runs)])
        self.block_tokens: int = max(widths, default=0)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, number: int) -> Block:
        """Return block `number`; its arrays are copies, the caller's to change."""
        number = range(len(self))[number]  # negative numbers count from the end, others raise IndexError
        place = int(np.searchsorted(self._first, number, side="right")) - 1
        run, row = self.runs[place], number - int(self._first[place])
        starts = run.starts[run.offsets[row] : run.offsets[row + 1]]
        return Block(run.input_ids[row].astype(np.int32), starts.astype(np.int32))

    @cached_property
    def languages(self) -> list[str]:
        """The language of each block."""
        return [run.language for run in self.runs for _ in range(len(run.input_ids))]


def _runs(path: Path) -> Iterator[Run]:
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                if not len(batch):
                    continue
                ids, starts = batch["input_ids"], batch["starts"]
                yield Run(
                    language=batch["lang"][0].as_py(),
                    input_ids=ids.flatten().to_numpy().reshape(len(ids), ids.type.list_size),
                    starts=starts.values.to_numpy(),
                    offsets=starts.offsets.to_numpy(),
                )
    except (OSError, pa.ArrowException, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise HalflingError(f"{path}: cannot be read ({reason}): pack the corpus again") from error
