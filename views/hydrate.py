"""From ids to records: one trip to the cache store for all of them, and one batch to the owner for what it misses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mesh.cache.records import Records
from mesh.cache.store import CacheGone
from mesh.context import shared

Fetch = Callable[[Sequence[int]], Awaitable[Sequence[bytes]]]
"""Asks the owner: one record for each id, empty for an id that nothing has."""

_BATCH = 1000  # what the owners' BatchGet takes


class Hydrator:
    """Records of one kind.

    Args:
        records: the read model, which the owner writes.
        fetch: the owner's BatchGet. It writes what it finds to the read model itself.
    """

    def __init__(self, records: Records, fetch: Fetch) -> None:
        self.records = records
        self._fetch = fetch
        self._loading: dict[int, asyncio.Future[bytes]] = {}

    async def get(self, ids: Sequence[int]) -> list[bytes | None]:
        """One record for each id: a tombstone for what was deleted, None or empty for what never was.

        Raises Unavailable when neither the cache store nor the owner answers.
        """
        try:
            found = await self.records.get(ids)
        except CacheGone:
            found = [None] * len(ids)
        return await self.complete(ids, found)

    async def complete(self, ids: Sequence[int], found: list[bytes | None]) -> list[bytes | None]:
        """`found` with its gaps filled by the owner, for callers that read the cache store in a trip of their own.

        A record that many want at once is asked for once.
        """
        if None not in found:
            return found
        missing = [i for i, record in zip(ids, found, strict=True) if record is None]
        mine = list(dict.fromkeys(i for i in missing if i not in self._loading))
        if mine:
            loop = asyncio.get_running_loop()
            futures = {i: loop.create_future() for i in mine}
            self._loading |= futures
            for start in range(0, len(mine), _BATCH):
                batch = mine[start : start + _BATCH]
                task = asyncio.create_task(self._load(batch, {i: futures[i] for i in batch}), context=shared())
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
        loaded = dict(
            zip(missing, await asyncio.gather(*(asyncio.shield(self._loading[i]) for i in missing)), strict=True)
        )
        return [loaded[i] if record is None else record for i, record in zip(ids, found, strict=True)]

    async def _load(self, ids: Sequence[int], futures: dict[int, asyncio.Future[bytes]]) -> None:
        try:
            records = await self._fetch(ids)
            for i, record in zip(ids, records, strict=True):
                futures[i].set_result(record)
        except BaseException as error:
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a waiter may be gone
            if not isinstance(error, Exception):
                raise
        finally:
            for i in ids:
                self._loading.pop(i, None)
