"""The pack stage: documents in, blocks of token ids out."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from itertools import accumulate, chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pydantic import Field

from halfling.bounds import Processes, Size
from halfling.cores import workers
from halfling.corpus.card import CARD, write_card
from halfling.corpus.store import chunk_folder, chunk_languages, chunk_numbers, read_texts
from halfling.errors import HalflingError
from halfling.files import sha256, whole_file
from halfling.records import Counts, Progress, Record, Settings, silent
from halfling.tokens.blocks import UNKNOWN, BlocksWriter, PackedSummary, block_schema, blocks_file
from halfling.tokens.encode import Encoded, TextEncoder, load_tokenizer
from halfling.tokens.packer import Packer

_CARD = Path(__file__).with_name("card.md")
_ALL_CHUNKS_TOGETHER = 64 * 2**20
"""Bytes of a language's files below which one task packs all its chunks and learns its words once."""
_WORKER_BYTES = 2**29
_ENCODED_TOGETHER = 4 * 2**20
"""Bytes of text, of one chunk or several; a new word is cut faster among many."""


class PackSettings(Settings):
    """How documents become blocks."""

    block_tokens: Size = Field(128, ge=8, description="tokens of a block, special tokens included")
    workers: Processes | None = Field(
        None,
        ge=1,
        exclude=True,
        description="languages at the same time, the same bytes for any; null: as cores and memory allow",
    )


class Packed(Record):
    """What packing one language of one chunk came to; the file stands beside the blocks while the stage works."""

    blocks: int
    tokens: int = Field(description="special tokens left out")
    unknown: int = Field(description="tokens, special ones that stood in a text as text among them")
    left_over: int = Field(description="tokens at the end that fill no block")


class _Task(NamedTuple):
    """One language in some chunks, smallest first."""

    code: str
    numbers: list[int]
    source_bytes: int


