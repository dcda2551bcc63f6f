"""The process: a socket, uvicorn, signals, and an end at which all that was accepted is answered."""

import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Mapping

import uvicorn

from halfling.errors import HalflingError
from halfling.serve.app import create_app
from halfling.serve.logs import start_logging
from halfling.serve.meter import Meter
from halfling.serve.model import Served
from halfling.serve.patience import PatientProtocol
from halfling.serve.settings import ServeSettings

log = logging.getLogger("halfling.serve")

_BACKLOG = 2048
"""Connections that the system holds until they are taken."""


def run(models: Mapping[str, Served], settings: ServeSettings, meter: Meter, level: str = "info") -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted.

    Raises:
        HalflingError: The address cannot be listened at.
    """
    start_logging(level)
    listening = _listening(settings.host, settings.port)
    _allow_connections()

    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("listening", extra={"address": address, "models": [*models]})
    # uvicorn raises the signal that ended it once more: an end as wanted is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server_of(models, settings, meter).run(sockets=[listening])
    log.info("stopped")


def server_of(models: Mapping[str, Served], settings: ServeSettings, meter: Meter) -> uvicorn.Server:
    """Return what answers at the sockets that it is run with."""

    class Protocol(PatientProtocol):
        patience_seconds = settings.patience_seconds

    config = uvicorn.Config(
        create_app(models, settings, meter),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    return uvicorn.Server(config)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Python puts the address into the reason once more.
        number = 0 if isinstance(error, socket.gaierror) else error.errno or 0
        reason = os.strerror(number) if number else error.strerror
        raise HalflingError(f"{host} port {port}: cannot be listened at ({reason}): choose another") from error


def _allow_connections() -> None:
    """Let this process hold as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft != hard else soft, hard))
