"""Values that cost something to load: one loader a key, so many loads at once, lifetimes that differ, and renewal
before the end."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mesh.cache.store import CacheGone, CacheStore
from mesh.context import shared
from mesh.errors import DeadlineExceeded, Unavailable
from mesh.resilience.bulkhead import Bulkhead

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LoadLimit(Bulkhead):
    """Stands before a database where the cache store would have spared it a load.

    With the store gone everything is loaded, dozens of times what a database is sized for. So many loads run at once,
    some more wait for a moment, and the rest are refused with Unavailable, at once: those that are answered are
    answered in time, and writes find a database that has time for them.

    Args:
        limit: loads of one process at once.
        queue: how many wait.
        wait_s: for how long, seconds.
    """

    def __init__(self, *, limit: int = 32, queue: int = 128, wait_s: float = 1.0) -> None:
        super().__init__(limit=limit, queue=queue, wait_s=wait_s)


class SingleFlight(Generic[K, V]):
    """Callers that want the same thing at the same time share one call.

    The call goes on when the caller that began it goes away, and is made in nobody's name; each caller waits no longer
    than its own deadline.
    """

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    async def do(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The result of `load`, or of the one for the same key that runs already. Raises what it raises."""
        task = self._running.get(key)
        if task is None:

            async def run() -> V:
                return await load()

            task = asyncio.create_task(run(), context=shared())
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: K, task: asyncio.Task[V]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # all callers may have gone: then nobody else reads it


class LoadingCache:
    """Small values in the cache store, loaded on demand.

    A value lives for `ttl_s`, give or take a tenth. Before its end it is renewed by one caller by chance, the likelier
    the nearer the end and the dearer the load (XFetch: Vattani, Chierichetti, Lowenstein, VLDB 2015). When the store
    is gone values are loaded each time, one loader a key.
    """

    def __init__(self, store: CacheStore, prefix: str, *, ttl_s: float, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._now = now
        self._flight: SingleFlight[str, bytes] = SingleFlight()

    async def get(self, key: str, load: Callable[[], Awaitable[bytes]]) -> bytes:
        """The value of `key`. Raises what `load` raises."""
        try:
            [kept] = await self._store.exchange([("GET", self._prefix + key)])
        except CacheGone:
            return await self._flight.do(key, load)
        if kept is not None:
            ends, cost, value = _unpack(kept)
            now = self._now()
            if now - cost * math.log(1.0 - random.random()) < ends:  # noqa: S311
                return value
            if now < ends:
                try:
                    return await self._flight.do(key, lambda: self._load(key, load))
                except (Unavailable, DeadlineExceeded):
                    return value  # it is good until its end, and this was to renew it before
        return await self._flight.do(key, lambda: self._load(key, load))

    async def _load(self, key: str, load: Callable[[], Awaitable[bytes]]) -> bytes:
        started = time.perf_counter()
        value = await load()
        ttl_s = self._ttl_s * random.uniform(0.9, 1.1)  # noqa: S311
        kept = _pack(self._now() + ttl_s, time.perf_counter() - started, value)
        try:
            await self._store.exchange([("SET", self._prefix + key, kept, "PX", int(ttl_s * 1000))])
        except CacheGone:
            return value  # it will be loaded again
        return value

    async def drop(self, key: str) -> None:
        """Forgets a value that changed. Raises CacheGone."""
        await self._store.write([("DEL", self._prefix + key)])


def _pack(ends: float, cost: float, value: bytes) -> bytes:
    return int(ends * 1000).to_bytes(8, "big") + min(int(cost * 1e6), 2**32 - 1).to_bytes(4, "big") + value


def _unpack(kept: bytes) -> tuple[float, float, bytes]:
    return int.from_bytes(kept[:8], "big") / 1000, int.from_bytes(kept[8:12], "big") / 1e6, kept[12:]
