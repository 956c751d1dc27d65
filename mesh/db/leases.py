"""Worker numbers leased from a SQL database (mesh.ids)."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.db.sql import Database, Tx
from mesh.errors import Unavailable
from mesh.ids import WORKERS, Lease

SKEW_MS = 1_000
"""Clocks of two machines may differ this much: a lease is free only this long after its end."""


class SqlLeases:
    """Leases in table `worker_leases(worker, holder, expires_ms)`, which the service's schema makes."""

    def __init__(self, db: Database, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._db = db
        self._now_ms = now_ms

    async def acquire(self, holder: str, ttl_ms: int) -> Lease:
        """See mesh.ids.LeaseStore."""

        async def unit(tx: Tx) -> Lease:
            now = self._now_ms()
            free = (
                await tx.execute(
                    "SELECT worker, expires_ms FROM worker_leases WHERE expires_ms < :free ORDER BY expires_ms LIMIT 1",
                    {"free": now - SKEW_MS},
                )
            ).first()
            count = await tx.scalar("SELECT COUNT(*) FROM worker_leases")
            if free is None and count >= WORKERS:
                raise Unavailable("All worker numbers are leased.")
            worker, floor_ms = (count, 0) if free is None else (free.worker, free.expires_ms)
            await tx.execute(
                "INSERT INTO worker_leases (worker, holder, expires_ms) VALUES (:worker, :holder, :expires)"
                " ON CONFLICT (worker) DO UPDATE SET holder = :holder, expires_ms = :expires",
                {"worker": worker, "holder": holder, "expires": now + ttl_ms},
            )
            return Lease(worker, min(floor_ms, now))

        return await self._db.write(unit)

    async def renew(self, holder: str, worker: int, ttl_ms: int) -> bool:
        """See mesh.ids.LeaseStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "UPDATE worker_leases SET expires_ms = :expires WHERE worker = :worker AND holder = :holder",
                {"worker": worker, "holder": holder, "expires": self._now_ms() + ttl_ms},
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def release(self, holder: str, worker: int) -> None:
        """See mesh.ids.LeaseStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute(
                "UPDATE worker_leases SET expires_ms = :now WHERE worker = :worker AND holder = :holder",
                {"worker": worker, "holder": holder, "now": self._now_ms()},
            )

        await self._db.write(unit)
