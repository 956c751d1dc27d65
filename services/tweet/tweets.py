"""Tweets' read-model records: this service is their only writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from mesh.cache.loading import LoadLimit
from mesh.cache.records import Records
from mesh.cache.store import CacheGone
from services.tweet.domain import StoredTweet, record
from services.tweet.store.base import TweetStore

_log = structlog.get_logger(__name__)


class Tweets:
    """Reads tweets, and keeps their records true.

    Args:
        store: where they are.
        records: the read model.
        loads: how many loads there are at once, of all that share it.
    """

    def __init__(self, store: TweetStore, records: Records, loads: LoadLimit | None = None) -> None:
        self._store = store
        self._records = records
        self._loads = loads or LoadLimit()

    async def load(self, ids: Sequence[int]) -> list[bytes]:
        """Records from the store, one for each id, empty for none; also written to the read model.

        Raises Unavailable when too much is loaded already.
        """
        async with self._loads:
            tweets = await self._store.by_ids(list(dict.fromkeys(ids)))
        found = {tweet.id: record(tweet) for tweet in tweets}
        try:
            await self._records.put(found)
        except CacheGone:
            _log.debug("read model not written", tweets=len(found))
        return [found.get(i, b"") for i in ids]

    async def publish(self, tweets: Iterable[StoredTweet]) -> None:
        """Writes changed tweets to the read model; when the cache is gone, their events do it later."""
        try:
            await self._records.put({tweet.id: record(tweet) for tweet in tweets})
        except CacheGone:
            _log.debug("read model not written")

    async def rewrite(self, ids: Sequence[int]) -> None:
        """Writes records anew from the store. Raises CacheGone."""
        await self._records.put({tweet.id: record(tweet) for tweet in await self._store.by_ids(ids)})
