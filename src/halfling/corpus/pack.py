"""The pack stage: documents in, blocks of token ids out."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int32
from pydantic import Field
from tokenizers import Tokenizer

from halfling.corpus.blocks import COUNTS_KEY, Block, PackedSummary, block_schema, blocks_file, file_counts
from halfling.corpus.encode import SpecialIds, encode, load_tokenizer
from halfling.corpus.store import chunk_folder, chunk_languages, chunk_numbers, read_batches
from halfling.files import digest, whole_file
from halfling.records import Counts, Progress, Settings, silent

_WRITE_BLOCKS = 8192


class PackSettings(Settings):
    """How documents become blocks."""

    block_tokens: int = Field(128, ge=8, description="tokens of a block, special tokens included")


def pack(documents: Iterable[Int32[np.ndarray, " _"]], block_tokens: int, special: SpecialIds) -> Iterator[Block]:
    """Yield blocks that hold the documents in order, each document as one or more sequences `<s> ... </s>`.

    Blocks are filled to the last token: where a document does not fit, the rest of it goes on in the next
    block as a sequence of its own. One or two places, too few for a sequence, are filled with further
    `</s>`, which belong to the sequence before. Only the last block may end in padding.
    """
    ids = np.full(block_tokens, special.pad, np.int32)
    starts: list[int] = []
    filled = 0
    for document in documents:
        left = document
        while len(left):
            taken = min(len(left), block_tokens - filled - 2)
            end = filled + taken + 2
            starts.append(filled)
            ids[filled] = special.start
            ids[filled + 1 : end - 1] = left[:taken]
            ids[end - 1] = special.end
            left, filled = left[taken:], end
            if block_tokens - filled < 3:
                ids[filled:] = special.end
                yield Block(ids, np.array(starts, np.int32))
                ids, starts, filled = np.full(block_tokens, special.pad, np.int32), [], 0
    if starts:
        yield Block(ids, np.array(starts, np.int32))


def pack_corpus(
    *, settings: PackSettings, corpus: Path, tokenizer: Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `chunk-{n}/blocks.parquet` for every chunk, and `corpus.json` (a `PackedSummary`).

    Languages follow each other by code, documents in the corpus's order, and no block holds two languages.
    A chunk that is whole is not packed again.

    Args:
        settings: How to pack.
        corpus: Folder that `build_corpus` wrote.
        tokenizer: Folder with a `tokenizer.json` of XLM-R's layout.
        out: Folder of the result; may hold an interrupted try's work.
        progress: Told of languages packed, over all chunks.

    Returns:
        The summary's fields, `unknown` and `literal_specials` (tokens per language), `sha256` by path.

    Raises:
        HalflingError: The corpus or the tokenizer is missing or damaged.
    """
    model, special = load_tokenizer(tokenizer)
    numbers = chunk_numbers(corpus)
    work = [(number, code) for number in numbers for code in chunk_languages(chunk_folder(corpus, number))]
    totals: dict[str, Counter[str]] = {}
    blocks: dict[str, int] = {}
    for number in numbers:
        path = blocks_file(out, number)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            done = sum(1 for other, _ in work if other < number)
            _pack_chunk(settings, chunk_folder(corpus, number), model, special, path, done, len(work), progress)
        counts = file_counts(path)
        blocks[path.parent.name] = counts.pop("blocks").total()
        for kind, by_language in counts.items():
            totals.setdefault(kind, Counter()).update(by_language)
    progress(len(work), len(work), "done")
    summary = PackedSummary(
        block_tokens=settings.block_tokens,
        vocab_size=model.get_vocab_size(),
        blocks=blocks,
        tokens=dict(totals["tokens"]),
    )
    summary.write(out / "corpus.json")
    return {
        **summary.model_dump(),
        "unknown": dict(totals["unknown"]),
        "literal_specials": {code: number for code, number in totals["literal_specials"].items() if number},
        "sha256": {path.relative_to(out).as_posix(): digest(path) for path in sorted(out.glob("*/*.parquet"))},
    }


def _pack_chunk(
    settings: PackSettings,
    chunk: Path,
    tokenizer: Tokenizer,
    special: SpecialIds,
    path: Path,
    done: int,
    total: int,
    progress: Progress,
) -> None:
    schema = block_schema(settings.block_tokens)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("blocks", "tokens", "unknown", "literal_specials")}

    def documents(code: str) -> Iterator[Int32[np.ndarray, " _"]]:
        for batch in read_batches(chunk / f"{code}.parquet"):
            encoded, num_literal = encode([document.text for document in batch], tokenizer, special)
            counts["literal_specials"][code] += num_literal
            for ids in encoded:
                counts["tokens"][code] += len(ids)
                counts["unknown"][code] += int((ids == special.unknown).sum())
                yield ids

    with (
        whole_file(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for position, code in enumerate(chunk_languages(chunk), start=done):
            progress(position, total, f"packing {chunk.name} {code}")
            for each in counts.values():
                each[code] = 0  # a language without documents in this chunk is counted too
            waiting: list[Block] = []
            for block in pack(documents(code), settings.block_tokens, special):
                counts["blocks"][code] += 1
                waiting.append(block)
                if len(waiting) == _WRITE_BLOCKS:
                    writer.write_table(_table(code, waiting, schema))
                    waiting = []
            writer.write_table(_table(code, waiting, schema))
        writer.add_key_value_metadata({COUNTS_KEY: json.dumps(counts)})


def _table(code: str, blocks: list[Block], schema: pa.Schema) -> pa.Table:
    ids = np.concatenate([block.input_ids for block in blocks]) if blocks else np.empty(0, np.int32)
    width = schema.field("input_ids").type.list_size
    columns = [
        pa.array([code] * len(blocks), pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(ids), width),
        pa.array([block.starts for block in blocks], pa.list_(pa.int32())),
    ]
    return pa.table(columns, schema=schema)
