"""How long a client may take to send a request and to read its answer, how much it may send, and when it goes."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from halfling.serve.client import CLIENT, Client

_MOST_BESIDE_BODY = 262_144
"""Bytes of a request that are no body: its head, what frames its chunks, trailers. The parser would keep them all."""


def _answer(status: str, reason: str) -> bytes:
    body = f'{{"error":"{reason}","error_type":"Validation"}}'
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
    return f"{head}\r\n\r\n{body}".encode()


_REFUSED = {
    400: _answer("400 Bad Request", "not HTTP"),
    408: _answer("408 Request Timeout", "the request did not arrive in time"),
    431: _answer("431 Request Header Fields Too Large", "the request's head is too large"),
}


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a request that was begun; this one waits `patience_seconds`."""

    patience_seconds = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._arriving, self._leaving = _Timer(self.loop), _Timer(self.loop)
        self._client, self._answered = Client(), self.cycle
        self._beside_body = 0

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        """Wait for the first request."""
        super().connection_made(transport)
        self._arriving.start(self.patience_seconds, self._give_up, 408)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a request has more beside its body than any needs."""
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > _MOST_BESIDE_BODY:
            self._give_up(431)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the contract's form."""
        self._give_up(400)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, whose bound is the application's."""
        self._beside_body -= len(body)
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, and have nothing computed for who has gone."""
        self._arriving.stop()
        self._leaving.stop()
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells the last of several alone
            self._answered.disconnected = True
        self._client.leave()

    def on_message_begin(self) -> None:
        """Wait for the rest of a request."""
        self._arriving.start(self.patience_seconds, self._give_up, 408)
        super().on_message_begin()
        self.scope[CLIENT] = self._client  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Remember which request is answered: those behind it wait."""
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle

    def on_response_complete(self) -> None:
        """Go on to the next."""
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """Have a whole request."""
        self._arriving.stop()
        self._beside_body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for somebody who does not read."""
        super().pause_writing()
        self._leaving.start(self.patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._leaving.stop()
        super().resume_writing()

    def _give_up(self, status: int) -> None:
        """Refuse a request of which only a part is here, and whose answer has not begun."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_REFUSED[status])
            self._client.status = status
        self.transport.close()


class _Timer:
    """Calls a function after a while, unless it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[..., None], *given: Any) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, call, *given)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
