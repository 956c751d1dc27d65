"""Any SQL database with an outbox, for the outbox's suite."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.bus.base import Bus
from mesh.db.sql import Database, Tx
from mesh.outbox.relay import Outbox, OutboxOptions
from mesh.outbox.sql import SqlOutbox

OPENER = f"{__name__}:open_sql"


class SqlOutboxDb:
    """tests.stores.suites.outbox.OutboxDb."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def outbox(
        self,
        bus: Bus,
        source: str = "test",
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Outbox:
        """See OutboxDb."""
        return SqlOutbox(self._db, bus, source, options=options, traceparent=traceparent, clock=clock)

    async def make(
        self, outbox: Outbox, topic: str, number: int, *, payload: bytes | None = None, gives_up: bool = False
    ) -> str:
        """See OutboxDb."""
        assert isinstance(outbox, SqlOutbox)

        async def unit(tx: Tx) -> str:
            await tx.execute("INSERT INTO things (id) VALUES (:id)", {"id": number})
            event_id = await outbox.add(tx, topic, b"k", "test.ThingMade", payload or b"%d" % number)
            if gives_up:
                raise LookupError
            return event_id

        return await self._db.write(unit)

    async def waiting(self, topic: str | None = None) -> int:
        """See OutboxDb."""
        of_topic, params = ("", {}) if topic is None else (" AND topic = :topic", {"topic": topic})
        query = f"SELECT count(*) FROM outbox WHERE published_ms IS NULL{of_topic}"
        return int(await self._db.read(lambda tx: tx.scalar(query, params)))

    async def kept(self) -> list[int]:
        """See OutboxDb."""

        async def unit(tx: Tx) -> list[int]:
            return [int(row[0]) for row in await tx.execute("SELECT payload FROM outbox ORDER BY id")]

        return await self._db.read(unit)

    async def close(self) -> None:
        """See OutboxDb."""
        await self._db.close()


async def open_sql(url: str) -> SqlOutboxDb:
    """Opens a database that has the tables."""
    return SqlOutboxDb(await Database.open(url))