def pack_corpus(
    *, settings: PackSettings, corpus: Path, tokenizer: Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `chunk-{n}/{code}.arrow` for every language and chunk, and `corpus.json` (a `PackedSummary`).

    Documents stay in the corpus's order, and no block holds two languages. What is whole is not packed again.
    The bytes do not depend on the number of workers.

    Args:
        corpus: Folder that `halfling corpus build` wrote.
        tokenizer: Folder with a `tokenizer.json` of XLM-R's layout.

    Returns:
        The summary's fields; `unknown` and `left_over` (tokens per language), `sha256` by path.

    Raises:
        HalflingError: The corpus or the tokenizer is missing or damaged, or there is no text.
    """
    model = load_tokenizer(tokenizer)
    encoder = TextEncoder(model)
    schema = block_schema(settings.block_tokens, model.get_vocab_size())
    numbers = chunk_numbers(corpus)
    for number in numbers:
        chunk_folder(out, number).mkdir(exist_ok=True)
    tasks = _tasks(corpus, numbers)
    if not tasks:
        raise HalflingError(f"{corpus}: holds no {{code}}.parquet: build the corpus first")
    progress(0, len(tasks), "packing")
    found: dict[tuple[int, str], Packed] = {}
    # Threads: the tokenizer, Arrow and numpy let go of Python's lock, and a large vocabulary is in memory once.
    with ThreadPoolExecutor(min(settings.workers or workers(_WORKER_BYTES), len(tasks))) as pool:
        waiting = {pool.submit(_pack, task, settings, encoder, schema, corpus, out): task for task in tasks}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                found |= future.result()
                progress(done, len(tasks), f"packed {waiting[future].code}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    codes = sorted({code for _, code in found})
    by_language = {code: [found[number, code] for number in numbers if (number, code) in found] for code in codes}

    def total(what: str) -> dict[str, int]:
        return {code: sum(getattr(each, what) for each in parts) for code, parts in by_language.items()}

    summary = PackedSummary(
        block_tokens=settings.block_tokens,
        vocab_size=model.get_vocab_size(),
        blocks={
            chunk_folder(out, number).name: {
                code: found[number, code].blocks for code in codes if (number, code) in found
            }
            for number in numbers
        },
        tokens=total("tokens"),
    )
    summary.write(out / "corpus.json")
    counts = {**summary.model_dump(), "unknown": total("unknown"), "left_over": total("left_over")}
    write_card(out, _CARD, codes, "*.arrow", len(numbers), settings, **counts)
    files = [out / CARD, out / "corpus.json", *sorted(out.glob("*/*.arrow"))]
    counts["sha256"] = {path.relative_to(out).as_posix(): sha256(path) for path in files}
    # The last step: until here, whoever is killed finds what was packed.
    for number, code in found:
        _note(out, number, code).unlink(missing_ok=True)
    return counts


def _tasks(corpus: Path, numbers: list[int]) -> list[_Task]:
    """Return what can be done side by side, the largest first: a small one fills the gap at the end."""
    files: dict[str, dict[int, int]] = {}
    for number in numbers:
        for code in chunk_languages(chunk_folder(corpus, number)):
            size = (chunk_folder(corpus, number) / f"{code}.parquet").stat().st_size
            files.setdefault(code, {})[number] = size
    tasks: list[_Task] = []
    for code, sizes in files.items():
        if sum(sizes.values()) < _ALL_CHUNKS_TOGETHER:
            tasks.append(_Task(code, list(sizes), sum(sizes.values())))
        else:
            tasks += [_Task(code, [number], size) for number, size in sizes.items()]
    return sorted(tasks, key=lambda task: (-task.source_bytes, task.code, task.numbers))


def _note(out: Path, number: int, code: str) -> Path:
    return blocks_file(out, number, code).with_suffix(".json")


def _pack(
    task: _Task,
    settings: PackSettings,
    encoder: TextEncoder,
    schema: pa.Schema,
    corpus: Path,
    out: Path,
) -> dict[tuple[int, str], Packed]:
    missing = [number for number in task.numbers if not _note(out, number, task.code).exists()]
    parts = _encoded(corpus, task.code, missing, encoder.with_own_words())
    for number, encoded in groupby(parts, itemgetter(0)):
        packer = Packer(task.code, settings.block_tokens)
        path = blocks_file(out, number, task.code)
        packed = _pack_file((each for _, each in encoded), packer, schema, path)
        packed.write(_note(out, number, task.code))
    return {(number, task.code): Packed.read(_note(out, number, task.code)) for number in task.numbers}


def _encoded(corpus: Path, code: str, numbers: list[int], encoder: TextEncoder) -> Iterator[tuple[int, Encoded]]:
    """Yield chunk after chunk as it is read; little text is encoded at once, over all chunks, so words meet once."""
    waiting: list[tuple[int, pa.StringArray]] = []
    size = 0
    for number in numbers:
        path = chunk_folder(corpus, number) / f"{code}.parquet"
        for texts in chain(read_texts(path), [pa.array([], pa.string())]):  # a chunk may hold no document
            if waiting and size + texts.nbytes > _ENCODED_TOGETHER:
                yield from _encode_together(waiting, encoder)
                waiting, size = [], 0
            waiting.append((number, texts))
            size += texts.nbytes
    if waiting:
        yield from _encode_together(waiting, encoder)


def _encode_together(waiting: list[tuple[int, pa.StringArray]], encoder: TextEncoder) -> Iterator[tuple[int, Encoded]]:
    encoded = encoder.encode(pa.concat_arrays([texts for _, texts in waiting]))
    ends = list(accumulate(len(texts) for _, texts in waiting))
    for (number, _), part in zip(waiting, encoded.cut(ends), strict=True):
        yield number, part


def _pack_file(parts: Iterator[Encoded], packer: Packer, schema: pa.Schema, path: Path) -> Packed:
    counts: Counter[str] = Counter()
    with whole_file(path) as partial, closing(BlocksWriter(partial, schema)) as writer:
        for encoded in parts:
            if not len(encoded.lengths):
                continue
            writer.write(packer.add(encoded.ids, encoded.lengths))
            counts["tokens"] += len(encoded.ids)
            counts["unknown"] += int((encoded.ids == UNKNOWN).sum())
        last, left_over = packer.end()
        writer.write(last)
    return Packed(
        blocks=packer.num_blocks,
        tokens=counts["tokens"] - left_over,
        unknown=counts["unknown"],
        left_over=left_over,
    )
