"""One file of a host, fetched as it is read, resumed by range, kept on disk."""

import fcntl
import io
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx2
from pydantic import Field

from halfling.errors import HalflingError
from halfling.records import Record

_FIRST_PIECE, _LARGEST_PIECE = 2**14, 2**26
_GROWTH = 0.03
"""Each piece is this share of what lies before it, so a reader that stops has fetched little more than it read."""

_CONNECTIONS = 4
"""At the same time, of all processes that keep copies in one folder."""
_MAX_TRIES = 8
"""In a row without one byte."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 600.0


class Copied(Record):
    """What is known of a copy; it lies beside it in `{copy}.json`."""

    etag: str | None = Field(None, description="the host's, a strong one, or null")
    whole: bool = Field(False, description="the host said that the file ends where the copy does")


class _AgainError(Exception):
    """This try failed and another may not; `after` is how many seconds the host wants to be left alone."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Download(io.RawIOBase):
    """Reads a file of a host from its copy on disk, which grows as it is read.

    The copy is always a beginning of the file, so a killed process goes on where it stood. An answer with another
    ETag than the first is not taken, and xz's own checksums hold for what has none.
    """

    def __init__(self, url: str, copy: Path, client: httpx2.Client, *, whole: bool) -> None:
        """Open the copy, or begin one.

        Args:
            url: The file's address.
            copy: Path of the copy.
            client: The connection to the host.
            whole: The file will be read to its end, so large pieces may be asked for.
        """
        self.url, self.copy, self.client, self.whole = url, copy, client, whole
        copy.parent.mkdir(parents=True, exist_ok=True)
        self._beside = copy.with_name(copy.name + ".json")
        self._known = Copied.read(self._beside) if self._beside.exists() else None
        if self._known is None:
            copy.unlink(missing_ok=True)
        copy.touch()
        self._size = copy.stat().st_size
        self._file = copy.open("rb")

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the copy; it stays on disk."""
        self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read what the copy holds next, after fetching more of the file when it holds nothing."""
        if not (count := self._file.readinto(buffer)) and not self._complete():
            self._grow()
            count = self._file.readinto(buffer)
        return count

    def _complete(self) -> bool:
        return self._known is not None and self._known.whole

    def _grow(self) -> None:
        """Fetch until the copy is larger, or complete.

        Raises:
            HalflingError: The host refuses, or no try of many brought anything.
        """
        before, failed = self._size, 0
        while self._size == before and not self._complete():
            try:
                with self._connection():
                    self._fetch()
            except (_AgainError, httpx2.TransportError) as error:
                failed += 1
                if failed == _MAX_TRIES and self._size == before:
                    reason = str(error) or type(error).__name__
                    raise HalflingError(
                        f"{self.url}: {reason} ({failed} tries): try again later, what was fetched is kept"
                    ) from error
                after = error.after if isinstance(error, _AgainError) else 0.0
                # Not all workers at the same moment.
                sleep(max(after, min(60.0, 2.0**failed) * random.uniform(0.5, 1.0)))

    def _fetch(self) -> None:
        """Ask for the next piece and write down what comes of it."""
        begin = self._size
        end = begin + (_LARGEST_PIECE if self.whole else min(_LARGEST_PIECE, max(_FIRST_PIECE, int(begin * _GROWTH))))
        headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            with self.client.stream("GET", self.url, headers=headers) as answer:
                total = self._total(answer, begin)
                if answer.status_code != 416:
                    self._append(answer, end)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise HalflingError(f"{self.url}: {error}: mend the address") from error
        if self._size == total and self._ends():
            self._remember(whole=True)
        elif answer.status_code == 416:
            raise _AgainError(f"the file is truncated: it ends after {self._size} bytes in the middle of its xz stream")

    def _append(self, answer: httpx2.Response, end: int) -> None:
        with self.copy.open("ab", buffering=0) as file:
            for data in answer.iter_raw():
                piece = data if self.whole else data[: end - self._size]
                file.write(piece)
                self._size += len(piece)
                if len(piece) < len(data):
                    break  # a host that knows no ranges would send all the rest

    def _total(self, answer: httpx2.Response, begin: int) -> int | None:
        """Return how large the file is by an answer that may be used, one that brings the bytes from `begin` on."""
        said = f"{answer.status_code} {answer.reason_phrase}"
        if answer.status_code in _BUSY:
            asked = answer.headers.get("Retry-After", "")
            after = min(_LONGEST_WAIT, float(asked)) if asked.isdecimal() else 0.0
            raise _AgainError(f"the host answers {said}", after)
        if answer.status_code not in (200, 206, 416):
            raise HalflingError(f"{self.url}: the host answers {said}: mend the address, or leave the language out")
        etag = answer.headers.get("ETag")
        if etag and not etag.startswith("W/"):
            if self._known and self._known.etag not in (None, etag):
                raise _AgainError(
                    f"changed on the host since its first part was fetched: delete {self.copy.parent.parent}"
                )
            self._remember(etag=etag)
        elif self._known is None:
            self._remember()
        if answer.status_code == 200:
            if begin:
                raise _AgainError("the host answers with the whole file where a part was asked for")
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
        match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status_code == 206 and not (match and match[1] and int(match[1]) == begin):
            raise _AgainError("the host answers with another part than was asked for")
        return int(match[2]) if match and match[2] != "*" else None

    def _ends(self) -> bool:
        """Return whether the copy ends as xz does: "YZ", then zeros or nothing.

        https://tukaani.org/xz/xz-file-format.txt, sections 2.1.2.4 and 2.2.
        """
        with self.copy.open("rb") as file:
            file.seek(max(0, self._size - 1024))
            return file.read().rstrip(b"\0").endswith(b"YZ")

    def _remember(self, **found: str | bool) -> None:
        known = (self._known or Copied()).model_copy(update=found)
        if known != self._known:
            known.write(self._beside)
        self._known = known

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Hold one of the connections that are allowed; the system takes it back from a killed process."""
        paths = [self.copy.parent / f".connection-{number}" for number in range(1, _CONNECTIONS + 1)]
        random.shuffle(paths)
        for path in paths:
            with path.open("w") as lock:
                last = path == paths[-1]
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | (0 if last else fcntl.LOCK_NB))
                except OSError:
                    continue
                yield
                return
