"""Snowflake ids: 41 bits of milliseconds since the epoch, 10 of worker, 12 of sequence. They sort by time.

The layout is the one Twitter published in 2010. Two processes never share a worker number at a time: a number is
leased from the database of the service that makes the ids.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from mesh.errors import Unavailable

EPOCH_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z: 41 bits last until 2093
_LAST_MS = (1 << 41) - 1
WORKERS = 1 << 10
_SEQUENCE = 1 << 12
_LEASE_MS = 60_000
_MARGIN_S = 5.0
_log = structlog.get_logger(__name__)


def id_of_ms(ms: int) -> int:
    """The smallest id of a Unix time in ms; 0 for times before the epoch, that of the last ms for times after 2093."""
    return min(max(0, ms - EPOCH_MS), _LAST_MS) << 22


def ms_of_id(value: int) -> int:
    """The Unix time in ms at which `value` was made."""
    return (value >> 22) + EPOCH_MS


def rfc3339_of_id(value: int) -> str:
    """The time at which `value` was made: `2026-11-21T01:02:03.000Z`, always with milliseconds."""
    ms = ms_of_id(value)
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


class SnowflakeIds:
    """Makes ids for one worker number.

    A clock that steps back makes no id until it has caught up, 2 s at most; a longer step raises Unavailable. A
    number that was leased before starts no earlier than its last holder's last millisecond (`floor_ms`).
    """

    def __init__(
        self, worker: int, *, floor_ms: int = 0, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        if not 0 <= worker < WORKERS:
            raise ValueError(f"worker must be within 0 and {WORKERS - 1}, not {worker}")
        self._worker = worker << 12
        self._now_ms = now_ms
        self._last_ms = max(floor_ms, EPOCH_MS - 1)  # a clock that was never set must not make negative ids
        self._sequence = _SEQUENCE - 1

    async def next(self) -> int:
        """The next id, greater than every one before it."""
        for _ in range(2_000):
            now = self._now_ms()
            if now > self._last_ms:
                self._last_ms, self._sequence = now, 0
            elif now == self._last_ms and self._sequence < _SEQUENCE - 1:
                self._sequence += 1
            else:
                await asyncio.sleep(0.001)
                continue
            return (self._last_ms - EPOCH_MS) << 22 | self._worker | self._sequence
        raise Unavailable("The clock of this machine stepped back.")


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker number, held for a while."""

    worker: int
    """0 to 1023."""
    floor_ms: int
    """Unix ms up to which an earlier holder may have made ids."""


class LeaseStore(Protocol):
    """Where worker numbers are leased: the database of the service that makes the ids, so that ids need no other."""

    async def acquire(self, holder: str, ttl_ms: int) -> Lease:
        """Takes a free number for `holder`. Raises Unavailable when there is none."""
        ...

    async def renew(self, holder: str, worker: int, ttl_ms: int) -> bool:
        """Extends the lease; False when `holder` does not hold it any more."""
        ...

    async def release(self, holder: str, worker: int) -> None:
        """Ends the lease."""
        ...


def seconds_since_boot() -> float:
    """A clock that never steps back and, on Linux, goes on while the machine is suspended: leases end meanwhile too."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class LeasedIds:
    """Snowflake ids with a leased worker number.

    The lease lasts 60 s and is renewed each 20 s. A holder that could not renew stops making ids 5 s before the lease
    ends, and a number is given to another no earlier than it ended: it is never shared.
    """

    def __init__(self, store: LeaseStore, *, monotonic: Callable[[], float] = seconds_since_boot) -> None:
        self._store = store
        self._monotonic = monotonic
        self._holder = secrets.token_hex(8)
        self._ids: SnowflakeIds | None = None
        self._worker = -1
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def next(self) -> int:
        """The next id. Raises Unavailable when no worker number is held and none can be leased."""
        ids = self._ids
        if ids is None or self._monotonic() >= self._until:
            ids = await self._lease()
        return await ids.next()

    async def _lease(self) -> SnowflakeIds:
        async with self._lock:
            if self._ids is not None and self._monotonic() < self._until:
                return self._ids
            asked = self._monotonic()
            lease = await self._store.acquire(self._holder, _LEASE_MS)
            self._worker = lease.worker
            self._until = asked + _LEASE_MS / 1000 - _MARGIN_S
            self._ids = SnowflakeIds(lease.worker, floor_ms=lease.floor_ms)
            return self._ids

    async def renew_forever(self) -> None:
        """Keeps the lease; run it as a background task. Takes a new number when the old one was lost."""
        while True:
            try:
                if self._ids is None:
                    await self._lease()
                else:
                    asked = self._monotonic()
                    if await self._store.renew(self._holder, self._worker, _LEASE_MS):
                        self._until = asked + _LEASE_MS / 1000 - _MARGIN_S
                    else:
                        _log.warning("worker number was lost", worker=self._worker)
                        self._ids = None
                        continue
            except Unavailable as error:
                _log.warning("worker lease not renewed", error=error.detail)
                await asyncio.sleep(1)
            else:
                await asyncio.sleep(_LEASE_MS / 3000)

    async def release(self) -> None:
        """Gives the number back."""
        if self._ids is not None:
            self._ids = None
            await self._store.release(self._holder, self._worker)
