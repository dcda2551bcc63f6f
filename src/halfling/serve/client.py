"""Who waits at the other side of a connection, and what becomes of the work for one who has gone."""

import asyncio
from typing import Any

CLIENT = "halfling.client"
"""Where a request's scope holds its client."""


class Client:
    """The other side of one connection.

    uvicorn tells that a client has gone to whoever calls `receive`, which takes a task more for every request. Here
    the connection itself cancels the task that works for the client.

    Attributes:
        status: What a request that is not answered is counted as; 499 as in nginx, which had the need first.
        is_gone: Whether nobody waits any more.
        task: What is cancelled then; None: nothing is to be spared.
    """

    def __init__(self) -> None:
        self.status = 499
        self.is_gone = False
        self.task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """Be gone."""
        self.is_gone = True
        if self.task is not None:
            self.task.cancel()
