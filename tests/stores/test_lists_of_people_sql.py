"""The SQL adapter of ListStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.db.sql import Tx
from services.graph.domain import Line
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore

from .sqlite_stores import sqlite
from .suites.lists import ListStores, ListStoreSuite

_NUMBER = {"list_members": "member_id", "list_follows": "follow_id"}
_COUNT = {"list_members": "member_count", "list_follows": "follower_count"}
_PAGES = (
    "SELECT l.list_id FROM lists l WHERE l.owner_id = 1 AND l.list_id < 9 AND NOT l.gone ORDER BY l.list_id DESC",
    "SELECT m.list_id FROM list_members m JOIN lists l ON l.list_id = m.list_id WHERE m.user_id = 1"
    " AND m.member_id < 9 AND NOT l.gone ORDER BY m.member_id DESC",
    "SELECT f.list_id FROM list_follows f JOIN lists l ON l.list_id = f.list_id WHERE f.user_id = 1"
    " AND f.follow_id < 9 AND NOT l.gone ORDER BY f.follow_id DESC",
    "SELECT member_id, user_id FROM list_members WHERE list_id = 1 AND member_id < 9 ORDER BY member_id DESC",
    "SELECT follow_id, user_id FROM list_follows WHERE list_id = 1 AND follow_id > 9 ORDER BY follow_id",
)
"""The adapter's queries for pages, with numbers in the place of parameters."""


class TestSqlListStore(ListStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListStores]:
        """See ListStoreSuite."""
        async with sqlite("graph", folder) as sql:

            async def fill(table: str, pairs: Sequence[tuple[int, int]]) -> None:
                async def unit(tx: Tx) -> None:
                    more = {"list_members": ", counted"}.get(table, "")
                    await tx.execute(
                        f"INSERT INTO {table} (list_id, user_id, {_NUMBER[table]}{more})"
                        f" VALUES (:list, :user, :number{', FALSE' if more else ''})",
                        [{"list": one, "user": user, "number": n} for n, (one, user) in enumerate(pairs, 10**6)],
                    )
                    await tx.execute(
                        f"UPDATE lists SET {_COUNT[table]} ="
                        f" (SELECT COUNT(*) FROM {table} t WHERE t.list_id = lists.list_id)"
                    )

                await sql.db.write(unit)

            async def plans() -> list[str]:
                async def unit(tx: Tx) -> list[str]:
                    return [
                        "; ".join(row.detail for row in (await tx.execute(f"EXPLAIN QUERY PLAN {query}")).all())
                        for query in _PAGES
                    ]

                return await sql.db.read(unit)

            graph = SqlGraphStore(sql.db, sql.outbox, Line(10))
            yield ListStores(SqlListStore(sql.db, sql.outbox), graph, sql.events, fill, plans)
