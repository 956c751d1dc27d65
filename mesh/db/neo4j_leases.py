"""Worker numbers leased from Neo4j (mesh.ids)."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.db.leases import SKEW_MS
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.errors import Unavailable
from mesh.ids import WORKERS, Lease

LEASES_CYPHER = """\
CREATE CONSTRAINT worker_lease IF NOT EXISTS FOR (w:WorkerLease) REQUIRE w.worker IS UNIQUE;
CREATE CONSTRAINT worker_leases IF NOT EXISTS FOR (w:WorkerLeases) REQUIRE w.name IS UNIQUE;
"""
"""What the leases need; a service's schema repeats it in a migration of its own."""

# One change at a time: a number that is free is not renewed while it is given away.
_ALONE = "MERGE (all:WorkerLeases {name: 'all'}) SET all.locked = true WITH all"
_FREE = f"""\
{_ALONE}
OPTIONAL MATCH (w:WorkerLease)
WITH count(w) AS made, collect(CASE WHEN w.expires_ms < $free THEN [w.expires_ms, w.worker] END) AS free
RETURN made, reduce(first = null, one IN free | CASE WHEN first IS NULL OR one[0] < first[0] THEN one ELSE first END)
AS first
"""
_TAKE = "MERGE (w:WorkerLease {worker: $worker}) SET w.holder = $holder, w.expires_ms = $expires"
_EXTEND = f"""\
{_ALONE}
MATCH (w:WorkerLease {{worker: $worker}}) WHERE w.holder = $holder SET w.expires_ms = $expires RETURN w.worker
"""


class Neo4jLeases:
    """Leases as nodes; there are 1,024 at most."""

    def __init__(self, db: Neo4jDatabase, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._db = db
        self._now_ms = now_ms

    async def acquire(self, holder: str, ttl_ms: int) -> Lease:
        """See mesh.ids.LeaseStore."""

        async def unit(tx: Neo4jTx) -> Lease:
            now = self._now_ms()
            [(made, first)] = await tx.run(_FREE, {"free": now - SKEW_MS})
            if first is None and made >= WORKERS:
                raise Unavailable("All worker numbers are leased.")
            floor_ms, worker = (0, made) if first is None else first
            await tx.run(_TAKE, {"worker": worker, "holder": holder, "expires": now + ttl_ms})
            return Lease(worker, min(floor_ms, now))

        return await self._db.write(unit)

    async def renew(self, holder: str, worker: int, ttl_ms: int) -> bool:
        """See mesh.ids.LeaseStore."""
        return await self._extend(holder, worker, self._now_ms() + ttl_ms)

    async def release(self, holder: str, worker: int) -> None:
        """See mesh.ids.LeaseStore."""
        await self._extend(holder, worker, self._now_ms())

    async def _extend(self, holder: str, worker: int, expires_ms: int) -> bool:
        async def unit(tx: Neo4jTx) -> bool:
            return bool(await tx.run(_EXTEND, {"worker": worker, "holder": holder, "expires": expires_ms}))

        return await self._db.write(unit)
