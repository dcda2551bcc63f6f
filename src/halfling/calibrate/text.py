"""Text without labels, as examples of a task: the lines of a file, or sentences of a corpus."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from halfling.compressed import CorruptError, unpacked
from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.store import chunk_folder, chunk_numbers, read_batches
from halfling.engine.text import split_words
from halfling.errors import HalflingError
from halfling.files import no_text, opened
from halfling.tasks.examples import Example, TaggedExample, TextExample
from halfling.tasks.tags import OUTSIDE
from halfling.tasks.task import Kind
from halfling.tokens.blocks import PackedBlocks, PackedSummary, blocks_file

_MOST_KEPT = 200_000
"""Texts that are drawn from: a corpus holds gigabytes, and a few thousand sentences are wanted."""
_ENDINGS = ("", ".txt")
"""Of files with a text a line, before they are compressed."""
_BLOCK, _LONGEST = 2**16, 2**24
"""Bytes that are read at once, and of a line: a file without line ends would fill memory."""
_SENTENCE_ENDS = re.compile(r"(?<=[.!?؟।۔…])\s+|(?<=[。！？])")
_USUAL = (5, 95)
"""Percentiles of the number of words of the task's own texts: sentences of a corpus are as long."""


def read_text(
    path: Path,
    language: str,
    kind: Kind | None,
    like: Sequence[Example],
    tokenizer: Any,
    most: int,
    seed: int,
) -> list[Example]:
    """Return at most `most` texts of a language, drawn by `seed`, as examples whose labels mean nothing.

    The lines of a file are taken as they are, a pair with a tab within, each once: a text that lay in both halves of
    what calibrates would bound the disagreement too low. What halfling built or packed, and a folder of
    `sw.txt` or `sw.txt.xz`, hold paragraphs: their beginning is cut into sentences, of which those as long as the texts
    of `like` stay. A pair is then two neighbours.

    Raises:
        HalflingError: There is no text of the language, it cannot be read, or was packed with another tokenizer.
    """
    if path.is_dir():
        texts = _sentences(path, language, kind, like, tokenizer)
        none = f"no text in {language} that has as many words as the task's: name a file with a text a line"
    elif Path(path.name.lower().removesuffix(".xz")).suffix in _ENDINGS:
        texts = _pairs_of_lines(path) if kind == "pair_classification" else ((line,) for line in _lines(path))
        none = "holds no text: write a text a line"
    else:
        raise HalflingError(
            f"{path}: texts are read from .txt and .txt.xz: write a text a line, pairs with a tab between"
        )
    # A file may be sorted: its end must be as likely as its beginning.
    found = [*dict.fromkeys(islice(texts, _MOST_KEPT))] if path.is_dir() else _some(texts, seed)
    if not found:
        raise HalflingError(f"{path}: {none}")
    drawn = np.random.default_rng([seed, 2]).permutation(len(found))[:most]
    return [_example(found[number], kind) for number in drawn.tolist()]


def _some(texts: Iterable[tuple[str, ...]], seed: int) -> list[tuple[str, ...]]:
    """Return different texts, `_MOST_KEPT` of them at most, as they come; the seed says which: any is as likely.

    Those whose hash is least, so that neither their number nor how often one comes has to be known.
    """
    kept: dict[bytes, tuple[str, ...]] = {}
    below = b"\xff" * 16

    def cut() -> None:
        nonlocal below, kept
        below = sorted(kept)[_MOST_KEPT]
        kept = {place: text for place, text in kept.items() if place < below}

    for text in texts:
        place = blake2b("\t".join(text).encode(), digest_size=16, salt=seed.to_bytes(8, "little")).digest()
        if place < below:
            kept.setdefault(place, text)
        if len(kept) > 2 * _MOST_KEPT:
            cut()
    if len(kept) > _MOST_KEPT:
        cut()
    return [*kept.values()]


