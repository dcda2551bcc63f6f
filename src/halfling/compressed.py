"""Compressed files as a stream of bytes: every stream of a file, or an error. What `xz -dc` reads is what counts."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

_COMPRESSED = 2**17
"""Bytes that are read of a file at once: `lzma` decompresses without Python's lock, and waits for it each time."""
_PADDED = 4
"""Zero bytes between xz streams, and after the last, come in such numbers (section 2.2 of its format)."""

_Stream = lzma.LZMADecompressor | bz2.BZ2Decompressor
_BEGIN: dict[str, Callable[[], _Stream]] = {
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    ".bz2": bz2.BZ2Decompressor,
}


class CorruptError(ValueError):
    """A compressed file holds what is not of its format, or fails its checksums; the message says what."""


def unpacked(file: Any, ending: str, most: int = 2**20) -> Iterator[bytes]:
    """Yield what a file holds, decompressed: of every stream of it, to the last byte.

    Python's own `LZMAFile` and `BZ2File` end in silence where what follows a stream is no stream. xz also allows zero
    bytes after a stream (https://tukaani.org/xz/xz-file-format.txt, section 2.2). No more is read of the file than
    the next bytes need.

    Args:
        file: The compressed file, open, at its beginning; it has `read`.
        ending: ".xz", ".bz2" or ".gz".
        most: Bytes in a piece, at most, however well they were compressed.

    Raises:
        EOFError: The file ends in the middle of a stream, or is empty.
        CorruptError: It is damaged, or something else follows a stream.
    """
    if ending == ".gz":
        yield from _gzip(file, most)
    else:
        yield from _streams(file, _BEGIN[ending], ending == ".xz", most)


def _streams(file: Any, begin: Callable[[], _Stream], padded: bool, most: int) -> Iterator[bytes]:
    data = file.read(_COMPRESSED)
    if not data:
        raise EOFError
    while data:
        stream = begin()
        while not stream.eof:
            if stream.needs_input and not data and not (data := file.read(_COMPRESSED)):
                raise EOFError
            try:
                piece = stream.decompress(data, most)
            except (lzma.LZMAError, OSError) as error:  # an OSError is bz2's
                raise CorruptError(str(error)) from error
            data = b""
            if piece:
                yield piece
        data = stream.unused_data or file.read(_COMPRESSED)
        zeros = 0
        while padded and data.startswith(b"\0"):
            rest = data.lstrip(b"\0")
            zeros += len(data) - len(rest)
            data = rest or file.read(_COMPRESSED)
        if zeros % _PADDED:
            raise CorruptError(f"{zeros} zero bytes after a stream")


def _gzip(file: Any, most: int) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as members:
        empty = True
        while True:
            try:
                piece = members.read1(most)
            except (gzip.BadGzipFile, zlib.error) as error:
                raise CorruptError(str(error)) from error
            if not piece:
                break
            empty = False
            yield piece
    if empty and not file.tell():
        raise EOFError
