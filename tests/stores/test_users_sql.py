"""The SQL adapters of UserStore, SessionStore and KeyStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rookery.events.v1.user_events_pb2 import UserProfileChanged, UserRegistered

from mesh.db.sql import Tx
from services.user.store.base import FoundWord
from services.user.store.sql import SEARCH, SqlUserStore

from .sql_adapters import in_order, user_stores
from .sqlite_stores import sqlite
from .suites.users import UserStores, UserStoreSuite, new_person, session_of


class TestSqlUserStores(UserStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[UserStores]:
        """See UserStoreSuite."""
        async with sqlite("user", folder) as sql:
            yield user_stores(sql)


async def test_what_older_rules_made_is_made_again_and_the_record_with_it(tmp_path: Path) -> None:
    async with sqlite("user", tmp_path) as sql:
        users = SqlUserStore(sql.db, sql.outbox)
        for user_id in range(1, 6):
            await users.create(new_person(user_id), session_of(user_id), UserRegistered(user_id=user_id))
        described = await users.update(2, {"description": "#rookery"}, UserProfileChanged(user_id=2))
        assert described is not None

        async def older(tx: Tx) -> None:
            await tx.execute("UPDATE users SET parsed = 0, entities = NULL WHERE id < 4")
            await tx.execute("DELETE FROM user_words")
            await tx.execute("UPDATE users SET suspended = TRUE WHERE id = 3")

        await sql.db.write(older)
        again = [*await users.parse_again(2), *await users.parse_again(2)]
        assert sorted(person.id for person in again) == [1, 2, 3]
        assert await users.parse_again(2) == []
        assert replace(described, version=3) in again
        assert await users.search("user_", None, 10) == [FoundWord("user_1", 1), FoundWord("user_2", 2)]


async def test_a_search_reads_an_index_and_no_more(tmp_path: Path) -> None:
    async with sqlite("user", tmp_path) as sql:
        params = {"prefix": "a", "end": "b", "word": "a", "id": 0, "limit": 10}
        plan = await sql.db.read(lambda tx: sql.plan(tx, SEARCH, params))
        assert in_order(plan), plan
