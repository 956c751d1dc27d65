"""The SQL adapters of UserStore, SessionStore and KeyStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.user.store.sql import SqlKeyStore, SqlSessionStore, SqlUserStore

from .sqlite_stores import sqlite
from .suites.users import UserStores, UserStoreSuite


class TestSqlUserStores(UserStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[UserStores]:
        """See UserStoreSuite."""
        async with sqlite("user", folder) as sql:
            yield UserStores(
                SqlUserStore(sql.db, sql.outbox),
                SqlSessionStore(sql.db),
                SqlKeyStore(sql.db),
                sql.events,
                sql.db.close,
            )
