"""Done, but the caller was told that it timed out: the suite on Cassandra."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.suites.told_it_timed_out import Told, ToldTweetsSuite

from .cassandra_stores import empty, opened, told


class TestTweets(ToldTweetsSuite):
    """All of the suite."""

    @pytest.fixture(autouse=True)
    def keyspace(self, tweets_keyspace: str) -> None:
        """Where `opened` opens it."""
        self.url = tweets_keyspace

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Told]:
        """See ToldItTimedOutSuite."""
        async with opened(self.url) as (keyspace, stores):
            await empty(keyspace.db)
            yield told(keyspace, stores)
