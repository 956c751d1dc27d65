"""The outbox in Neo4j: an event is a node, made in the unit's own transaction.

An event that waits has the label `OutboxWaiting`, one that was published `OutboxPublished`. Its id is what the relay
goes by: microseconds, and the number of a slot. A key's slot follows from its hash. A transaction locks the slots of
its events as its last step, and gives ids above the last ones of each slot; so for a key the order of ids is that of
commits, whoever commits.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from neo4j import Record

from mesh.bus.base import Bus, Incarnation, Outgoing
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.ids import EPOCH_MS
from mesh.outbox.base import Checked, Lease, Waiting
from mesh.outbox.relay import Outbox, OutboxOptions

OUTBOX_CYPHER = """\
CREATE CONSTRAINT outbox_slot IF NOT EXISTS FOR (s:OutboxSlot) REQUIRE s.slot IS UNIQUE;
UNWIND range(0, 1023) AS slot MERGE (s:OutboxSlot {slot: slot}) ON CREATE SET s.last = 0;
CREATE INDEX outbox_waiting IF NOT EXISTS FOR (e:OutboxWaiting) ON (e.id);
CREATE INDEX outbox_published IF NOT EXISTS FOR (e:OutboxPublished) ON (e.published_ms);
CREATE INDEX outbox_published_id IF NOT EXISTS FOR (e:OutboxPublished) ON (e.id);
CREATE CONSTRAINT outbox_lease IF NOT EXISTS FOR (l:OutboxLease) REQUIRE l.name IS UNIQUE;
"""
"""What the outbox needs; a service's schema repeats it in a migration of its own."""

_SLOTS = 1024  # few keys share one, and all locks of a busy moment are far fewer
_ROWS = 1000

# Slots come in ascending order, so that no two units wait for each other here.
_ADD = """\
UNWIND $slots AS slot
MATCH (s:OutboxSlot {slot: slot}) SET s.locked = true
WITH collect(s) AS slots, max(s.last) AS last
WITH slots, CASE WHEN last < $clock THEN $clock ELSE last END AS base
FOREACH (s IN slots | SET s.last = base + size($events))
WITH base
UNWIND range(0, size($events) - 1) AS place
WITH base, place, $events[place] AS event
CREATE (e:OutboxWaiting {id: (base + 1 + place) * 1024 + event.slot})
SET e += event.properties
"""
_WAITING = """\
MATCH (e:OutboxWaiting) USING INDEX SEEK e:OutboxWaiting(id) WHERE e.id > 0 AND NOT e.topic IN $without
RETURN e.id, e.topic, e.key, e.type, e.event_id, e.payload, e.traceparent ORDER BY e.id LIMIT $limit
"""
_MARK = """\
UNWIND $ids AS id
MATCH (e:OutboxWaiting {id: id})
REMOVE e:OutboxWaiting SET e:OutboxPublished, e.published_ms = $now
"""
_REWIND = """\
MATCH (e:OutboxPublished) USING INDEX SEEK e:OutboxPublished(published_ms) WHERE e.published_ms >= $since
WITH e LIMIT $limit
REMOVE e:OutboxPublished, e.published_ms SET e:OutboxWaiting
RETURN count(*) AS done
"""
_PRUNE = """\
MATCH (e:OutboxPublished) USING INDEX SEEK e:OutboxPublished(published_ms) WHERE e.published_ms < $before
WITH e LIMIT $limit DELETE e RETURN count(*) AS done
"""
_LEASE = """\
MATCH (l:OutboxLease {name: 'relay'})
RETURN l.holder, l.expires_ms, l.contended_ms, l.bus_data, l.bus_process, l.checked_ms
"""
_TAKE = """\
MERGE (l:OutboxLease {name: 'relay'})
ON CREATE SET l.holder = '', l.expires_ms = 0, l.contended_ms = 0, l.bus_data = '', l.bus_process = '',
 l.checked_ms = 0
SET l.locked = true
WITH l WHERE l.holder = $holder OR l.expires_ms < $now
SET l.holder = $holder, l.expires_ms = $expires
"""
_MINE = "MATCH (l:OutboxLease {name: 'relay'}) SET l.locked = true WITH l WHERE l.holder = $holder"
_CHECK = f"{_MINE} SET l.bus_data = $data, l.bus_process = $process, l.checked_ms = $checked_ms"
_FREE = f"{_MINE} SET l.expires_ms = 0"
_CONTEND = """\
MATCH (l:OutboxLease {name: 'relay'}) SET l.locked = true WITH l WHERE l.holder <> $holder
SET l.contended_ms = $now
"""


