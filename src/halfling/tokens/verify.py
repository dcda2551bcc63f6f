"""Proof that packed blocks are whole and in order."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from halfling.corpus.store import chunk_folder, chunk_languages, chunk_numbers
from halfling.corpus.verify import file_faults
from halfling.errors import HalflingError
from halfling.records import Manifest
from halfling.tokens.blocks import END, PAD, START, PackedBlocks, PackedSummary, Run, blocks_file


def verify_packed(packed: Path, corpus: Path) -> list[str]:
    """Return the faults of a packed corpus, a line each; an empty list says that it is whole.

    Args:
        packed: Folder that `pack_corpus` wrote.
        corpus: Folder that it was made of, whole.
    """
    try:
        languages = {number: chunk_languages(chunk_folder(corpus, number)) for number in chunk_numbers(corpus)}
    except HalflingError as error:
        return [str(error)]
    return list(_packed_faults(packed, languages))


def _packed_faults(packed: Path, languages: dict[int, list[str]]) -> Iterator[str]:
    try:
        if (packed / "manifest.json").exists():
            yield from file_faults(packed, Manifest.read(packed / "manifest.json"))
        summary = PackedSummary.read(packed / "corpus.json")
    except HalflingError as error:
        yield str(error)
        return
    for number, codes in languages.items():
        for code in codes:
            path = blocks_file(packed, number, code)
            said = summary.blocks.get(path.parent.name, {}).get(code)
            if not path.exists():
                yield f"{path}: missing: chunk {number} is short of a language"
                continue
            try:
                blocks = PackedBlocks(path)
            except HalflingError as error:
                yield str(error)
                continue
            if len(blocks) != said:
                yield f"{path}: {len(blocks)} blocks, but corpus.json says {said}"
            if len(blocks) and blocks.block_tokens != summary.block_tokens:
                yield f"{path}: {blocks.block_tokens} tokens a block, corpus.json says {summary.block_tokens}"
            if set(blocks.languages) - {code}:
                yield f"{path}: holds blocks of another language"
            # One line a kind of fault, though a file has many runs.
            yield from dict.fromkeys(
                fault for run in blocks.runs for fault in _run_faults(path, run, len(blocks), summary.vocab_size)
            )


def _run_faults(path: Path, run: Run, num_blocks: int, vocab_size: int) -> Iterator[str]:
    ids = run.input_ids
    if ids.min() < 0 or ids.max() >= vocab_size:
        yield f"{path}: ids outside 0..{vocab_size - 1}"
    begins = np.zeros(ids.shape, dtype=bool)
    begins[run.begins()] = True
    if not (np.array_equal(begins, ids == START) and begins[:, 0].all()):
        yield f"{path}: sequences do not begin where `starts` says"
    # What stands before a beginning, or before padding, ends a sequence.
    ends = ids[:, :-1][begins[:, 1:] | ((ids[:, 1:] == PAD) & (ids[:, :-1] != PAD))]
    if not ((ends == END).all() and np.isin(ids[:, -1], (PAD, END)).all()):
        yield f"{path}: a sequence without `</s>` at its end"
    if num_blocks > 1 and (ids == PAD).any():
        yield f"{path}: padding, though the language fills a block"
