"""A file of labelled data without its compression, and whether it is text at all."""

import mmap
import re
from pathlib import Path

from halfling.compressed import CorruptError, unpacked
from halfling.errors import HalflingError
from halfling.files import PACKED, no_text

_LARGEST = 2**31
"""Bytes; labelled data that are larger once unpacked are a bomb, and would fill the disk."""
_HEAD = 2**16
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..)", re.DOTALL
)


def plain_file(path: Path, scratch: Path) -> Path:
    """Return a file of the same content without compression: the file itself, or one in the folder `scratch`.

    Raises:
        HalflingError: It is damaged, empty or far too large.
    """
    if path.suffix not in PACKED:
        return path
    plain = scratch / path.stem
    size = 0
    try:
        with path.open("rb", buffering=0) as packed, plain.open("wb") as file:
            for piece in unpacked(packed, path.suffix):
                if (size := size + len(piece)) > _LARGEST:
                    raise HalflingError(f"{path}: unpacks to more than {_LARGEST} bytes: too large for labelled data")
                file.write(piece)
    except EOFError as error:
        raise HalflingError(f"{path}: truncated: fetch the file again") from error
    except CorruptError as error:
        raise HalflingError(f"{path}: broken, or not an {path.suffix[1:]} file ({error})") from error
    if not size:
        raise HalflingError(f"{path}: empty: expected labelled examples")
    return plain


def require_text(plain: Path, path: Path, *, json: bool, carriage_returns: bool) -> None:
    r"""Refuse what is no UTF-8 text in lines, or holds half a character, which one reader of JSON drops in silence.

    Args:
        plain: The file without compression.
        path: As the user named it, for messages.
        json: Whether characters may be written as `\ud83d`.
        carriage_returns: Whether these alone may end lines.

    Raises:
        HalflingError: The file is none.
    """
    with plain.open("rb") as file:
        if problem := no_text(file.read(_HEAD), carriage_returns=carriage_returns):
            raise HalflingError(f"{path}: {problem}")
        if not json:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _SURROGATE.search(content) and (lone := _LONE.search(content)):
                line = content[: lone.start()].count(b"\n") + 1
                half = lone[0][-6:].decode(errors="replace")
                raise HalflingError(f"{path}, line {line}: {half} is half a character: mend the text")
