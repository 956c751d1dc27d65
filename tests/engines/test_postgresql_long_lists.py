"""Long lists on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.sql_scale import graph_at_scale, lists_at_scale, people_at_scale, tweets_at_scale
from tests.stores.suites.scale import (
    GraphAtScale,
    GraphAtScaleSuite,
    ListsAtScale,
    ListsAtScaleSuite,
    PeopleAtScale,
    PeopleAtScaleSuite,
    TweetsAtScale,
    TweetsAtScaleSuite,
)

from .engines import emptied_store

pytestmark = pytest.mark.usefixtures("postgresql")
ROWS = 100_000


class TestTweets(TweetsAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetsAtScale]:
        """See TweetsAtScaleSuite."""
        async with emptied_store("tweet") as sql:
            yield tweets_at_scale(sql)


class TestGraph(GraphAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphAtScale]:
        """See GraphAtScaleSuite."""
        async with emptied_store("graph") as sql:
            yield graph_at_scale(sql)


class TestLists(ListsAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListsAtScale]:
        """See ListsAtScaleSuite."""
        async with emptied_store("graph") as sql:
            yield lists_at_scale(sql)


class TestPeople(PeopleAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[PeopleAtScale]:
        """See PeopleAtScaleSuite."""
        async with emptied_store("user") as sql:
            yield people_at_scale(sql)
