"""The outbox between a real SQLite file and a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.db.migrations import migrate
from mesh.outbox.sql import OUTBOX_DDL

from .sql_outbox import OPENER
from .suites.outbox import OutboxSuite


class TestOutbox(OutboxSuite):
    """All of the suite."""

    opener = OPENER

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[str]:
        """See OutboxSuite."""
        schema = folder / "schema"
        schema.mkdir()
        (schema / "001_init.sql").write_text(f"CREATE TABLE things (id INTEGER PRIMARY KEY);\n{OUTBOX_DDL}")
        url = f"sqlite+aiosqlite:///{folder}/test.db"
        await migrate(url, schema)
        yield url
