"""The outbox in SQL: an event is a row, inserted in the unit's own transaction."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import bindparam, column, delete, select, table, text, update

from mesh.bus.base import Bus, Incarnation, Outgoing
from mesh.db.sql import Database, Tx
from mesh.outbox.base import Checked, Lease, Waiting
from mesh.outbox.relay import Outbox, OutboxOptions

OUTBOX_DDL = """\
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  key BLOB NOT NULL,
  type TEXT NOT NULL,
  event_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  traceparent TEXT,
  created_ms INTEGER NOT NULL,
  published_ms INTEGER
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_ms IS NULL;
CREATE INDEX outbox_published ON outbox (published_ms) WHERE published_ms IS NOT NULL;
CREATE TABLE outbox_lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_ms INTEGER NOT NULL,
  contended_ms INTEGER NOT NULL,
  bus_data TEXT NOT NULL,
  bus_process TEXT NOT NULL,
  checked_ms INTEGER NOT NULL
);
"""
"""Tables of the outbox on SQLite; a service's schema repeats them in a migration of its own."""

OUTBOX_DDL_POSTGRESQL = (
    OUTBOX_DDL.replace("id INTEGER PRIMARY KEY AUTOINCREMENT", "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    .replace("BLOB", "BYTEA")
    .replace("_ms INTEGER", "_ms BIGINT")
)
"""The same tables on PostgreSQL."""

_REWIND_ROWS = 2000  # a write: some 10 ms, during which other writers wait
_PRUNE_ROWS = 2000

_outbox = table(
    "outbox",
    *(column(name) for name in ("id", "topic", "key", "type", "event_id", "payload", "traceparent", "published_ms")),
)
_WAITING = (
    select(
        _outbox.c.id,
        _outbox.c.topic,
        _outbox.c.key,
        _outbox.c.type,
        _outbox.c.event_id,
        _outbox.c.payload,
        _outbox.c.traceparent,
    )
    .where(_outbox.c.published_ms.is_(None))
    .order_by(_outbox.c.id)
    .limit(bindparam("rows"))
)
_WAITING_ELSEWHERE = _WAITING.where(_outbox.c.topic.not_in(bindparam("topics", expanding=True)))
_MARK = (
    update(_outbox)
    .where(_outbox.c.id.in_(bindparam("ids", expanding=True)))
    .values(published_ms=bindparam("published_at"))
)
_REWIND = (
    update(_outbox)
    .where(
        _outbox.c.id.in_(
            select(_outbox.c.id).where(_outbox.c.published_ms >= bindparam("since")).limit(bindparam("rows"))
        )
    )
    .values(published_ms=None)
)
_PRUNE = delete(_outbox).where(
    _outbox.c.id.in_(select(_outbox.c.id).where(_outbox.c.published_ms < bindparam("before")).limit(bindparam("rows")))
)
_INSERT = text(
    "INSERT INTO outbox (topic, key, type, event_id, payload, traceparent, created_ms)"
    " VALUES (:topic, :key, :type, :event_id, :payload, :traceparent, :created_ms)"
)
_LEASE_TAKE = text(
    "INSERT INTO outbox_lease (name, holder, expires_ms, contended_ms, bus_data, bus_process, checked_ms)"
    " VALUES ('relay', :holder, :expires_ms, 0, '', '', 0)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_ms = excluded.expires_ms"
    " WHERE outbox_lease.holder = excluded.holder OR outbox_lease.expires_ms < :now_ms"
)
_LEASE_READ = text(
    "SELECT holder, expires_ms, contended_ms, bus_data, bus_process, checked_ms FROM outbox_lease WHERE name = 'relay'"
)
_LEASE_CHECKED = text(
    "UPDATE outbox_lease SET bus_data = :data, bus_process = :process, checked_ms = :checked_ms"
    " WHERE name = 'relay' AND holder = :holder"
)
_LEASE_CONTEND = text("UPDATE outbox_lease SET contended_ms = :now_ms WHERE name = 'relay' AND holder <> :holder")
_LEASE_FREE = text("UPDATE outbox_lease SET expires_ms = 0 WHERE name = 'relay' AND holder = :holder")


class SqlOutbox(Outbox):
    """The outbox of a SQL database, which holds the tables of `OUTBOX_DDL`; the other arguments are Outbox's."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        source: str,
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(SqlRows(db), bus, source, options=options, traceparent=traceparent, clock=clock)

    async def add(
        self,
        tx: Tx,
        topic: str,
        key: bytes,
        type: str,
        payload: bytes,
        *,
        event_id: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Add an event to the unit's transaction; it is published after the commit, and never without it.

        Arguments and errors are those of `event`.

        Returns:
            The event's id.
        """
        event = self.event(topic, key, type, payload, event_id=event_id, traceparent=traceparent)
        if tx.dialect == "postgresql":
            # Ids come from a sequence, before the commit. This lets no two transactions with the same key run side by
            # side from here on, so that for a key the order of ids is that of commits (SQLite has one writer anyway).
            await tx.execute("SELECT pg_advisory_xact_lock(:lock)", {"lock": _lock_number(topic, key)})
        await tx.execute(
            _INSERT,
            {
                "topic": event.topic,
                "key": event.key,
                "type": event.type,
                "event_id": event.event_id,
                "payload": event.payload,
                "traceparent": event.traceparent,
                "created_ms": self._now_ms(),
            },
        )
        tx.on_commit(self.committed)
        return event.event_id


class SqlRows:
    """mesh.outbox.base.OutboxRows. Each write looks at no rows but those that it changes, and so is in the way of no
    event."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def waiting(self, limit: int, without: Collection[str]) -> list[Waiting]:
        """See OutboxRows."""
        query, params = (_WAITING_ELSEWHERE, {"topics": list(without)}) if without else (_WAITING, {})

        async def unit(tx: Tx) -> list[Waiting]:
            rows = (await tx.execute(query, {"rows": limit, **params})).all()
            return [Waiting(row[0], Outgoing(row[1], row[2], row[3], row[5], row[4], row[6])) for row in rows]

        return await self._db.read(unit)

    async def mark(self, published: Sequence[Waiting], now_ms: int) -> None:
        """See OutboxRows."""
        params = {"ids": [waiting.row for waiting in published], "published_at": now_ms}
        await self._db.write(lambda tx: tx.execute(_MARK, params), blind=True)

    async def rewind(self, since_ms: int) -> tuple[int, bool]:
        """See OutboxRows."""

        async def unit(tx: Tx) -> int:
            return (await tx.execute(_REWIND, {"since": since_ms, "rows": _REWIND_ROWS})).rowcount

        rows = await self._db.write(unit, blind=True)
        return rows, rows == _REWIND_ROWS

    async def prune(self, before_ms: int) -> bool:
        """See OutboxRows."""

        async def unit(tx: Tx) -> int:
            return (await tx.execute(_PRUNE, {"before": before_ms, "rows": _PRUNE_ROWS})).rowcount

        return await self._db.write(unit, blind=True) == _PRUNE_ROWS

    async def lease(self) -> Lease | None:
        """See OutboxRows."""
        return await self._db.read(_lease)

    async def take(self, holder: str, now_ms: int, expires_ms: int, checked: Checked | None) -> Lease:
        """See OutboxRows."""

        async def unit(tx: Tx) -> Lease | None:
            await tx.execute(_LEASE_TAKE, {"holder": holder, "now_ms": now_ms, "expires_ms": expires_ms})
            if checked is not None:
                await tx.execute(_LEASE_CHECKED, _known(holder, checked))
            return await _lease(tx)

        lease = await self._db.write(unit, blind=True)
        if lease is None:
            raise RuntimeError("the outbox's lease row is missing")
        return lease

    async def check(self, holder: str, checked: Checked) -> None:
        """See OutboxRows."""
        await self._db.write(lambda tx: tx.execute(_LEASE_CHECKED, _known(holder, checked)), blind=True)

    async def contend(self, holder: str, now_ms: int) -> None:
        """See OutboxRows."""
        await self._db.write(lambda tx: tx.execute(_LEASE_CONTEND, {"now_ms": now_ms, "holder": holder}), blind=True)

    async def free(self, holder: str) -> None:
        """See OutboxRows."""
        await self._db.write(lambda tx: tx.execute(_LEASE_FREE, {"holder": holder}), blind=True)


async def _lease(tx: Tx) -> Lease | None:
    row = (await tx.execute(_LEASE_READ)).first()
    return None if row is None else Lease(row[0], row[1], row[2], Checked(Incarnation(row[3], row[4]), row[5]))


def _known(holder: str, checked: Checked) -> dict[str, str | int]:
    bus = checked.bus
    return {"data": bus.data, "process": bus.process, "checked_ms": checked.at_ms, "holder": holder}


def _lock_number(topic: str, key: bytes) -> int:
    """An advisory lock's number (signed, 64 bits) for a key of a topic."""
    digest = hashlib.blake2b(topic.encode() + b"\0" + key, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
