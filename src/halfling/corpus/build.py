"""The corpus stage: CC100's files in, language-aligned chunks out."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from pydantic import Field, model_validator

from halfling.corpus.chunk import choose, deal, seeded_order
from halfling.corpus.clean import Cleaner
from halfling.corpus.mix import MixSettings, quotas
from halfling.corpus.sources import Source, SourceSettings, open_source
from halfling.corpus.store import Document, chunk_folder, document_id, write_chunks
from halfling.corpus.survey import Survey, survey
from halfling.files import digest
from halfling.records import Counts, Progress, Seed, silent


class CorpusSettings(MixSettings, SourceSettings):
    """What the corpus is made of."""

    chunks: int = Field(5, ge=1, description="language-aligned parts; an epoch of distillation reads one")
    min_characters: int = Field(16, ge=1, description="shorter documents are dropped")
    max_characters: int = Field(1_000_000, ge=1, description="longer documents are dropped")
    seed: Seed = Field(0, description="decides which documents are taken and where they go")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "CorpusSettings":
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} exceeds max_characters {self.max_characters}")
        return self


def build_corpus(*, settings: CorpusSettings, source: Path | str, out: Path, progress: Progress = silent) -> Counts:
    """Write `chunk-{n}/{code}.parquet` (columns id, lang, text) for every language and chunk.

    Every source is read twice: once to know what it holds, once to copy what was chosen; it is fetched once.
    Only digests and sizes stay in memory. A language whose files are all whole is not written again.

    Args:
        settings: What to take.
        source: Folder with `{code}.txt.xz` or `{code}.txt`, itself or in its subfolder `cc100*`, or another
            place that `open_source` knows.
        out: Folder of the result; may hold an interrupted try's work.
        progress: Told of files read and languages written.

    Returns:
        `languages` (code -> source_bytes, quota_bytes, bytes and documents per chunk, dropped by reason),
        `documents` and `bytes` in all, `sha256` by path.

    Raises:
        HalflingError: A file is missing, damaged or empty, or cleaning leaves nothing of a language.
    """
    place = open_source(source, settings, settings.languages, out / "fetched")
    wanted, surveys = _survey_all(place, settings, out / "surveys", progress)
    counts: dict[str, Any] = {}
    for done, (code, found) in enumerate(surveys.items(), start=len(place.codes)):
        progress(done, 2 * len(place.codes), f"writing {code}")
        by_chance = seeded_order(found.digests, settings.seed)
        order = np.arange(len(found.sizes)) if settings.selection == "head" else by_chance
        chunk_of = deal(choose(order, found.sizes, wanted[code]), found.sizes, settings.chunks)
        paths = [chunk_folder(out, number) / f"{code}.parquet" for number in range(1, settings.chunks + 1)]
        if not all(path.exists() for path in paths):
            _write(code, place, settings, chunk_of, paths)
        place.forget(code)
        counts[code] = _language_counts(found, wanted[code], chunk_of, settings.chunks)
    shutil.rmtree(out / "surveys")
    shutil.rmtree(out / "fetched", ignore_errors=True)
    progress(2 * len(place.codes), 2 * len(place.codes), "done")
    return {
        "documents": sum(sum(language["documents"]) for language in counts.values()),
        "bytes": sum(sum(language["bytes"]) for language in counts.values()),
        "languages": counts,
        "sha256": {path.relative_to(out).as_posix(): digest(path) for path in sorted(out.glob("*/*.parquet"))},
    }


def _survey_all(
    source: Source, settings: CorpusSettings, cache: Path, progress: Progress
) -> tuple[dict[str, int], dict[str, Survey]]:
    """Return every language's quota, and what is there for it.

    A language that turns out to be smaller than its quota leaves the rest to the others, whose quotas grow: they
    are then read further, until nobody is short of anything that there is.
    """
    surveys: dict[str, Survey] = {}
    while True:
        kept = {code: int(found.sizes.sum()) for code, found in surveys.items()}
        wanted = quotas(settings, source.codes, {code: kept[code] for code, found in surveys.items() if found.whole})
        short = [
            code
            for code in source.codes
            if code not in surveys or (kept[code] < wanted[code] and not surveys[code].whole)
        ]
        if not short:
            return wanted, {code: surveys[code] for code in source.codes}
        for code in short:
            progress(len(surveys), 2 * len(source.codes), f"reading {code}")
            surveys[code] = survey(
                source.documents(code),
                _cleaner(settings),
                wanted[code] if settings.selection == "head" else None,
                cache=cache / f"{code}.npz",
                where=source.place(code),
            )


def _cleaner(settings: CorpusSettings) -> Cleaner:
    return Cleaner(settings.min_characters, settings.max_characters)


def _write(
    code: str,
    source: Source,
    settings: CorpusSettings,
    chunk_of: Int64[np.ndarray, " documents"],
    paths: list[Path],
) -> None:
    def rows() -> Iterator[tuple[int, Document]]:
        # The same cleaner over the same documents keeps the same, so the n-th kept is the n-th surveyed.
        cleaner = _cleaner(settings)
        kept = (cleaned for raw in source.documents(code) if (cleaned := cleaner.clean(raw)))
        # No document is asked for beyond those surveyed: it might have to be fetched.
        for (text, key), number in zip(islice(kept, len(chunk_of)), chunk_of.tolist(), strict=True):
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
