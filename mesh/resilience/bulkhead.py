"""Bulkhead: one slow destination must not take all of a service's memory and time."""

from __future__ import annotations

import asyncio
from types import TracebackType

from mesh.errors import Unavailable


class Bulkhead:
    """Lets `limit` calls run and `queue` wait; refuses the rest at once with Unavailable.

    Args:
        limit: how many run.
        queue: how many wait.
        wait_s: for how long one waits before it is refused too, seconds; None for as long as its caller does.
    """

    def __init__(self, *, limit: int, queue: int = 0, wait_s: float | None = None) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._room = limit + queue
        self._wait_s = wait_s
        self._inside = 0

    async def __aenter__(self) -> None:
        if self._inside >= self._room:
            raise Unavailable("Too many requests wait for one service.", reason="BULKHEAD_FULL")
        self._inside += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            self._inside -= 1
            raise Unavailable("Too many requests wait for one service.", reason="BULKHEAD_FULL") from None
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1
        self._slots.release()
