"""CC100's format as a stream: a paragraph a line, a blank line between documents."""

import io
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from halfling.errors import HalflingError


class DamagedFileError(HalflingError):
    """A file does not hold what it should; another copy of it may."""


def read_documents(path: Path) -> Iterator[str]:
    r"""Yield each document of a `.txt.xz` or `.txt` file, its paragraphs joined by "\n".

    Raises:
        HalflingError: The file is missing, truncated, corrupt, not UTF-8, or holds no document.
    """
    try:
        with _open(path) as file:
            yield from parse_documents(file, str(path))
    except OSError as error:
        raise HalflingError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def parse_documents(lines: Iterable[bytes], where: str) -> Iterator[str]:
    r"""Yield each document of lines that end in b"\n", its paragraphs joined by "\n".

    Args:
        lines: As an opened file gives them; decompressing may fail.
        where: The file's place, for messages.

    Raises:
        DamagedFileError: The lines are truncated, corrupt, not UTF-8, or hold no document.
    """
    number = 0
    paragraphs: list[str] = []
    any_found = False
    try:
        # Lines are cut at b"\n" alone: text mode would also cut at a stray carriage return.
        for line in lines:
            number += 1
            paragraph = line.decode("utf-8").strip()
            if paragraph:
                paragraphs.append(paragraph)
            elif paragraphs:
                any_found = True
                yield "\n".join(paragraphs)
                paragraphs = []
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{where}: line {number} is not UTF-8 ({error.reason}): repair the file") from error
    except EOFError as error:
        raise DamagedFileError(f"{where}: truncated after line {number}: fetch the file again") from error
    except lzma.LZMAError as error:
        raise DamagedFileError(f"{where}: corrupt xz after line {number} ({error}): fetch the file again") from error
    if paragraphs:
        yield "\n".join(paragraphs)
    elif not any_found:
        raise DamagedFileError(f"{where}: holds no document: fetch the file again, or leave the language out")


def _open(path: Path) -> lzma.LZMAFile | io.BufferedReader:
    return lzma.LZMAFile(path) if path.suffix == ".xz" else path.open("rb")
