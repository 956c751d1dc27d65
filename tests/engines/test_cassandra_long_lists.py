"""Long lists on Cassandra."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.suites.scale import TweetsAtScale, TweetsAtScaleSuite

from .cassandra_stores import at_scale, empty, opened


class TestTweets(TweetsAtScaleSuite):
    """All of the suite."""

    rows = 100_000

    @pytest.fixture(autouse=True)
    def keyspace(self, tweets_keyspace: str) -> None:
        """Where `opened` opens it."""
        self.url = tweets_keyspace

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetsAtScale]:
        """See TweetsAtScaleSuite."""
        async with opened(self.url) as (keyspace, stores):
            await empty(keyspace.db)
            yield at_scale(keyspace, stores)
