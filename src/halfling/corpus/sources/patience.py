"""How long a host may take: some bytes within some seconds, else it is given up."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

LEAST_BYTES = 2**14
"""A host that brings fewer in time is as good as none. One byte every five seconds keeps any timeout waiting."""


class Patience:
    """The seconds in which a host has to bring `LEAST_BYTES`; then they begin anew. Other work does not count.

    A library's timeouts begin again with every byte, be it of a header. So a thread watches, and when the time is over
    it shuts the sockets down: whoever reads from them gets an error.

    Attributes:
        seconds: For `LEAST_BYTES`.
        left: Of these; whoever waits takes from them.
    """

    def __init__(self, seconds: float) -> None:
        """Begin with all the time."""
        self.seconds = self.left = seconds
        self._missing = LEAST_BYTES
        self._end = 0.0
        self._sockets: list[socket.socket] = []

    def came(self, num_bytes: int) -> None:
        """Note what the host has brought."""
        self._missing -= num_bytes
        if self._missing <= 0:
            self._missing, self._end = LEAST_BYTES, time.monotonic() + self.seconds

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Let the time run, and cut connections when it is over."""
        done = threading.Event()
        self._end = time.monotonic() + self.left
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.left = self._end - time.monotonic()

    def trace(self, event: str, said: dict[str, Any]) -> None:
        """Take the socket of each connection: an extension "trace" of an httpx request."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets = [each for each in self._sockets if each.fileno() >= 0]
            self._sockets.append(said["return_value"].get_extra_info("socket"))

    def _watch(self, done: threading.Event) -> None:
        # After the first cut a connection may still come up.
        while not done.wait(max(0.05, self._end - time.monotonic())):
            for each in self._sockets if time.monotonic() >= self._end else ():
                with contextlib.suppress(OSError):  # closed meanwhile
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # an SSLSocket's own would also drop its state
