"""The SQL adapter of GraphStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .sql_adapters import graph_stores
from .sqlite_stores import sqlite
from .suites.graph import GraphStores, GraphStoreSuite


class TestSqlGraphStore(GraphStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphStores]:
        """See GraphStoreSuite."""
        async with sqlite("graph", folder) as sql:
            yield graph_stores(sql)
