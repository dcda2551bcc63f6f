"""The door: every request is counted, bounded and logged here, before and after it is answered."""

import asyncio
import logging
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halfling.serve.client import CLIENT, Client
from halfling.serve.meter import Meter
from halfling.serve.settings import ServeSettings

log = logging.getLogger("halfling.serve")


class Door:
    """Lets requests in: not too many at the same time, none with a body that is too large.

    A log line holds no text of a request: neither its body nor its address as sent, which may hold one too.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, meter: Meter) -> None:
        self.app, self.settings, self.meter = app, settings, meter
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0
        client: Client = scope.get(CLIENT) or Client()  # of another server one that never goes

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                client.task = None  # what is left is to send what was computed
            await send(message)

        client.task = task = asyncio.current_task()
        counted = scope["method"] == "POST"  # health and metrics answer under any load
        crowded = counted and self.inside >= self.settings.max_concurrent_requests
        self.inside += counted
        self.meter.under_way.set(self.inside)
        try:
            if not client.is_gone:
                await self.app(scope, _Bounded(receive, self.settings.max_body_bytes, crowded), sending)
        except asyncio.CancelledError:
            if task is None or not client.is_gone:
                raise
            task.uncancel()
        finally:
            client.task = None
            status = status or (client.status if client.is_gone else 500)
            self.inside -= counted
            self.meter.under_way.set(self.inside)
            self._note(scope, status, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        endpoint = getattr(route, "path", "other")
        self.meter.requests.labels(endpoint, status).inc()
        self.meter.request_seconds.labels(endpoint).observe(seconds)
        if log.isEnabledFor(logging.INFO):
            told: dict[str, Any] = scope.get("state", {}).get("told", {})
            ms = round(1000 * seconds, 2)
            seen = {"method": scope["method"], "endpoint": endpoint, "status": status, "ms": ms}
            log.info("request", extra=seen | told)


class _Bounded:
    """The body of a request, up to so many bytes; nothing of it where there is no room for the request."""

    def __init__(self, receive: Receive, most: int, crowded: bool) -> None:
        self.receive, self.room, self.most, self.crowded = receive, most, most, crowded

    async def __call__(self) -> Message:
        """Return the next part.

        Raises:
            HTTPException: It is more than the service takes.
        """
        if self.crowded:
            raise HTTPException(429, "too many requests at the same time", {"retry-after": "1"})
        message = await self.receive()
        self.room -= len(message.get("body", b""))
        if self.room < 0:
            raise HTTPException(413, f"the body has more than {self.most} bytes: send less at once")
        return message
