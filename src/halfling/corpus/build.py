"""The corpus stage: documents of a source in, language-aligned chunks out."""

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halfling.corpus.card import CARD, write_card
from halfling.corpus.executors import ExecutorSettings, Workers
from halfling.corpus.quota import QuotaSettings, quotas
from halfling.corpus.sources import open_source
from halfling.corpus.sources.folder import text_files
from halfling.corpus.steps import Ingested, Job, Split, StepSettings, ingest, require_open_files, split
from halfling.files import sha256
from halfling.fingerprint import reading
from halfling.records import Counts, Progress, silent

_CARD = Path(__file__).with_name("card.md")


class CorpusSettings(QuotaSettings, StepSettings, ExecutorSettings):
    """What the corpus is made of, and where."""


@reading(source=text_files)
def build_corpus(*, settings: CorpusSettings, source: Path | str, out: Path, progress: Progress = silent) -> Counts:
    """Write `chunk-{n}/{code}.parquet` (columns id, lang, text) for every language and chunk.

    Every source is read once; what may be drawn of it waits on disk until all quotas are known. The memory does not
    grow with the source. What is whole is not made again.

    Args:
        source: A folder of CC100's files, or a URL of that form.

    Returns:
        `languages` (code -> source_bytes, quota_bytes, bytes and documents per chunk, dropped and dropped_lines by
        reason, documents mended by change), `documents` and `bytes` in all, `sha256` by path.

    Raises:
        HalflingError: More chunks than files may be open, a source that is missing, damaged or empty, or cleaning
            leaves nothing of a language.
    """
    require_open_files(settings.chunks)
    place = open_source(source, settings, settings.languages, out / "fetched")
    job = Job(place, out, settings)
    with Workers(job, settings) as workers:
        wanted, found = _ingest_all(job, settings, workers, progress)
        written = workers.run(split, wanted, _counter(progress, "written", len(wanted), len(wanted)))
    for code in place.codes:
        place.forget(code)
    shutil.rmtree(out / "fetched", ignore_errors=True)
    languages = {code: _language_counts(found[code], written[code]) for code in place.codes}
    counts = {
        "documents": sum(sum(each.documents) for each in written.values()),
        "bytes": sum(sum(each.bytes) for each in written.values()),
        "languages": languages,
    }
    facts = {
        what: sum((Counter(each[what]) for each in languages.values()), Counter[str]())
        for what in ("dropped", "mended")
    }
    write_card(out, _CARD, languages, "*.parquet", settings.chunks, settings, languages=languages, **facts)
    files = [out / CARD, *sorted(out.glob("*/*.parquet"))]
    counts["sha256"] = {path.relative_to(out).as_posix(): sha256(path) for path in files}
    # The last step: until here, whoever is killed finds what was written and fetches nothing again.
    shutil.rmtree(out / "work")
    progress(2 * len(wanted), 2 * len(wanted), "done")
    return counts


def _ingest_all(
    job: Job, settings: CorpusSettings, workers: Workers, progress: Progress
) -> tuple[dict[str, int], dict[str, Ingested]]:
    """Return every language's quota, and what is there for it.

    A language that turns out to be smaller than its quota leaves the rest to the others, whose quotas grow: they
    are read further, until nobody is short of anything that there is.
    """
    found: dict[str, Ingested] = {}
    while True:
        known = {code: each.available_bytes for code, each in found.items() if each.exhausted}
        wanted = quotas(settings, job.source.codes, known)
        short = {
            code: quota
            for code, quota in wanted.items()
            if code not in found or (not found[code].exhausted and found[code].available_bytes < quota)
        }
        if not short:
            return wanted, found
        done = len(wanted) - len(short)
        found |= workers.run(ingest, short, _counter(progress, "read", done, len(wanted)))


def _counter(progress: Progress, what: str, done: int, languages: int) -> Callable[[str], None]:
    """Return a function that reports one language more; reading is the first half of the work, writing the second."""
    numbers = itertools.count(done + 1)
    return lambda code: progress(next(numbers), 2 * languages, f"{code} {what}")


def _language_counts(found: Ingested, written: Split) -> dict[str, Any]:
    return {
        "source_bytes": found.source_bytes,
        "quota_bytes": written.quota,
        "bytes": list(written.bytes),
        "documents": list(written.documents),
        "dropped": found.dropped,
        "dropped_lines": found.dropped_lines,
        "mended": found.mended,
    }
