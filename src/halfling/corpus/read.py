"""CC100's format as a stream: a paragraph a line, a blank line between documents."""

import io
import lzma
from collections.abc import Iterator
from pathlib import Path

from halfling.errors import HalflingError


def read_documents(path: Path) -> Iterator[str]:
    r"""Yield each document of a `.txt.xz` or `.txt` file, its paragraphs joined by "\n".

    Raises:
        HalflingError: The file is missing, truncated, corrupt, not UTF-8, or holds no document.
    """
    number = 0
    paragraphs: list[str] = []
    any_found = False
    try:
        with _open(path) as file:
            # Lines are cut at b"\n" alone: text mode would also cut at a stray carriage return.
            for line in file:
                number += 1
                paragraph = line.decode("utf-8").strip()
                if paragraph:
                    paragraphs.append(paragraph)
                elif paragraphs:
                    any_found = True
                    yield "\n".join(paragraphs)
                    paragraphs = []
    except UnicodeDecodeError as error:
        raise HalflingError(f"{path}: line {number} is not UTF-8 ({error.reason}): repair the file") from error
    except EOFError as error:
        raise HalflingError(f"{path}: truncated after line {number}: fetch the file again") from error
    except lzma.LZMAError as error:
        raise HalflingError(f"{path}: corrupt xz after line {number} ({error}): fetch the file again") from error
    except OSError as error:
        raise HalflingError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    if paragraphs:
        yield "\n".join(paragraphs)
    elif not any_found:
        raise HalflingError(f"{path}: holds no document: fetch the file again, or leave the language out")


def _open(path: Path) -> lzma.LZMAFile | io.BufferedReader:
    return lzma.LZMAFile(path) if path.suffix == ".xz" else path.open("rb")
