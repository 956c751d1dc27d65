"""The SQL adapter of TweetStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .sql_adapters import tweet_stores
from .sqlite_stores import sqlite
from .suites.tweets import TweetStores, TweetStoreSuite


class TestSqlTweetStore(TweetStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetStores]:
        """See TweetStoreSuite."""
        async with sqlite("tweet", folder) as sql:
            yield tweet_stores(sql)
