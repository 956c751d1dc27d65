"""The SQL adapters of every port, on PostgreSQL: the suites that they pass on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.moderation.store.sql import SqlModerationStore
from services.user.store.sql import SEARCH
from tests.stores.sql_adapters import (
    credential_stores,
    export_stores,
    graph_stores,
    in_order,
    list_stores,
    tweet_stores,
    user_stores,
)
from tests.stores.suites.credentials import CredentialStores, CredentialStoreSuite
from tests.stores.suites.exports import ExportStores, ExportStoreSuite
from tests.stores.suites.graph import GraphStores, GraphStoreSuite
from tests.stores.suites.lists import ListStores, ListStoreSuite
from tests.stores.suites.moderation import ModerationStores, ModerationStoreSuite
from tests.stores.suites.tweets import TweetStores, TweetStoreSuite
from tests.stores.suites.users import UserStores, UserStoreSuite

from .engines import postgresql_store

pytestmark = pytest.mark.usefixtures("postgresql")


class TestUserStores(UserStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[UserStores]:
        """See UserStoreSuite."""
        async with postgresql_store("user") as sql:
            yield user_stores(sql)


class TestCredentialStores(CredentialStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[CredentialStores]:
        """See CredentialStoreSuite."""
        async with postgresql_store("user") as sql:
            yield credential_stores(sql)


class TestExportStore(ExportStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ExportStores]:
        """See ExportStoreSuite."""
        async with postgresql_store("user") as sql:
            yield export_stores(sql)


class TestGraphStore(GraphStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphStores]:
        """See GraphStoreSuite."""
        async with postgresql_store("graph") as sql:
            yield graph_stores(sql)


class TestListStore(ListStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListStores]:
        """See ListStoreSuite."""
        async with postgresql_store("graph") as sql:
            yield list_stores(sql)


class TestTweetStore(TweetStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[TweetStores]:
        """See TweetStoreSuite."""
        async with postgresql_store("tweet") as sql:
            yield tweet_stores(sql)


class TestModerationStore(ModerationStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ModerationStores]:
        """See ModerationStoreSuite."""
        async with postgresql_store("moderation") as sql:
            yield ModerationStores(SqlModerationStore(sql.db, sql.outbox), sql.events)


async def test_a_search_reads_an_index_in_its_order() -> None:
    async with postgresql_store("user") as sql:
        params = {"prefix": "a", "end": "b", "word": "a", "id": 0, "limit": 10}
        plan = await sql.db.read(lambda tx: sql.plan(tx, SEARCH, params))
        assert in_order(plan), plan
