"""The SQL adapter of TweetStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.tweet.store.checks import SqlCountCheck
from services.tweet.store.sql import SqlTweetStore

from .sqlite_stores import sqlite
from .suites.tweets import TweetStores, TweetStoreSuite


class TestSqlTweetStore(TweetStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetStores]:
        """See TweetStoreSuite."""
        async with sqlite("tweet", folder) as sql:
            store = SqlTweetStore(sql.db, sql.outbox)
            check = SqlCountCheck(sql.db, sql.outbox, store.counts)

            async def corrupt(statement: str) -> None:
                await sql.db.write(lambda tx: tx.execute(statement))

            yield TweetStores(store, store.polls, store.counts, check, corrupt, sql.events, sql.db.close)
