"""CC100's host, or another of its form: `{address}/{code}.txt.xz`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from halfling import __version__, languages
from halfling.compressed import unpacked
from halfling.corpus.sources import SourceSettings
from halfling.corpus.sources.cc100 import DamagedFileError, parse_documents
from halfling.corpus.sources.download import Download
from halfling.errors import HalflingError


class HttpSource:
    """Files of a host, copied to `cache` as far as they are read."""

    def __init__(self, address: str, wanted: str | Sequence[str], cache: Path, settings: SourceSettings) -> None:
        """Name the files; nothing is fetched yet.

        Raises:
            HalflingError: A language is unknown, or the address names no host.
        """
        shown = re.sub(r"(?<=://).*@", "", address, flags=re.DOTALL)
        try:
            parts = urlsplit(address)
            named = (
                parts.port != 0 and re.fullmatch(r"[\w.:-]+", parts.hostname or "") and not re.search(r"\s", address)
            )
        except ValueError:  # a bracket without its counterpart, a port that is no number
            named = False
        if not named:
            raise HalflingError(f"{shown}: names no host: give an address like https://data.statmt.org/cc-100/")
        if "?" in address or "#" in address:
            raise HalflingError(f"{shown}: has a query or a fragment: give the address of a folder of files")
        self.address, self.cache, self.sampled = address.rstrip("/"), cache, settings.sampled
        self.patience_seconds = settings.patience_seconds
        self.codes = tuple(sorted(languages.resolve("cc100" if wanted == "all" else wanted)))

    def documents(self, code: str) -> Iterator[str]:
        """Yield a language's documents, fetching what is not in the cache."""
        with (
            httpx2.Client(headers={"User-Agent": f"halfling/{__version__}"}) as client,
            Download(
                self.place(code),
                self.cache / f"{code}.txt.xz",
                client,
                whole=self.sampled,
                patience_seconds=self.patience_seconds,
            ) as raw,
        ):
            try:
                yield from parse_documents(unpacked(raw, ".xz"), self.place(code))
            except DamagedFileError:
                self.forget(code)  # another try begins with a fresh copy
                raise

    def text_bytes(self, code: str) -> int:
        """Return how much text CC100 has of a language."""
        return languages.CC100[code].text_bytes

    def place(self, code: str) -> str:
        """Return the address of a language's file."""
        return f"{self.address}/{code}.txt.xz"

    def forget(self, code: str) -> None:
        """Delete the copy."""
        for path in self.cache.glob(f"{code}.txt.xz*"):
            path.unlink()
