"""A keyspace with an outbox, for the outbox's suite."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.bus.base import Bus
from mesh.db.cassandra import Cassandra
from mesh.outbox.cassandra import CassandraOutbox
from mesh.outbox.relay import Outbox, OutboxOptions

OPENER = f"{__name__}:open_cassandra"
THING = "INSERT INTO things (id) VALUES (?)"


class CassandraOutboxDb:
    """tests.stores.suites.outbox.OutboxDb."""

    def __init__(self, db: Cassandra) -> None:
        self.db = db

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
        return CassandraOutbox(self.db, bus, source, options=options, traceparent=traceparent, clock=clock)

    async def make(
        self, outbox: Outbox, topic: str, number: int, *, payload: bytes | None = None, gives_up: bool = False
    ) -> str:
        """See OutboxDb."""
        assert isinstance(outbox, CassandraOutbox)
        event = outbox.event(topic, b"k", "test.ThingMade", payload or b"%d" % number)
        async with outbox.turn(topic, b"k"):
            statements = outbox.statements([event])
            if gives_up:
                raise LookupError
            await self.db.batch([(THING, (number,)), *statements])
        outbox.committed()
        return event.event_id

    async def waiting(self, topic: str | None = None) -> int:
        """See OutboxDb."""
        rows = await self.db.rows("SELECT topic FROM outbox_waiting")
        return sum(topic in (None, row.topic) for row in rows)

    async def kept(self) -> list[int]:
        """See OutboxDb."""
        rows = [
            *await self.db.rows("SELECT at_us, payload FROM outbox_waiting"),
            *await self.db.rows("SELECT at_us, payload FROM outbox_published"),
        ]
        return [int(payload) for _, payload in sorted((row.at_us, row.payload) for row in rows)]

    async def close(self) -> None:
        """See OutboxDb."""
        await self.db.close()


async def open_cassandra(url: str) -> CassandraOutboxDb:
    """Opens a keyspace that has the tables."""
    return CassandraOutboxDb(await Cassandra.open(url, deadline=10.0))
