"""The SQL adapters of AttemptStore, MailStore and SecondFactorStore, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .sql_adapters import credential_stores
from .sqlite_stores import sqlite
from .suites.credentials import CredentialStores, CredentialStoreSuite


class TestSqlCredentialStores(CredentialStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[CredentialStores]:
        """See CredentialStoreSuite."""
        async with sqlite("user", folder) as sql:
            yield credential_stores(sql)


async def test_people_are_found_by_addresses_through_an_index(tmp_path: Path) -> None:
    queries = (
        "SELECT id FROM users WHERE claim_key <> '' AND claim_key = :value ORDER BY id DESC LIMIT 1",
        "SELECT id FROM users WHERE (claim_key = :value AND claim_key <> '') OR email_key = :value",
        "SELECT COUNT(*) FROM attempts WHERE key = :value AND at_ms > 7 AND id <> :value",
        "DELETE FROM attempts WHERE id = :value",
    )
    async with sqlite("user", tmp_path) as sql:
        for query in queries:
            plan = await sql.db.read(lambda tx, query=query: sql.plan(tx, query, {"value": "x"}))  # type: ignore[misc]
            assert "SCAN" not in plan, (query, plan)
