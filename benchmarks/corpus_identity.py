"""Whether ids that are cut word by word are the tokenizer's own, on every document of a folder.

    python benchmarks/corpus_identity.py runs/real/tokenizer [TOKENIZER ...] [--data FOLDER] [--every N] [--json FILE]

Documents are taken as they stand in CC100's files, before anything is cleaned: odd spaces, controls and marks are
all there. The status is 1 if a single id differs.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.sources.folder import find_sources
from halfling.tokens.encode import TextEncoder, load_tokenizer

_BATCH = 500


def identity(tokenizer: Path, data: Path, every: int = 1) -> dict[str, dict[str, int]]:
    """Return, for each language, the `documents` and `tokens` compared and the documents that are `different`.

    Args:
        tokenizer: Folder of a tokenizer of XLM-R's layout, which has to be one that is cut by word.
        data: Folder of CC100's files.
        every: Compare one document of so many.
    """
    model = load_tokenizer(tokenizer)
    encoder = TextEncoder(model)
    if not encoder.by_word:
        raise SystemExit(f"{tokenizer}: its parts are not XLM-R's, so that it is not cut by word")
    reserved = [0, 1, 2, model.get_vocab_size() - 1]
    found = {}
    for code, path in find_sources(data, "all").items():
        own = encoder.with_own_words()
        counts = {"documents": 0, "tokens": 0, "different": 0}
        for texts in _batches(itertools.islice(read_documents(path), 0, None, every)):
            encoded = own.encode(pa.array(texts, pa.string()))
            parts = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
            for mine, whole in zip(parts, model.encode_batch(texts, add_special_tokens=False), strict=True):
                ids = np.array(whole.ids, np.int32)
                ids[np.isin(ids, reserved)] = 3  # written in a text, they are text
                counts["documents"] += 1
                counts["tokens"] += len(ids)
                counts["different"] += not np.array_equal(mine, ids)
        found[code] = counts
    return found


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(texts, _BATCH)):
        yield batch


def main() -> None:
    """Compare, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("tokenizers", type=Path, nargs="+", metavar="TOKENIZER", help="a folder")
    options.add_argument("--data", type=Path, default=Path("../shared/data/cc100-mini"), help="CC100's files")
    options.add_argument("--every", type=int, default=1, help="compare one document of so many")
    options.add_argument("--json", type=Path, help="write the counts of every language here")
    chosen = options.parse_args()
    all_found = {str(tokenizer): identity(tokenizer, chosen.data, chosen.every) for tokenizer in chosen.tokenizers}
    for tokenizer, found in all_found.items():
        documents, tokens, different = (
            sum(each[name] for each in found.values()) for name in ("documents", "tokens", "different")
        )
        print(f"{tokenizer}: {len(found)} languages, {documents} documents, {tokens} tokens, {different} different")
    if chosen.json:
        chosen.json.write_text(json.dumps(all_found, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(each["different"] for found in all_found.values() for each in found.values()))


if __name__ == "__main__":
    main()
