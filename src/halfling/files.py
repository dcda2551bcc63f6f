"""Files that are whole or absent, and what a file or folder holds."""

import contextlib
import hashlib
import json
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from halfling.errors import HalflingError

MANIFEST = "manifest.json"
"""What makes a folder a stage's; no part of the folder's content, since it holds times."""

CHECKPOINTS = "checkpoints"
"""Of a folder in the making, what a training goes on from; it goes when the folder is whole."""

TASK_SOURCES = "task-sources.json"
"""Where a model's labelled data lie on this machine: no part of a folder's content either."""

PACKED = (".xz", ".gz", ".bz2")
"""Endings of compressed files."""

_SAMPLED_ABOVE = 256 * 2**20
_SAMPLE = 2**20
_LARGE = 2**20
_AT_ONCE = 2**24


def beside(path: Path) -> Path:
    """Return where `path` is made: a hidden neighbour whose name nobody else gives."""
    return path.with_name(f".{path.name}.halfling")


def made_for(folder: Path) -> Path:
    """Return the folder whose place `folder` takes when it is whole: itself, if it is not made beside."""
    name = folder.parent.name
    own = name.startswith(".") and name.endswith(".halfling")
    return folder.parent.with_name(name[1:].removesuffix(".halfling")) if own else folder


@contextlib.contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes `path`'s name only when the block ends well.

    A file that is not `lasting` survives a killed process, but perhaps not a power cut: good for what a stage
    makes for itself and deletes.
    """
    partial = beside(path)
    partial.unlink(missing_ok=True)  # never through a link
    try:
        yield partial
        if lasting:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def opened(path: Path) -> BufferedReader:
    """Return a file, opened to be read.

    Raises:
        HalflingError: It is a folder, or a pipe or device, which may never end.
        OSError: It cannot be opened.
    """
    # A pipe that nobody writes to would hold us.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise HalflingError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or device'}, not a file: name a file")


def read_text(path: Path, most_bytes: int) -> str:
    """Return what a file says in UTF-8, without its byte order mark.

    Raises:
        HalflingError: It is no file, cannot be read, is larger than `most_bytes`, or is not UTF-8.
    """
    try:
        with opened(path) as file:
            content = file.read(most_bytes + 1) if os.fstat(file.fileno()).st_size <= most_bytes else None
        if content is None or len(content) > most_bytes:
            raise HalflingError(f"{path}: larger than {most_bytes} bytes: this is not the file that is meant")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HalflingError(f"{path}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise HalflingError(f"{path}: cannot be read ({error.strerror})") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def files_in(folder: Path) -> list[Path]:
    """Return what a reader of a folder may read, sorted: hidden files and a manifest left out, links followed."""
    found, seen = [], set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:  # a link may lead back
            found += [Path(place, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return sorted(path for path in found if path.is_file() and path != folder / MANIFEST)


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, sorted: hidden files and links as well, a manifest left out."""
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return [
        path.relative_to(folder).as_posix() for path in found if path not in (folder / MANIFEST, folder / TASK_SOURCES)
    ]


def no_text(head: bytes, *, carriage_returns: bool = False) -> str | None:
    """Return why the first bytes of a file are no UTF-8 in lines, for messages; None when they may be.

    UTF-16 without its mark decodes as UTF-8 with zeros in it, and lines that end in a carriage return alone are one
    line: both would be read, as something else.

    Args:
        head: Some kilobytes.
        carriage_returns: Whether they may end lines.
    """
    end = head.find(b"\n")
    beside = head[max(0, end - 1) : end + 2] if end >= 0 else b""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in beside or head.count(b"\0") * 4 > len(head):
        return "UTF-16 or binary, not UTF-8: convert the file to UTF-8"
    if end < 0 and b"\r" in head and not carriage_returns:
        return "lines end in carriage returns alone: end them in line feeds"
    return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's every byte, in hexadecimal."""
    if _ahead and (found := _ahead.of(path)):
        return found
    with opened(path) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class _Ahead(threading.Thread):
    """Reads files in turn for their SHA-256, until it meets one that it cannot read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(daemon=True)
        self.paths = paths
        self.found: dict[Path, tuple[tuple[int, ...], str]] = {}

    def run(self) -> None:
        with contextlib.suppress(HalflingError, OSError):
            for path in self.paths:
                self.found[path] = _state(path), self._sha256(path)

    @staticmethod
    def _sha256(path: Path) -> str:
        # In large parts, and mapped, as the engine will map the file: before each call this thread waits until the
        # importing one lets it go on.
        found = hashlib.sha256()
        with opened(path) as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for start in range(0, len(mapped), _AT_ONCE):
                with memoryview(mapped)[start : start + _AT_ONCE] as some:
                    found.update(some)
                    mapped.madvise(mmap.MADV_DONTNEED, start, len(some))
        return found.hexdigest()

    def of(self, path: Path) -> str | None:
        """Return what was found, if the file is still what it was then; None: it was not read, or has changed."""
        if path not in self.paths:
            return None
        self.join()
        seen, found = self.found.pop(path, ((), ""))
        with contextlib.suppress(OSError):
            return found if found and seen == _state(path) else None
        return None


def _state(path: Path) -> tuple[int, ...]:
    said = path.stat()
    return said.st_dev, said.st_ino, said.st_size, said.st_mtime_ns


_ahead: _Ahead | None = None


def read_ahead(paths: Iterable[Path]) -> None:
    """Begin to read large files in the background, for whoever asks for their `sha256` next.

    What a command has to import meanwhile takes as long as reading a model of a hundred megabytes.
    """
    global _ahead
    with contextlib.suppress(OSError):
        _ahead = _Ahead([path for path in paths if path.stat().st_size >= _LARGE])
        _ahead.start()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files, in hexadecimal.

    Of a file above 256 MiB only the size and the first and last MiB are read: CC100 is half a terabyte,
    and a fingerprint must not cost more than the work that it saves. Not of weights, whose size is that of all models
    of a shape. What has to find damage takes `sha256`.
    """
    if path.is_dir():
        return digest_of(files_in(path), path)
    size = path.stat().st_size
    if size <= _SAMPLED_ABOVE or path.suffix == ".safetensors":
        return sha256(path)
    with opened(path) as content:
        sampled = hashlib.sha256(str(size).encode() + content.read(_SAMPLE))
        content.seek(-_SAMPLE, os.SEEK_END)
        sampled.update(content.read(_SAMPLE))
        return sampled.hexdigest()


def digest_of(files: Iterable[Path], folder: Path, of: Callable[[Path], str] = digest) -> str:
    """Return the SHA-256 of files' names in a folder and contents, each content hashed by `of`."""
    whole = hashlib.sha256()
    for file in sorted(files):
        name = Path(os.path.relpath(file, folder)).as_posix()
        whole.update(os.fsencode(f"{name}\0{of(file)}\n"))  # a name need not be UTF-8
    return whole.hexdigest()
