"""The SQL adapter of GraphStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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

            async def add_all(insert: str, pairs: Sequence[tuple[int, int]]) -> None:
                """Numbered pairs in bulk; numbers are the pairs' places in the list."""

                async def unit(tx: Tx) -> None:
                    await tx.execute(insert, [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs, 1)])

                await sql.db.write(unit)

            async def block_all(pairs: Sequence[tuple[int, int]]) -> None:
                await add_all("INSERT INTO blocks (blocker_id, blocked_id, block_id) VALUES (:a, :b, :n)", pairs)

            async def mute_all(muter: int, muted: range) -> None:
                insert = "INSERT INTO mutes (muter_id, muted_id, mute_id) VALUES (:a, :b, :n)"
                await add_all(insert, [(muter, one) for one in muted])

            async def request_all(requester: int, targets: range) -> None:
                insert = "INSERT INTO follow_requests (requester_id, target_id, request_id) VALUES (:a, :b, :n)"
                await add_all(insert, [(requester, one) for one in targets])

            store = SqlGraphStore(sql.db, sql.outbox, LINE)
            yield GraphStores(
                store,
                sql.events,
                follow_all,
                block_all,
                mute_all,
                request_all,
                lambda line: SqlGraphStore(sql.db, sql.outbox, line),
            )
