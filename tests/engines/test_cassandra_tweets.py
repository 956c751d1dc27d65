"""The tweets store on a real Cassandra: the suite that SQL passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.suites.tweets import TweetStores, TweetStoreSuite

from .cassandra_stores import empty, opened, tweet_stores


class TestTweetStore(TweetStoreSuite):
    """All of the suite."""

    @pytest.fixture(autouse=True)
    def keyspace(self, tweets_keyspace: str) -> None:
        """Where `opened` opens it."""
        self.url = tweets_keyspace

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetStores]:
        """See TweetStoreSuite."""
        async with opened(self.url) as (keyspace, stores):
            await empty(keyspace.db)
            yield tweet_stores(keyspace, stores)
