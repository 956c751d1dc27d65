"""Long lists on Cassandra."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.engines.control import Control
from tests.stores.suites.scale import TweetsAtScale, TweetsAtScaleSuite

from .cassandra_stores import at_scale, new_keyspace, opened


class _OnCassandra(TweetsAtScaleSuite):
    @pytest.fixture(autouse=True)
    def keyspace(self, cassandra: Control) -> Iterator[None]:
        """Where `opened` opens it: one for each test, as dropping it is quicker than deleting so many rows."""
        with new_keyspace(cassandra) as self.url:
            yield

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetsAtScale]:
        """See TweetsAtScaleSuite."""
        async with opened(self.url) as (keyspace, stores):
            yield at_scale(keyspace, stores)


class TestTweets(_OnCassandra):
    """Lists of tweets, each of which is a partition of its own besides: writing 100,000 of them takes minutes."""

    rows = 20_000
    test_marks_are_whole_from_both_ends = None  # below


class TestMarks(_OnCassandra):
    """Lists of those who like a tweet, and of what somebody likes."""

    rows = 100_000
    test_lists_of_tweets_are_whole = None  # above
    test_retweets_are_whole = None
