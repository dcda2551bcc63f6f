"""What a corpus will take of each language, said before anything is fetched."""

from pathlib import Path

from pydantic import Field

from halfling.corpus.build import CorpusSettings
from halfling.corpus.quota import quotas
from halfling.corpus.sources import open_source
from halfling.corpus.sources.folder import FolderSource
from halfling.errors import without_secrets
from halfling.languages import CC100
from halfling.records import Record

BYTES_PER_TOKEN = {
    "Arab": 5.3,
    "Armn": 5.1,
    "Beng": 7.0,
    "Cyrl": 5.5,
    "Deva": 7.6,
    "Ethi": 4.6,
    "Geor": 6.4,
    "Grek": 4.8,
    "Gujr": 6.3,
    "Guru": 6.4,
    "Hang": 3.6,
    "Hani": 3.3,
    "Hebr": 4.3,
    "Hira": 3.9,
    "Khmr": 5.3,
    "Knda": 6.9,
    "Laoo": 7.7,
    "Latn": 3.6,
    "Mlym": 6.9,
    "Mymr": 7.3,
    "Orya": 6.9,
    "Qaag": 7.3,  # Zawgyi, as Burmese
    "Sinh": 7.0,
    "Taml": 7.5,
    "Telu": 6.5,
    "Thai": 7.4,
}
"""Script -> UTF-8 bytes of text for a token, to plan by. `docs/method.md` says how they were measured; XLM-R's own
vocabulary is larger and gives fewer tokens."""


class LanguageBudget(Record):
    """What is planned for one language."""

    code: str
    quota_bytes: int = Field(description="text to take, cleaned")
    chunk_bytes: int = Field(description="of it in each chunk, about")
    tokens: int = Field(description="estimated")
    download_bytes: int = Field(description="estimated")


class Budget(Record):
    """What is planned for a corpus."""

    source: str
    selection: str
    languages: tuple[LanguageBudget, ...] = Field(description="largest quota first")
    quota_bytes: int
    tokens: int
    download_bytes: int


def plan_corpus(settings: CorpusSettings, place: Path | str) -> Budget:
    """Return what `build_corpus` will take from `place`, as far as sizes tell; nothing is fetched.

    How much text a file holds is an estimate (`languages.Language.text_bytes`), and cleaning may leave less of it.
    The build goes by what it finds: it shares out again what a language cannot give.
    """
    source = open_source(place, settings, settings.languages, Path())
    wanted = quotas(settings, source.codes, {code: source.text_bytes(code) for code in source.codes})

    def download_bytes(code: str, quota: int) -> int:
        if isinstance(source, FolderSource):
            return 0
        whole = CC100[code].compressed_bytes
        return whole if settings.sampled else quota * whole // CC100[code].text_bytes

    planned = [
        LanguageBudget(
            code=code,
            quota_bytes=quota,
            chunk_bytes=quota // settings.chunks,
            tokens=int(quota / BYTES_PER_TOKEN[CC100[code].scripts[0]]),
            download_bytes=download_bytes(code, quota),
        )
        for code, quota in sorted(wanted.items(), key=lambda item: (-item[1], item[0]))
    ]
    return Budget(
        source=without_secrets(str(place)),
        selection=settings.selection,
        languages=tuple(planned),
        quota_bytes=sum(wanted.values()),
        tokens=sum(each.tokens for each in planned),
        download_bytes=sum(each.download_bytes for each in planned),
    )
