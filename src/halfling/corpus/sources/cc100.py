"""CC100's format as a stream: a paragraph a line, a blank line between documents."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from halfling.compressed import CorruptError, unpacked
from halfling.errors import HalflingError
from halfling.files import no_text, opened

_BLOCK = 2**16
_BLOCK_AHEAD = 2**20
"""Bytes that a thread decompresses while those before are worked on."""
_LONGEST = 2**24
"""Characters of a document; Common Crawl's pages are far shorter, and a file without blank lines would fill memory."""


class DamagedFileError(HalflingError):
    """A file does not hold what it should; another copy of it may."""


def read_documents(path: Path) -> Iterator[str]:
    r"""Yield each document of a `.txt.xz` or `.txt` file, its paragraphs joined by "\n".

    Raises:
        HalflingError: The file is missing, truncated, corrupt, not UTF-8, or holds no document.
    """
    try:
        with opened(path) as file:
            yield from parse_documents(_ahead(file) if path.suffix == ".xz" else _blocks(file), str(path))
    except OSError as error:
        raise HalflingError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def parse_documents(blocks: Iterator[bytes], where: str) -> Iterator[str]:
    r"""Yield each document of a file, its paragraphs stripped and joined by "\n".

    Args:
        blocks: The file's bytes; no more is asked of them than is needed for the next documents.
        where: The file's place, for messages.

    Raises:
        DamagedFileError: The file is truncated, corrupt, not UTF-8, or holds no document.
        HalflingError: It is no UTF-8 in lines, or a document is longer than any page: the file is of another format.
    """
    number = 0
    any_found = False
    begun = b""
    waiting = ""
    try:
        for block in blocks:
            if not number and not begun and (problem := no_text(block)):
                raise HalflingError(f"{where}: {problem}")
            # Lines are cut at b"\n" alone: text mode would also cut at a stray carriage return.
            whole, ended, begun = (begun + block).rpartition(b"\n")
            if ended:
                waiting += _stripped(whole) + "\n"
                number += whole.count(b"\n") + 1
                *documents, waiting = waiting.split("\n\n")
                for document in filter(None, (document.strip("\n") for document in documents)):
                    any_found = True
                    yield document
            if len(waiting) + len(begun) > _LONGEST:
                raise HalflingError(
                    f"{where}: a document of more than {_LONGEST} characters ends at line {number} or later: "
                    "put a blank line between documents"
                )
        for document in filter(None, (waiting + _stripped(begun)).strip("\n").split("\n\n")):
            any_found = True
            yield document
    except UnicodeDecodeError as error:
        number += error.object.count(b"\n", 0, error.start) + 1
        raise DamagedFileError(f"{where}: line {number} is not UTF-8 ({error.reason}): repair the file") from error
    except EOFError as error:
        raise DamagedFileError(f"{where}: truncated after line {number}: fetch the file again") from error
    except CorruptError as error:
        raise DamagedFileError(f"{where}: corrupt xz after line {number} ({error}): fetch the file again") from error
    if not any_found:
        raise DamagedFileError(f"{where}: holds no document: fetch the file again, or leave the language out")


def _stripped(lines: bytes) -> str:
    return "\n".join(map(str.strip, lines.decode("utf-8").split("\n")))


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _ahead(file: BinaryIO) -> Iterator[bytes]:
    """Decompress in a thread, which lets go of Python's lock, one block ahead of the reader."""
    blocks = unpacked(file, ".xz", _BLOCK_AHEAD)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, blocks, b"")
        while block := waiting.result():
            waiting = thread.submit(next, blocks, b"")
            yield block
