"""Long lists on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .sql_scale import graph_at_scale, lists_at_scale, people_at_scale, tweets_at_scale
from .sqlite_stores import sqlite
from .suites.scale import (
    GraphAtScale,
    GraphAtScaleSuite,
    ListsAtScale,
    ListsAtScaleSuite,
    PeopleAtScale,
    PeopleAtScaleSuite,
    TweetsAtScale,
    TweetsAtScaleSuite,
)


class TestTweets(TweetsAtScaleSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetsAtScale]:
        """See TweetsAtScaleSuite."""
        async with sqlite("tweet", folder) as sql:
            yield tweets_at_scale(sql)


class TestGraph(GraphAtScaleSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphAtScale]:
        """See GraphAtScaleSuite."""
        async with sqlite("graph", folder) as sql:
            yield graph_at_scale(sql)


class TestLists(ListsAtScaleSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListsAtScale]:
        """See ListsAtScaleSuite."""
        async with sqlite("graph", folder) as sql:
            yield lists_at_scale(sql)


class TestPeople(PeopleAtScaleSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[PeopleAtScale]:
        """See PeopleAtScaleSuite."""
        async with sqlite("user", folder) as sql:
            yield people_at_scale(sql)
