"""Where documents come from: a folder of CC100's files, or CC100's host."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from halfling.errors import HalflingError
from halfling.records import Settings


class SourceSettings(Settings):
    """What is read of the source."""

    selection: Literal["head", "sample"] = Field(
        "sample",
        description='"sample": every document has the same chance, whole files are read; '
        '"head": the first documents of each file, reading stops when the quota is full',
    )
    patience_seconds: float = Field(
        30.0,
        ge=0.1,
        le=86_400,
        exclude=True,
        description="in which a host has to bring 16 kB, pauses between tries included; else the stage ends",
    )

    @property
    def sampled(self) -> bool:
        """Whether documents are drawn from the whole file, not taken from its head."""
        return self.selection == "sample"


@runtime_checkable
class Source(Protocol):
    """Documents by language; can be pickled and opened again in another process."""

    codes: tuple[str, ...]
    """The languages wanted of it, sorted."""

    def documents(self, code: str) -> Iterator[str]:
        """Yield a language's documents in the order of the source, the same whenever it is asked.

        What was fetched lies in the cache: a second reading, and one after `kill -9`, fetches only what is
        missing. A reader that stops early has fetched a few per cent more than it has read.

        Raises:
            HalflingError: The language cannot be read, or holds no document.
        """

    def text_bytes(self, code: str) -> int:
        """Return about how much text a language has."""

    def place(self, code: str) -> str:
        """Return where a language lies, for messages."""

    def forget(self, code: str) -> None:
        """Delete what lies of a language in the cache."""


def open_source(place: Path | str, settings: SourceSettings, languages: str | Sequence[str], cache: Path) -> Source:
    """Return the source that `place` names.

    Args:
        place: A folder, "https://data.statmt.org/cc-100/", or a host of the same form.
        settings: What is read of it.
        languages: "all" that it holds, or what `languages.resolve` takes.
        cache: Folder for what is fetched; made when it is needed.

    Raises:
        HalflingError: There is no such place, or it does not hold a wanted language.
    """
    if isinstance(place, str) and place.startswith(("http://", "https://")):
        # Here: the HTTP client takes its time to load.
        from halfling.corpus.sources.http import HttpSource

        return HttpSource(place, languages, cache, settings)
    if isinstance(place, str) and "://" in place:
        raise HalflingError(f"{place}: not a source: name a folder or https://...")
    from halfling.corpus.sources.folder import FolderSource

    return FolderSource(Path(place), languages)
