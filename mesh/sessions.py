"""Sessions that ended while access tokens of theirs may still be good.

A token is good for its time wherever its signature is checked. So that it stops working with its session, every
service that has public RPCs keeps the sessions that ended within a token's life, and reads what is new from their owner
each 2 s. It asks the owner, and not the cache store, since nothing can end a session while the owner is away, and
whatever happens to the cache changes nothing. A service that has just started knows nothing until its first answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from mesh.errors import MeshError

_EVERY_S = 2.0
_OVERLAP_MS = 30_000  # a change is seen this much after its time: its commit takes 2 s at most, the rest is for clocks
_MOST = 1_000_000  # about 150 MB
_log = structlog.stdlib.get_logger("mesh.sessions")


@dataclass(frozen=True, slots=True)
class Ended:
    """One session that has ended."""

    session: bytes
    """Its id."""
    ended_ms: int
    """When, by its owner's clock."""


@dataclass(frozen=True, slots=True)
class EndedPage:
    """An answer of the owner's."""

    sessions: Sequence[Ended]
    """In the order of `ended_ms`, then of ids."""
    keep_ms: int
    """How long after its end a session's tokens may be good."""
    more: bool
    """Whether there are others after these."""


Read = Callable[[int, bytes], Awaitable[EndedPage]]
"""Asks the owner for sessions that ended after a time, and after an id at that time."""


class EndedSessions:
    """The sessions of which no token is to be taken.

    Args:
        read: asks the owner. What it raises of MeshError is tried again; until then what is known counts.
        every_s: seconds between two questions.
        most: sessions kept at most. With more, those that ended first are forgotten: they are out of date soonest.
    """

    def __init__(
        self,
        read: Read,
        *,
        every_s: float = _EVERY_S,
        most: int = _MOST,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._read = read
        self._every_s = every_s
        self._most = most
        self._now_ms = now_ms
        self._until: OrderedDict[str, int] = OrderedDict()
        self._newest_ms = 0
        self._watched: dict[str, list[Callable[[], None]]] = {}
        self._failing = False

    def __contains__(self, session: str) -> bool:
        """Whether a session, by its id in hexadecimal digits, is known to have ended."""
        return session in self._until

    def __len__(self) -> int:
        """How many are known."""
        return len(self._until)

    @contextmanager
    def watch(self, session: str, ended: Callable[[], None]) -> Iterator[None]:
        """Calls `ended` once if the session is found to have ended while the block runs."""
        self._watched.setdefault(session, []).append(ended)
        try:
            yield
        finally:
            callbacks = self._watched.get(session, [])
            if ended in callbacks:
                callbacks.remove(ended)
            if not callbacks:
                self._watched.pop(session, None)

    async def run(self) -> None:
        """Keeps up with the owner, for ever."""
        while True:
            try:
                await self.catch_up()
            except MeshError as error:
                if not self._failing:
                    _log.warning("ended sessions are not known", error=error.detail)
                self._failing = True
            else:
                self._failing = False
            await asyncio.sleep(self._every_s)

    async def catch_up(self) -> None:
        """Reads all that is new. Raises what the owner's answer raises."""
        after_ms, after_id = max(0, self._newest_ms - _OVERLAP_MS), b""
        while True:
            page = await self._read(after_ms, after_id)
            for one in page.sessions:
                self._add(one.session.hex(), one.ended_ms + page.keep_ms)
                self._newest_ms = max(self._newest_ms, one.ended_ms)
                after_ms, after_id = one.ended_ms, one.session
            if not page.more or not page.sessions:
                break
        self._forget()

    def _add(self, session: str, until_ms: int) -> None:
        if session in self._until:
            return
        self._until[session] = until_ms
        for ended in self._watched.pop(session, []):
            ended()

    def _forget(self) -> None:
        now = self._now_ms()
        while self._until:
            session, until_ms = next(iter(self._until.items()))
            if until_ms > now and len(self._until) <= self._most:
                return
            del self._until[session]