class Neo4jOutbox(Outbox):
    """The outbox of a Neo4j database that has what `OUTBOX_CYPHER` makes; the other arguments are Outbox's."""

    def __init__(
        self,
        db: Neo4jDatabase,
        bus: Bus,
        source: str,
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(Neo4jRows(db), bus, source, options=options, traceparent=traceparent, clock=clock)
        self._added: WeakKeyDictionary[Neo4jTx, list[Outgoing]] = WeakKeyDictionary()

    def add(
        self,
        tx: Neo4jTx,
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
        events = self._added.get(tx)
        if events is None:
            events = self._added[tx] = []
            tx.before_commit(self._store(events))
            tx.on_commit(self.committed)
        events.append(event)
        return event.event_id

    def _store(self, events: list[Outgoing]) -> Callable[[Neo4jTx], Awaitable[None]]:
        async def step(tx: Neo4jTx) -> None:
            now_ms = self._now_ms()
            rows = [{"slot": _slot(event), "properties": _properties(event, now_ms)} for event in events]
            clock = (time.time_ns() - EPOCH_MS * 1_000_000) // 1_000
            slots = sorted({_slot(event) for event in events})
            await tx.run(_ADD, {"slots": slots, "events": rows, "clock": clock})

        return step


def _slot(event: Outgoing) -> int:
    digest = hashlib.blake2b(event.topic.encode() + b"\0" + event.key, digest_size=8).digest()
    return int.from_bytes(digest) % _SLOTS


def _properties(event: Outgoing, now_ms: int) -> dict[str, Any]:
    return {
        "topic": event.topic,
        "key": event.key,
        "type": event.type,
        "event_id": event.event_id,
        "payload": event.payload,
        "traceparent": event.traceparent,
        "created_ms": now_ms,
    }


class Neo4jRows:
    """mesh.outbox.base.OutboxRows."""

    def __init__(self, db: Neo4jDatabase) -> None:
        self._db = db

    async def waiting(self, limit: int, without: Collection[str]) -> list[Waiting]:
        """See OutboxRows."""

        async def unit(tx: Neo4jTx) -> list[Waiting]:
            records = await tx.run(_WAITING, {"limit": limit, "without": list(without)})
            return [Waiting(one[0], Outgoing(one[1], one[2], one[3], one[5], one[4], one[6])) for one in records]

        return await self._db.read(unit)

    async def mark(self, published: Sequence[Waiting], now_ms: int) -> None:
        """See OutboxRows."""
        await self._write(_MARK, {"ids": [waiting.row for waiting in published], "now": now_ms})

    async def rewind(self, since_ms: int) -> tuple[int, bool]:
        """See OutboxRows."""
        [(rows,)] = await self._write(_REWIND, {"since": since_ms, "limit": _ROWS})
        return rows, rows == _ROWS

    async def prune(self, before_ms: int) -> bool:
        """See OutboxRows."""
        [(rows,)] = await self._write(_PRUNE, {"before": before_ms, "limit": _ROWS})
        return bool(rows == _ROWS)

    async def lease(self) -> Lease | None:
        """See OutboxRows."""
        record = await self._db.read(lambda tx: tx.one(_LEASE))
        return None if record is None else _lease(record)

    async def take(self, holder: str, now_ms: int, expires_ms: int, checked: Checked | None) -> Lease:
        """See OutboxRows."""

        async def unit(tx: Neo4jTx) -> Lease:
            await tx.run(_TAKE, {"holder": holder, "now": now_ms, "expires": expires_ms})
            if checked is not None:
                await tx.run(_CHECK, _known(holder, checked))
            [record] = await tx.run(_LEASE)
            return _lease(record)

        return await self._db.write(unit)

    async def check(self, holder: str, checked: Checked) -> None:
        """See OutboxRows."""
        await self._write(_CHECK, _known(holder, checked))

    async def contend(self, holder: str, now_ms: int) -> None:
        """See OutboxRows."""
        await self._write(_CONTEND, {"holder": holder, "now": now_ms})

    async def free(self, holder: str) -> None:
        """See OutboxRows."""
        await self._write(_FREE, {"holder": holder})

    async def _write(self, query: str, params: dict[str, Any]) -> list[Record]:
        return await self._db.write(lambda tx: tx.run(query, params))


def _lease(record: Record) -> Lease:
    return Lease(record[0], record[1], record[2], Checked(Incarnation(record[3], record[4]), record[5]))


def _known(holder: str, checked: Checked) -> dict[str, str | int]:
    bus = checked.bus
    return {"data": bus.data, "process": bus.process, "checked_ms": checked.at_ms, "holder": holder}
