"""What every store on Neo4j does as an end of a copy: its events, who uses it, how far a copy is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from neo4j import Record as Row

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.outbox.neo4j import Neo4jOutbox
from mesh.transfer.base import EVENTS, Holder, Page, Record

_DEADLINE_S = 60.0
_HOLDERS = (
    "MATCH (w:WorkerLease) WHERE w.expires_ms > $now RETURN w.holder, w.expires_ms"
    " UNION ALL MATCH (w:OutboxLease) WHERE w.expires_ms > $now RETURN w.holder, w.expires_ms"
)
_EVENTS = (
    "MATCH (e:{0}) USING INDEX SEEK e:{0}(id) WHERE e.id > $after"
    " RETURN e.id, e.event_id, e.topic, e.key, e.type, e.payload, e.traceparent ORDER BY e.id LIMIT $limit"
)
_LABELS = ("OutboxWaiting", "OutboxPublished")
_KNOWN = "MATCH (e:OutboxWaiting) WHERE e.event_id IN $ids RETURN collect(e.event_id)"
_PROGRESS = "MATCH (u:UnfinishedCopy) RETURN u.progress"
_SAVE = "MERGE (u:UnfinishedCopy {name: 'copy'}) SET u.progress = $progress"
_FINISH = "MATCH (u:UnfinishedCopy) DELETE u"
_BATCH = 5_000


class Neo4jCopies:
    """The part of mesh.transfer.base.Transfer that is the same for all; a service adds its kinds.

    Args:
        db: the database, migrated.
        source: name of the service, for its outbox.
    """

    def __init__(self, db: Neo4jDatabase, source: str) -> None:
        self.db = db
        bus = RedisStreamsBus("unix:///nowhere")  # is not asked for anything: events wait in the outbox
        self.outbox = Neo4jOutbox(db, bus, source)

    async def run(self, query: str, **params: Any) -> list[Row]:
        """Reads."""
        return await self.db.read(lambda tx: tx.run(query, params), deadline=_DEADLINE_S)

    async def change(self, unit: Callable[[Neo4jTx], Awaitable[None]]) -> None:
        """Writes."""
        await self.db.write(unit, deadline=_DEADLINE_S)

    async def delete_all(self, found: str) -> None:
        """Deletes all `x` that a MATCH finds, some at a time."""
        query = f"{found} WITH x LIMIT {_BATCH} DETACH DELETE x RETURN count(*)"
        if "]->" in found:
            query = query.replace("DETACH ", "")
        while (await self.db.write(lambda tx: tx.run(query), deadline=_DEADLINE_S))[0][0]:
            pass

    async def holders(self) -> Sequence[Holder]:
        """See Transfer."""
        return [Holder(*row) for row in await self.run(_HOLDERS, now=time.time_ns() // 1_000_000)]

    async def read_events(self, after: str, limit: int) -> Page:
        """A page of EVENTS, in the order of their numbers, which for a key is that of commits."""
        params = {"after": int(after or 0), "limit": limit}
        rows = [row for label in _LABELS for row in await self.run(_EVENTS.format(label), **params)]
        rows.sort(key=lambda row: int(row[0]))
        del rows[limit:]
        return Page([tuple(row[1:]) for row in rows], str(rows[-1][0]) if len(rows) == limit else "")

    async def write_events(self, records: Sequence[Record]) -> None:
        """Adds those EVENTS that are not there."""

        async def unit(tx: Neo4jTx) -> None:
            names = list(EVENTS.fields)
            events: list[dict[str, Any]] = [dict(zip(names, record, strict=True)) for record in records]
            [(known,)] = await tx.run(_KNOWN, {"ids": [event["event_id"] for event in events]})
            for event in events:
                if event["event_id"] not in known:
                    self.outbox.add(tx, **event)

        await self.change(unit)

    async def count_events(self) -> int:
        """How many EVENTS there are."""
        return sum([(await self.run(f"MATCH (e:{label}) RETURN count(e)"))[0][0] for label in _LABELS])

    async def clear_events(self) -> None:
        """Deletes all EVENTS."""
        for label in _LABELS:
            await self.delete_all(f"MATCH (x:{label})")

    async def progress(self) -> str:
        """See Transfer."""
        rows = await self.run(_PROGRESS)
        return str(rows[0][0]) if rows else ""

    async def save(self, progress: str) -> None:
        """See Transfer."""
        await self.db.write(lambda tx: tx.run(_SAVE, {"progress": progress}), deadline=_DEADLINE_S)

    async def finish(self) -> None:
        """See Transfer."""
        await self.db.write(lambda tx: tx.run(_FINISH), deadline=_DEADLINE_S)

    async def close(self) -> None:
        """See Transfer."""
        await self.db.close()
