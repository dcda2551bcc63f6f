"""One file of a host, fetched as it is read, resumed by range, kept on disk."""

import fcntl
import io
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep

import httpx2
from pydantic import Field

from halfling.errors import HalflingError
from halfling.records import Record

_FIRST_PIECE, _LARGEST_PIECE = 2**14, 2**26
_GROWTH = 0.03
"""Each piece is this share of what lies before it, so a reader that stops has fetched little more than it read."""

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 600.0


class Identity(Record):
    """What the host says of a file; it lies beside the copy in `{copy}.json`."""

    etag: str | None = Field(description="a strong one, or null")
    total: int = Field(ge=0, description="bytes")
    sure: bool = Field(False, description="said twice")


class _AgainError(Exception):
    """This try failed and another may not; `after` is how many seconds the host wants to be left alone."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Download(io.RawIOBase):
    """Reads a file of a host from its copy on disk, which grows as it is read.

    The copy is always a beginning of the file, so a killed process goes on where it stood. Every answer says how
    large the file is, and mostly an ETag; one that contradicts those before is doubted unless the next repeats it.
    """

    def __init__(
        self,
        url: str,
        copy: Path,
        client: httpx2.Client,
        *,
        whole: bool,
        connections: int,
        max_tries: int,
    ) -> None:
        """Open the copy, or begin one.

        Args:
            url: The file's address.
            copy: Path of the copy.
            client: The connection to the host.
            whole: The file will be read to its end, so large pieces may be asked for.
            connections: At most so many at a time, of all processes that keep copies in this folder.
            max_tries: In a row without a byte.
        """
        self.url, self.copy, self.client, self.whole = url, copy, client, whole
        self.connections, self.max_tries = connections, max_tries
        copy.parent.mkdir(parents=True, exist_ok=True)
        self._beside = copy.with_name(copy.name + ".json")
        self._known = Identity.read(self._beside) if self._beside.exists() else None
        if self._known is None:
            copy.unlink(missing_ok=True)
        self._doubted: Identity | None = None
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
        """Return whether the copy is the whole file; a single answer that says so could be wrong."""
        return self._ends() and self._known is not None and self._known.sure

    def _ends(self) -> bool:
        """Return whether the copy ends where the host says, and as xz does: "YZ", then zeros or nothing.

        https://tukaani.org/xz/xz-file-format.txt, sections 2.1.2.4 and 2.2.
        """
        if self._known is None or self._size < self._known.total:
            return False
        with self.copy.open("rb") as file:
            file.seek(max(0, self._size - 1024))
            return file.read().rstrip(b"\0").endswith(b"YZ")

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
                if failed == self.max_tries and self._size == before:
                    reason = str(error) or type(error).__name__
                    raise HalflingError(
                        f"{self.url}: {reason} ({failed} tries): try again later, what was fetched is kept"
                    ) from error
                after = error.after if isinstance(error, _AgainError) else 0.0
                # Not all workers at the same moment.
                sleep(max(after, min(60.0, 2.0**failed) * random.uniform(0.5, 1.0)))

    def _fetch(self) -> None:
        """Ask for the next piece and write down what comes of it."""
        # Complete or not, somebody has to say it a second time: then the last byte again.
        begin = self._size - 1 if self._ends() else self._size
        end = begin + (_LARGEST_PIECE if self.whole else min(_LARGEST_PIECE, max(_FIRST_PIECE, int(begin * _GROWTH))))
        headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        if self._known and self._known.etag:
            headers["If-Range"] = self._known.etag
        try:
            with self.client.stream("GET", self.url, headers=headers) as answer:
                self._check(answer, begin)
                with self.copy.open("r+b") as file:
                    file.seek(begin)
                    for data in answer.iter_raw():
                        place = file.tell()
                        file.write(data if self.whole else data[: end - place])
                        file.flush()
                        self._size = max(self._size, file.tell())
                        if place + len(data) > end and not self.whole:
                            break  # a host that knows no ranges would send all the rest
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise HalflingError(f"{self.url}: {error}: mend the address") from error

    def _check(self, answer: httpx2.Response, begin: int) -> None:
        """Let an answer pass that brings the bytes from `begin` on."""
        said = f"{answer.status_code} {answer.reason_phrase}"
        if answer.status_code in _BUSY:
            raise _AgainError(f"the host answers {said}", _retry_after(answer.headers.get("Retry-After", "")))
        if answer.status_code not in (200, 206, 416):
            raise HalflingError(f"{self.url}: the host answers {said}: mend the address, or leave the language out")
        etag = answer.headers.get("ETag")
        etag = etag if etag and not etag.startswith("W/") else None
        if answer.status_code == 200:
            length = answer.headers.get("Content-Length", "")
            self._agree(Identity(etag=etag, total=int(length)) if length.isdecimal() else None)
            if begin:
                raise _AgainError("the host answers with the whole file where a part was asked for")
            return
        match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match or answer.status_code == 206:
            self._agree(Identity(etag=etag, total=int(match[2])) if match and match[2] != "*" else None)
        if answer.status_code == 416:
            raise _AgainError(f"the file is truncated: it ends after {self._size} bytes in the middle of its xz stream")
        if not match or match[1] is None or int(match[1]) != begin:
            raise _AgainError("the host answers with another part than was asked for")

    def _agree(self, said: Identity | None) -> None:
        """Compare what an answer says of the file with what was said before."""
        if said is None:
            raise _AgainError("the host does not say how large the file is")
        known, doubted = self._known, self._doubted
        if known and said.etag is None:
            said = said.model_copy(update={"etag": known.etag})  # an error page of its own has none
        if known is None:
            self._remember(said)
        elif said == known.model_copy(update={"sure": False}):
            self._remember(said.model_copy(update={"sure": True}))
        elif said != doubted:
            self._doubted = said
            # Of the same file, or so the ETag says: its bytes are welcome, whatever its size may be.
            if said.etag != known.etag:
                raise _AgainError("the host has another file than before")
        elif said.etag != known.etag or said.total < self._size or (known.sure and known.etag is None):
            raise HalflingError(
                f"{self.url}: changed on the host since its first part was fetched: "
                f"delete {self.copy.parent.parent} and begin again"
            )
        else:
            self._remember(said.model_copy(update={"sure": True}))

    def _remember(self, said: Identity) -> None:
        if said != self._known:
            said.write(self._beside)
        self._known, self._doubted = said, None

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Hold one of the connections that are allowed; the system takes it back from a killed process."""
        paths = [self.copy.parent / f".connection-{number}" for number in range(1, self.connections + 1)]
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


def _retry_after(value: str) -> float:
    """Return the seconds that a `Retry-After` asks for, given as seconds or as a date; 0 if it asks for nothing."""
    if value.isdecimal():
        return min(_LONGEST_WAIT, float(value))
    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(_LONGEST_WAIT, max(0.0, seconds))