def _example(parts: tuple[str, ...], kind: Kind | None) -> Example:
    if kind == "tagging":
        words = tuple(parts[0][begin:end] for begin, end in split_words(parts[0]))
        return TaggedExample(words, (OUTSIDE,) * len(words))
    return TextExample(parts[0], parts[1] if kind == "pair_classification" else None, "")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file that are not blank, stripped."""
    number, begun = 0, b""
    try:
        with opened(path) as file:
            blocks = unpacked(file, ".xz") if path.suffix.lower() == ".xz" else iter(partial(file.read, _BLOCK), b"")
            for block in chain(blocks, (b"\n",)):
                if not number and not begun and (problem := no_text(block)):
                    raise HalflingError(f"{path}: {problem}")
                # Cut at b"\n" alone: a stray carriage return ends no text.
                *lines, begun = (begun + block).split(b"\n")
                for line in lines:
                    number += 1
                    if text := line.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                        yield text
                if len(begun) > _LONGEST:
                    raise HalflingError(f"{path}, line {number + 1}: longer than {_LONGEST} bytes: write a text a line")
    except UnicodeDecodeError as error:
        raise HalflingError(f"{path}: line {number} is not UTF-8 ({error.reason}): repair the file") from error
    except (EOFError, CorruptError) as error:
        raise HalflingError(f"{path}: truncated or corrupt after line {number}: make the file again") from error
    except OSError as error:
        raise HalflingError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def _pairs_of_lines(path: Path) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(_lines(path), start=1):
        parts = tuple(part.strip() for part in line.split("\t"))
        if len(parts) != 2 or not all(parts):
            raise HalflingError(f"{path}, text {number}: no pair: write both texts in a line, with a tab between")
        yield parts


def _sentences(
    folder: Path, language: str, kind: Kind | None, like: Sequence[Example], tokenizer: Any
) -> Iterator[tuple[str, ...]]:
    """Yield sentences as long as the task's, or pairs of neighbours; no sentence is in two pairs."""
    lengths = [len(part.split()) for one in like for part in _parts(one)]
    low, high = (round(float(edge)) for edge in np.percentile(lengths, _USUAL))
    for document in _documents(folder, language, tokenizer):
        parts = [part.strip() for line in document.split("\n") for part in _SENTENCE_ENDS.split(line)]
        fits = [low <= len(part.split()) <= high for part in parts]
        if kind != "pair_classification":
            yield from ((part,) for part, fit in zip(parts, fits, strict=True) if fit)
            continue
        taken = -1
        for (first, one), (second, two) in pairwise(enumerate(parts)):
            if fits[first] and fits[second] and first > taken:
                taken = second
                yield one, two


def _parts(example: Example) -> list[str]:
    if isinstance(example, TaggedExample):
        return [" ".join(example.words)]
    return [part for part in (example.text, example.text_pair) if part is not None]


def _documents(folder: Path, language: str, tokenizer: Any) -> Iterator[str]:
    """Yield the documents of a language: of a corpus, of a packed one each sequence, or of CC100's files."""
    if (folder / "corpus.json").is_file() and blocks_file(folder, 1, language).is_file():
        yield from _unpacked(folder, language, tokenizer)
    elif chunk_folder(folder, 1).is_dir():
        files = [chunk_folder(folder, number) / f"{language}.parquet" for number in chunk_numbers(folder)]
        there = [file for file in files if file.is_file()]
        _require(there, folder, language)
        for file in there:
            for batch in read_batches(file):
                yield from (document.text for document in batch)
    else:
        there = [file for file in (folder / f"{language}.txt", folder / f"{language}.txt.xz") if file.is_file()]
        _require(there, folder, language)
        yield from read_documents(there[0])


def _require(there: Sequence[Path], folder: Path, language: str) -> None:
    if not there:
        raise HalflingError(
            f"{folder}: holds no text in {language}: name a corpus, a packed one, a folder with {language}.txt, or a "
            "file with a text a line"
        )


def _unpacked(folder: Path, language: str, tokenizer: Any) -> Iterator[str]:
    summary = PackedSummary.read(folder / "corpus.json")
    if summary.vocab_size != len(tokenizer):
        raise HalflingError(
            f"{folder}: packed with {summary.vocab_size} pieces, not {len(tokenizer)}: pack with its tokenizer"
        )
    for number in range(1, len(summary.blocks) + 1):
        if not (path := blocks_file(folder, number, language)).is_file():
            continue
        blocks = PackedBlocks(path)
        for block in (blocks[row] for row in range(len(blocks))):
            for sequence in np.split(block.input_ids, block.starts[1:]):
                yield tokenizer.decode(sequence, skip_special_tokens=True)
