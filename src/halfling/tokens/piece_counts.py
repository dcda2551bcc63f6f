"""How often languages use the pieces of XLM-R's vocabulary: counted in text, or out of a table that comes along.

The table, `piece-counts.xz`, holds 90 of XLM-R's hundred languages, some thousand sentences each (0.3 to 15 MB of
text); a count is kept to the next power of two. `benchmarks/trimming.py` makes it anew.
"""

import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.store import chunk_folder, chunk_languages, chunk_numbers, read_batches
from halfling.errors import HalflingError
from halfling.tokens.encode import TextEncoder

NUM_PIECES = 250_002
"""XLM-R's own vocabulary, to which the table's numbers belong."""

Counts = dict[str, Int64[np.ndarray, " pieces"]]
"""By language, how often each piece occurs."""

_TABLE = "piece-counts.xz"
_AT_ONCE = 1000
"""Documents that are cut into pieces together."""


def known_counts(languages: Sequence[str]) -> Counts:
    """Return the table's counts of languages, in XLM-R's ids, each to the next power of two.

    Raises:
        HalflingError: The table has no such language.
    """
    known = table()
    if missing := [code for code in languages if code not in known]:
        raise HalflingError(
            f"languages: no counts of {', '.join(missing)} come with halfling: name text in them with --corpus"
        )
    return {code: known[code] for code in languages}


@cache
def table() -> Counts:
    """Return the whole table."""
    content = lzma.decompress(resources.files("halfling").joinpath("tokens", _TABLE).read_bytes())
    head, _, body = content.partition(b"\n")
    sizes: dict[str, int] = json.loads(head)
    found: Counts = {}
    values = np.frombuffer(body, np.uint8)
    total = sum(sizes.values())
    low, high, logs = values[:total], values[total : 2 * total], values[2 * total :]
    gaps, begin = low + (high.astype(np.int64) << 8), 0
    for code, size in sizes.items():
        counts = np.zeros(NUM_PIECES, np.int64)
        counts[np.cumsum(gaps[begin : begin + size])] = 1 << logs[begin : begin + size].astype(np.int64)
        found[code] = counts
        begin += size
    return found


def pack_counts(counts: Mapping[str, Int64[np.ndarray, " pieces"]]) -> bytes:
    """Return the table's bytes: languages and their numbers of pieces, gaps between ids, logarithms of counts."""
    used = {code: np.flatnonzero(each) for code, each in counts.items()}
    gaps = np.concatenate([np.diff(ids, prepend=0) for ids in used.values()])
    if gaps.max() >= 1 << 16:
        raise ValueError(f"expected gaps between used pieces below 65,536, came {gaps.max()}")
    logs = np.concatenate([np.round(np.log2(counts[code][ids])) for code, ids in used.items()])
    head = json.dumps({code: len(ids) for code, ids in used.items()}).encode()
    body = b"".join(each.astype(np.uint8).tobytes() for each in (gaps & 255, gaps >> 8, logs))
    return lzma.compress(head + b"\n" + body, preset=9 | lzma.PRESET_EXTREME)


def counts_of_text(text: Path, encoder: TextEncoder, num_pieces: int, languages: Sequence[str] | None) -> Counts:
    """Return the counts of text: a corpus that halfling built, or a folder of `{code}.txt` or `{code}.txt.xz`.

    Raises:
        HalflingError: There is no text, or none of a language that is asked for; or a file is no UTF-8 in lines,
            truncated or corrupt.
    """
    found: Counts = {}
    for code, lines in _batches(text):
        if languages is None or code in languages:
            ids = encoder.encode(pa.array(lines, pa.string())).ids
            found[code] = found.get(code, np.zeros(num_pieces, np.int64)) + np.bincount(ids, minlength=num_pieces)
    missing = [code for code in languages or () if code not in found]
    if missing or not found:
        raise HalflingError(
            f"{text}: holds no text of {', '.join(missing) or 'any language'}: name a corpus, or a folder of files "
            "such as sw.txt"
        )
    return found


def _batches(text: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield paragraphs and their language."""
    if chunk_folder(text, 1).is_dir():
        for number in chunk_numbers(text):
            folder = chunk_folder(text, number)
            for code in chunk_languages(folder):
                for batch in read_batches(folder / f"{code}.parquet"):
                    yield code, [line for document in batch for line in document.text.split("\n")]
        return
    for path in sorted(file for file in text.glob("*.txt*") if file.suffix in (".txt", ".xz")) if text.is_dir() else []:
        texts = read_documents(path)
        while some := list(islice(texts, _AT_ONCE)):
            yield path.name.partition(".")[0], [line for one in some for line in one.split("\n")]
