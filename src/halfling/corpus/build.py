"""The corpus stage: CC100's files in, language-aligned chunks out."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from pydantic import Field, model_validator

from halfling.corpus.chunk import choose, deal, seeded_order
from halfling.corpus.clean import Cleaner
from halfling.corpus.mix import Bytes, share_out
from halfling.corpus.read import read_documents
from halfling.corpus.sources import find_sources
from halfling.corpus.store import Document, chunk_folder, document_id, write_chunks
from halfling.corpus.survey import Survey, survey
from halfling.files import digest
from halfling.records import Counts, Progress, Seed, Settings, silent


class CorpusSettings(Settings):
    """What the corpus is made of."""

    languages: str | tuple[str, ...] = Field(
        "all",
        description='"all" that the source holds, a set ("xlmr-100", "thesis-6"), or a list of CC100 codes',
    )
    total_bytes: Bytes | None = Field(None, gt=0, description="text to take, bytes or 27GB; null for everything")
    alpha: float = Field(1.0, ge=0, le=10, description="each language's share follows its size to this power")
    chunks: int = Field(5, ge=1, description="language-aligned parts; an epoch of distillation reads one")
    min_characters: int = Field(16, ge=1, description="shorter documents are dropped")
    max_characters: int = Field(1_000_000, ge=1, description="longer documents are dropped")
    seed: Seed = Field(0, description="decides which documents are taken and where they go")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "CorpusSettings":
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} exceeds max_characters {self.max_characters}")
        return self


def build_corpus(*, settings: CorpusSettings, source: Path, out: Path, progress: Progress = silent) -> Counts:
    """Write `chunk-{n}/{code}.parquet` (columns id, lang, text) for every language and chunk.

    Every file is read twice: once to know what it holds, once to copy what was chosen. Only digests and sizes
    stay in memory. A language whose files are all whole is not written again.

    Args:
        settings: What to take.
        source: Folder with `{code}.txt.xz` or `{code}.txt`, itself or in its subfolder `cc100*`.
        out: Folder of the result; may hold an interrupted try's work.
        progress: Told of files read and languages written.

    Returns:
        `languages` (code -> source_bytes, quota_bytes, bytes and documents per chunk, dropped by reason),
        `documents` and `bytes` in all, `sha256` by path.

    Raises:
        HalflingError: A file is missing, damaged or empty, or cleaning leaves nothing of a language.
    """
    sources = find_sources(source, settings.languages)
    surveys: dict[str, Survey] = {}
    for done, (code, path) in enumerate(sources.items()):
        progress(done, 2 * len(sources), f"reading {code}")
        surveys[code] = survey(path, _cleaner(settings), cache=out / "surveys" / f"{code}.npz")
    kept = {code: int(each.sizes.sum()) for code, each in surveys.items()}
    sizes = {code: each.source_bytes for code, each in surveys.items()}
    total = sum(kept.values()) if settings.total_bytes is None else settings.total_bytes
    quotas = share_out(sizes, total=total, alpha=settings.alpha, limits=kept)

    counts: dict[str, Any] = {}
    for done, (code, found) in enumerate(surveys.items(), start=len(sources)):
        progress(done, 2 * len(sources), f"writing {code}")
        order = seeded_order(found.digests, settings.seed)
        chunk_of = deal(choose(order, found.sizes, quotas[code]), found.sizes, settings.chunks)
        paths = [chunk_folder(out, number) / f"{code}.parquet" for number in range(1, settings.chunks + 1)]
        if not all(path.exists() for path in paths):
            _write(code, sources[code], settings, chunk_of, paths)
        counts[code] = _language_counts(found, quotas[code], chunk_of, settings.chunks)
    shutil.rmtree(out / "surveys")
    progress(2 * len(sources), 2 * len(sources), "done")
    return {
        "documents": sum(sum(language["documents"]) for language in counts.values()),
        "bytes": sum(sum(language["bytes"]) for language in counts.values()),
        "languages": counts,
        "sha256": {path.relative_to(out).as_posix(): digest(path) for path in sorted(out.glob("*/*.parquet"))},
    }


def _cleaner(settings: CorpusSettings) -> Cleaner:
    return Cleaner(settings.min_characters, settings.max_characters)


def _write(
    code: str,
    source: Path,
    settings: CorpusSettings,
    chunk_of: Int64[np.ndarray, " documents"],
    paths: list[Path],
) -> None:
    def rows() -> Iterator[tuple[int, Document]]:
        # The same cleaner over the same file keeps the same documents, so the n-th kept is the n-th surveyed.
        cleaner = _cleaner(settings)
        kept = (cleaned for raw in read_documents(source) if (cleaned := cleaner.clean(raw)))
        for (text, key), number in zip(kept, chunk_of.tolist(), strict=True):
            if number:
                yield number - 1, Document(document_id(code, key), code, text)

    for path in paths:
        path.parent.mkdir(exist_ok=True)
    write_chunks(paths, rows())


def _language_counts(
    found: Survey, quota: int, chunk_of: Int64[np.ndarray, " documents"], num_chunks: int
) -> dict[str, Any]:
    numbers = range(1, num_chunks + 1)
    return {
        "source_bytes": found.source_bytes,
        "quota_bytes": quota,
        "bytes": [int(found.sizes[chunk_of == number].sum()) for number in numbers],
        "documents": [int((chunk_of == number).sum()) for number in numbers],
        "dropped": found.dropped,
    }
