"""A service's own schema on a real SQLite file, and the events that wait in its outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pool, message_factory

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox

from .suites.events import Event

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Sql:
    """What a SQL adapter is made of."""

    db: Database
    """Migrated by the service's own files."""
    outbox: SqlOutbox
    """It is not started: events stay where they are put, and the bus is never asked for anything."""

    async def plan(self, tx: Tx, query: str, params: Mapping[str, object] | None = None) -> str:
        """How the database reads a query, in its own words."""
        if tx.dialect == "sqlite":
            steps = (await tx.execute(f"EXPLAIN QUERY PLAN {query}", params)).all()
            return "; ".join(step.detail for step in steps)
        for way in ("seqscan", "bitmapscan", "sort"):  # what small tables are read by
            await tx.execute(f"SET LOCAL enable_{way} = off")
        return "\n".join((await tx.execute(f"EXPLAIN (COSTS OFF) {query}", params)).scalars().all())

    async def events(self) -> list[Event]:
        """See suites.events.Events."""

        async def unit(tx: Tx) -> list[tuple[str, bytes, str, bytes]]:
            rows = (await tx.execute("SELECT topic, key, type, payload FROM outbox ORDER BY id")).all()
            return [(row.topic, row.key, row.type, row.payload) for row in rows]

        pool = descriptor_pool.Default()
        return [
            Event(
                topic,
                key.decode(),
                message_factory.GetMessageClass(pool.FindMessageTypeByName(kind)).FromString(payload),
            )
            for topic, key, kind, payload in await self.db.read(unit)
        ]


@asynccontextmanager
async def sqlite(service: str, folder: Path) -> AsyncIterator[Sql]:
    """A new database of a service in `folder`, closed at the end."""
    url = f"sqlite+aiosqlite:///{folder}/{service}.db"
    await migrate(url, ROOT / "services" / service / "schema" / "sql")
    db = await Database.open(url)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    try:
        yield Sql(db, SqlOutbox(db, bus, service))
    finally:
        await bus.close()
        await db.close()
