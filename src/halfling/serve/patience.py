"""How long a client may take to send a request and to read its answer, and what is done when it goes."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from halfling.serve.client import CLIENT, Client

_BODY = b'{"error":"the request did not arrive in time","error_type":"Validation"}'
_HEAD = (
    "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n"
)
_TOO_SLOW = _HEAD.format(len(_BODY)).encode() + _BODY


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a request that was begun; this one waits `patience_seconds`."""

    patience_seconds = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._arriving, self._leaving = _Timer(self.loop), _Timer(self.loop)
        self._client, self._answered = Client(), self.cycle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._arriving.start(self.patience_seconds, self._give_up)

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
        self._arriving.start(self.patience_seconds, self._give_up)
        super().on_message_begin()
        self.scope[CLIENT] = self._client  # type: ignore[typeddict-unknown-key]

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
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for somebody who does not read."""
        super().pause_writing()
        self._leaving.start(self.patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._leaving.stop()
        super().resume_writing()

    def _give_up(self) -> None:
        """Refuse a request of which only a part is here, and whose answer has not begun."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TOO_SLOW)
            self._client.status = 408
        self.transport.close()


class _Timer:
    """Calls a function after a while, unless it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
