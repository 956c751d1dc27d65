"""Polls' read-model records: this service is their only writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from mesh.cache.loading import LoadLimit
from mesh.cache.records import TOMBSTONE, Records
from mesh.cache.store import CacheGone
from services.tweet.domain import StoredPoll, poll_record
from services.tweet.store.base import PollStore

_log = structlog.get_logger(__name__)


class Polls:
    """Reads polls, and keeps their records true.

    Args:
        store: where they are.
        records: the read model.
        loads: how many loads there are at once, of all that share it.
    """

    def __init__(self, store: PollStore, records: Records, loads: LoadLimit | None = None) -> None:
        self._store = store
        self._records = records
        self._loads = loads or LoadLimit()

    async def load(self, ids: Sequence[int]) -> list[bytes]:
        """Records from the store, one for each id, empty for none; also written to the read model.

        Raises Unavailable when too much is loaded already.
        """
        async with self._loads:
            polls = await self._store.by_ids(list(dict.fromkeys(ids)))
        found = {poll.id: poll_record(poll) for poll in polls}
        try:
            await self._records.put(found)
        except CacheGone:
            _log.debug("read model not written", polls=len(found))
        return [found.get(i, b"") for i in ids]

    async def publish(self, polls: Iterable[StoredPoll]) -> None:
        """Writes changed polls to the read model; when the cache is gone, their events do it later."""
        try:
            await self._records.put({poll.id: poll_record(poll) for poll in polls})
        except CacheGone:
            _log.debug("read model not written")

    async def rewrite(self, ids: Sequence[int]) -> None:
        """Writes records anew from the store. Raises CacheGone."""
        await self._records.put({poll.id: poll_record(poll) for poll in await self._store.by_ids(ids)})

    async def bury(self, poll_id: int) -> None:
        """Says in the read model that a poll is gone with its tweet. Raises CacheGone."""
        await self._records.put({poll_id: TOMBSTONE})
