"""Several processes at one piece of work, as torchrun starts them: the first leads and writes, the others follow."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from halfling.errors import HalflingError

_T = TypeVar("_T")
_Work = TypeVar("_Work", bound=Callable[..., object])

_PATIENCE = timedelta(days=30)
"""So long the others wait for work that the leader does alone."""


def number() -> int:
    """Return how many processes work together; 1 where nobody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def follows() -> bool:
    """Return whether this process follows another's lead: it writes nothing and says nothing."""
    return number() > 1 and os.environ.get("RANK", "0") != "0"


def told(value: _T) -> _T:
    """Return the leader's value, once every process has come to this place with one of its own.

    Raises:
        HalflingError: Another process has stopped.
    """
    if number() == 1:
        return value
    from torch import distributed  # takes seconds

    if not distributed.is_initialized():
        distributed.init_process_group(timeout=_PATIENCE)
    said = [value]
    try:
        distributed.broadcast_object_list(said, src=0)
    except RuntimeError as error:  # torch's own name no more than a socket
        raise HalflingError("another process of this work has stopped: see what it said") from error
    return said[0]


def together(work: _Work) -> _Work:
    """Mark the work of a stage that several processes do together; any other is the leader's alone."""
    work.together = True  # type: ignore[attr-defined]
    return work


def end_with_parent() -> None:
    """End this process, which `multiprocessing` started, at once when its parent is gone, however that went."""
    parent = parent_process()
    if parent is None:
        return
    alive = parent.sentinel

    def watch() -> None:
        wait([alive])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
