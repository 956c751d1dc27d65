"""The SQL adapter of GraphStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.db.sql import Tx
from services.graph.store.sql import SqlGraphStore

from .sqlite_stores import sqlite
from .suites.graph import LINE, GraphStores, GraphStoreSuite


class TestSqlGraphStore(GraphStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphStores]:
        """See GraphStoreSuite."""
        async with sqlite("graph", folder) as sql:

            async def follow_all(follower: int, followees: range) -> None:
                async def unit(tx: Tx) -> None:
                    await tx.execute(
                        "INSERT INTO follows (follower_id, followee_id, follow_id) VALUES (:follower, :id, :id)",
                        [{"follower": follower, "id": followee} for followee in followees],
                    )
                    await tx.execute(
                        "INSERT INTO people (user_id, followers_count, version) VALUES (:id, 1, 1)",
                        [{"id": followee} for followee in followees],
                    )
                    await tx.execute(
                        "INSERT INTO people (user_id, following_count, version) VALUES (:id, :count, :count)",
                        {"id": follower, "count": len(followees)},
                    )

                await sql.db.write(unit)

            yield GraphStores(SqlGraphStore(sql.db, sql.outbox, LINE), sql.events, follow_all)
