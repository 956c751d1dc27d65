"""Worker numbers leased from Cassandra (mesh.ids), by conditional writes only."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.db.cassandra import Cassandra
from mesh.db.leases import SKEW_MS
from mesh.errors import Unavailable
from mesh.ids import WORKERS, Lease

LEASES_CQL = """\
CREATE TABLE IF NOT EXISTS worker_leases (
  worker int PRIMARY KEY,
  holder text,
  expires_ms bigint
);
"""
"""The table; a service's schema repeats it in a migration of its own."""

_TRIES = 100  # numbers that others took first
_ALL = "SELECT worker, expires_ms FROM worker_leases"
_NEW = "INSERT INTO worker_leases (worker, holder, expires_ms) VALUES (?, ?, ?) IF NOT EXISTS"
_TAKE = "UPDATE worker_leases SET holder = ?, expires_ms = ? WHERE worker = ? IF expires_ms = ?"
_MINE = "UPDATE worker_leases SET expires_ms = ? WHERE worker = ? IF holder = ?"


class CassandraLeases:
    """Leases in the table of `LEASES_CQL`. Each number is a partition, so that renewals do not wait for each other."""

    def __init__(self, db: Cassandra, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._db = db
        self._now_ms = now_ms

    async def acquire(self, holder: str, ttl_ms: int) -> Lease:
        """See mesh.ids.LeaseStore."""
        now = self._now_ms()
        leases = {row.worker: row.expires_ms for row in await self._db.rows(_ALL)}  # 1,024 rows at most
        free = sorted((ends, worker) for worker, ends in leases.items() if ends < now - SKEW_MS)
        unused = [worker for worker in range(WORKERS) if worker not in leases]
        for ends, worker in [*free, *((0, worker) for worker in unused)][:_TRIES]:
            if worker in leases:
                taken = await self._db.conditional(_TAKE, (holder, now + ttl_ms, worker, ends))
            else:
                taken = await self._db.conditional(_NEW, (worker, holder, now + ttl_ms))
            if taken.applied:
                return Lease(worker, min(ends, now))
        raise Unavailable("All worker numbers are leased.")

    async def renew(self, holder: str, worker: int, ttl_ms: int) -> bool:
        """See mesh.ids.LeaseStore."""
        return (await self._db.conditional(_MINE, (self._now_ms() + ttl_ms, worker, holder))).applied

    async def release(self, holder: str, worker: int) -> None:
        """See mesh.ids.LeaseStore."""
        await self._db.conditional(_MINE, (self._now_ms(), worker, holder))
