"""A folder of CC100's files: which file holds which language."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from halfling import languages
from halfling.corpus.quota import QuotaSettings
from halfling.corpus.sources.cc100 import read_documents
from halfling.errors import HalflingError

_ENDINGS = (".txt.xz", ".txt")


class FolderSource:
    """CC100's files where they lie; nothing is copied."""

    def __init__(self, folder: Path, wanted: str | Sequence[str]) -> None:
        """Find the files."""
        self.paths = find_sources(folder, wanted)
        self.codes = tuple(self.paths)

    def documents(self, code: str) -> Iterator[str]:
        """Yield a language's documents."""
        yield from read_documents(self.paths[code])

    def text_bytes(self, code: str) -> int:
        """Return the size of a language's file, decompressed as CC100's own of that language is."""
        path, language = self.paths[code], languages.CC100[code]
        size = path.stat().st_size
        return size * language.text_bytes // language.compressed_bytes if path.suffix == ".xz" else size

    def place(self, code: str) -> str:
        """Return the path of a language's file."""
        return str(self.paths[code])

    def forget(self, code: str) -> None:
        """Do nothing: the files are not ours."""


def find_sources(folder: Path, wanted: str | Sequence[str]) -> dict[str, Path]:
    """Return the CC100-format file of each language, sorted by code.

    Args:
        folder: Holds `{code}.txt.xz` or `{code}.txt`.
        wanted: "all" for every language that the folder holds, or what `languages.resolve` takes.

    Raises:
        HalflingError: No such folder, a wanted language without a file, a language with two files,
            or (with "all") a `.txt.xz` that is not named for a CC100 code.
    """
    if not folder.is_dir():
        raise HalflingError(f"{folder}: no such folder: it should hold CC100's files, {{code}}.txt.xz")
    if wanted == "all":
        # A README.txt may lie there; a compressed text under a wrong name is more likely a misspelt code.
        found = {_code(path) for path in folder.glob("*.txt.xz")}
        found |= {_code(path) for path in folder.glob("*.txt")} & set(languages.CC100)
        if not found:
            raise HalflingError(f"{folder}: holds no {{code}}.txt.xz: name the folder that holds CC100's files")
        wanted = sorted(found)
    return {code: _file(folder, code) for code in sorted(languages.resolve(wanted))}


def text_files(settings: QuotaSettings, folder: Path) -> list[Path]:
    """Return what a corpus reads of a folder: other languages and whatever else lies there change nothing."""
    return list(find_sources(folder, settings.languages).values())


def _code(path: Path) -> str:
    return path.name.partition(".")[0]


def _file(folder: Path, code: str) -> Path:
    paths = [folder / f"{code}{ending}" for ending in _ENDINGS]
    there = [path for path in paths if path.is_file()]
    if not there:
        raise HalflingError(f"{paths[0]}: no such file: fetch it, or leave {code!r} out of the languages")
    if len(there) > 1:
        raise HalflingError(f"{there[0]} and {there[1].name}: two files for {code!r}: keep one")
    return there[0]
