"""The moderation store on SQLite, and that its audit is only ever added to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.moderation.store import sql as adapter
from services.moderation.store.sql import SqlModerationStore

from .sqlite_stores import sqlite
from .suites.moderation import ModerationStores, ModerationStoreSuite


class TestSqlModerationStore(ModerationStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ModerationStores]:
        """See ModerationStoreSuite."""
        async with sqlite("moderation", folder) as sql:
            yield ModerationStores(SqlModerationStore(sql.db, sql.outbox), sql.events)


def test_no_statement_changes_the_audit_but_the_one_that_erases_a_moderator() -> None:
    source = Path(adapter.__file__).read_text()
    assert re.findall(r"(?:UPDATE|DELETE FROM|INSERT INTO) audit\b[^\"]*", source) == [
        "UPDATE audit SET actor_id = {ERASED} WHERE id IN",
        "INSERT INTO audit (id, actor_id, act, case_id, detail) VALUES (:id, :actor, :act, :case, :detail)",
    ]
