"""The SQL adapter of ListStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .sql_adapters import list_stores
from .sqlite_stores import sqlite
from .suites.lists import ListStores, ListStoreSuite


class TestSqlListStore(ListStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListStores]:
        """See ListStoreSuite."""
        async with sqlite("graph", folder) as sql:
            yield list_stores(sql)
