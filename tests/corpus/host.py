"""A host of files that has bad days, as CC100's has."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Host:
    """Serves a folder by ranges.

    `fault(name, number)` says what goes wrong with request `number` (from 0) for a file; None is a good answer.
    """

    folder: Path
    fault: Callable[[str, int], str | None] = lambda name, number: None
    address: str = ""
    sent: int = 0
    asked: list[tuple[str, int, str | None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    slow: float = 0.0
    waits: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> int:
        return sum(1 for other, *_ in self.asked if other == name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: Host

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        host = self.host
        name = self.path.removeprefix("/")
        path = host.folder / name
        if not path.is_file():
            self.answer(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
        begin = int(asked[1])
        with host.lock:
            fault = host.fault(name, host.count(name))
            host.asked.append((name, begin, fault))
            host.at_once += 1
            host.most_at_once = max(host.most_at_once, host.at_once)
        try:
            time.sleep(host.slow)
            self.give(content, begin, int(asked[2]) + 1 if asked[2] else len(content), fault)
        finally:
            with host.lock:
                host.at_once -= 1

    def give(self, content: bytes, begin: int, end: int, fault: str | None) -> None:
        if fault in ("429", "503", "500"):
            self.answer(int(fault), {"Retry-After": "17"} if fault == "429" else {})
            return
        if fault == "refused":
            self.close_connection = True
            return
        if fault == "truncated":  # as if the upload were not finished
            content = content[: len(content) // 2]
        wrong = {"too large": len(content) + 4096, "too small": len(content) // 9}
        total = wrong.get(fault, len(content))
        headers = {"ETag": '"one"' if fault != "changed" else '"other"'}
        if fault == "no ranges":
            self.answer(200, headers, content)
        elif begin >= len(content):
            self.answer(416, headers | {"Content-Range": f"bytes */{total}"})
        else:
            part = content[begin:end]
            headers["Content-Range"] = f"bytes {begin}-{begin + len(part) - 1}/{total}"
            self.answer(206, headers, part, keep=len(part) // 3 if fault == "dropped" else None)

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", keep: int | None = None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body[:keep])
        except OSError:
            self.close_connection = True
        with self.host.lock:
            self.host.sent += len(body[:keep])
        if keep is not None:
            self.close_connection = True


@contextmanager
def serve(folder: Path) -> Iterator[Host]:
    """Serve `folder` on a port of this machine for as long as the block lasts."""
    host = Host(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"host": host}))
    server.daemon_threads = True
    host.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
