"""One file of a host, fetched as it is read, resumed by range, kept on disk."""

import fcntl
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx2
from pydantic import Field

from halfling.corpus.sources.answer import AgainError, answered, part_of
from halfling.corpus.sources.patience import LEAST_BYTES, Patience
from halfling.errors import HalflingError
from halfling.records import Record

_FIRST_PIECE, _LARGEST_PIECE = 2**14, 2**26
_GROWTH = 0.03
"""Each piece is this share of what lies before it, so a reader that stops has fetched little more than it read."""

_CONNECTIONS = 4
"""At the same time, of all processes that keep copies in one folder."""
_LONGEST_PAUSE = 60.0
_LONGEST_REASON = 200
_TAIL = 2**16


class Copied(Record):
    """What is known of a copy; it lies beside it in `{copy}.json`."""

    etag: str | None = Field(None, description="the host's, a strong one, or null")
    whole: bool = Field(False, description="the host said that the file ends where the copy does")


class Download(io.RawIOBase):
    """Reads a file of a host from its copy on disk, which grows as it is read.

    The copy is always a beginning of the file, so a killed process goes on where it stood. An answer with another
    ETag than the first is not taken, and xz's own checksums hold for what has none.
    """

    def __init__(
        self, url: str, copy: Path, client: httpx2.Client, *, whole: bool, patience_seconds: float = 30.0
    ) -> None:
        """Open the copy, or begin one.

        Args:
            url: The file's address.
            copy: Path of the copy.
            client: The connection to the host.
            whole: The file will be read to its end, so large pieces may be asked for.
            patience_seconds: In which the host has to bring a few kilobytes.
        """
        self.url, self.copy, self.client, self.whole = url, copy, client, whole
        self._patience = Patience(patience_seconds)
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
            HalflingError: The host refuses, or brings too little in the time it has.
        """
        before, failed = self._size, 0
        while self._size == before and not self._complete():
            try:
                with self._connection(), self._patience.watching():
                    self._fetch()
                if self._patience.left <= 0 and not self._complete():
                    raise httpx2.ReadTimeout("")  # what ended was cut by us
            except (AgainError, httpx2.TransportError) as error:
                failed += 1
                after = error.after if isinstance(error, AgainError) else 0.0
                # Not all workers at the same moment.
                pause = max(after, min(_LONGEST_PAUSE, 2.0**failed) * random.uniform(0.5, 1.0))
                if pause >= self._patience.left:
                    raise HalflingError(
                        f"{self.url}: {self._reason(error)} ({failed} {'try' if failed == 1 else 'tries'}): "
                        "try again later, or with more patience_seconds; what was fetched is kept"
                    ) from error
                sleep(pause)
                self._patience.left -= pause

    def _reason(self, error: Exception) -> str:
        if isinstance(error, httpx2.TransportError) and self._patience.left <= 0:
            return f"the host brings less than {LEAST_BYTES} bytes in {self._patience.seconds:g} seconds"
        asked = (
            f" and asks for a pause of {error.after:g} seconds" if isinstance(error, AgainError) and error.after else ""
        )
        return (str(error) or type(error).__name__)[:_LONGEST_REASON] + asked

    def _fetch(self) -> None:
        """Ask for the next piece and write down what comes of it."""
        begin = self._size
        end = begin + (_LARGEST_PIECE if self.whole else min(_LARGEST_PIECE, max(_FIRST_PIECE, int(begin * _GROWTH))))
        request = self.client.build_request(
            "GET",
            self.url,
            headers={"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"},
            timeout=max(0.1, self._patience.left),
            extensions={"trace": self._patience.trace},
        )
        with answered(self.client, request) as answer:
            part = part_of(answer, begin, end)
            self._check_tag(answer.headers.get("ETag"))
            total = part.total
            # A host that knows no ranges sends the whole file, of which perhaps only the head is wanted.
            stop = part.stop if self.whole else min(part.stop, end)
            if answer.status_code != 416 and self._append(answer, stop) and not part.promised:
                total = self._size  # an answer of unknown length that ended by itself
        if self._size == total and self._ends():
            self._remember(whole=True)
        elif answer.status_code == 416:
            raise AgainError(f"the file is truncated: it ends after {self._size} bytes in the middle of its xz stream")

    def _append(self, answer: httpx2.Response, stop: int) -> bool:
        """Write an answer to the copy, no further than to `stop`; return whether it ended by itself."""
        with self.copy.open("ab", buffering=0) as file:
            for data in answer.iter_raw():
                piece = data[: stop - self._size]
                file.write(piece)
                self._size += len(piece)
                self._patience.came(len(piece))
                if len(piece) < len(data):
                    return False  # a host that knows no ranges would send all the rest, another for ever
        return True

    def _check_tag(self, tag: str | None) -> None:
        """Refuse an answer of another file than the copy's."""
        if tag and not tag.startswith("W/"):
            if self._known and self._known.etag not in (None, tag):
                raise AgainError(
                    f"changed on the host since its first part was fetched: delete {self.copy.parent.parent}"
                )
            self._remember(etag=tag)
        elif self._known is None:
            self._remember()

    def _ends(self) -> bool:
        """Return whether the copy ends as xz does: "YZ", then zeros or nothing.

        https://tukaani.org/xz/xz-file-format.txt, sections 2.1.2.4 and 2.2.
        """
        with self.copy.open("rb") as file:
            end = self._size
            while end > 0:
                begin = max(0, end - _TAIL)
                file.seek(begin)
                if tail := file.read(end - begin).rstrip(b"\0"):
                    file.seek(max(0, begin + len(tail) - 2))
                    return file.read(2) == b"YZ"
                end = begin
        return False

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
