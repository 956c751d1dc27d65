"""The relay of an outbox, whatever database its rows are in.

Facts are committed with the rows that they are about: `add` of an adapter (sql.py) takes part in the caller's
transaction. The relay publishes them as soon as they are committed, in the order of their commits, and sweeps every
second for what a crash left. Published rows are kept for a while, because a bus may come back without its last writes,
or without anything: then they are published again (`_check_bus`). Consumers are idempotent by contract.

Several replicas of a service share the rows. One of them relays at a time, the holder of a lease, so that the first
publication of a key's events is in the order of their commits. Another replica that has committed something marks the
lease as contended; its holder then looks every 25 ms instead of every second.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from mesh.bus.base import MAX_PUBLISH, Bus, Incarnation, Outgoing, PublishRefused, check_name
from mesh.bus.lanes import backoff
from mesh.context import current
from mesh.errors import Unavailable
from mesh.outbox.base import Checked, Lease, OutboxRows

_PRUNE_STEPS = 20  # a sweep
_CONTENDED_S = 10.0  # for how long a mark of contention is believed
_CONTENDED_POLL_S = 0.025

_log = structlog.stdlib.get_logger("mesh.outbox")


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """How the relay works.

    Raises:
        ValueError: a value out of range.
    """

    batch: int = 200
    """Rows published in one trip (up to 1000)."""
    sweep: float = 1.0
    """Seconds between looks for what a crash left, and for whether the bus is still the same."""
    lease: float = 6.0
    """Seconds until another replica relays in place of one that died."""
    rewind: float = 30.0
    """Seconds before a failure of the bus from which rows are published again: more than a bus may lose of what it
    had taken (Redis with appendfsync everysec: 1 to 2 s)."""
    keep: float = 600.0
    """Seconds that published rows are kept, for a bus that comes back empty."""
    prune: float = 10.0
    """Seconds between deletions of older rows."""
    backoff_cap: float = 1.0
    """Seconds between tries while the bus or the database is down, at most."""

    @classmethod
    def keeping(cls, seconds: float) -> OutboxOptions:
        """The defaults, but for how long published rows are kept. Raises ValueError as the class does."""
        made = cls(keep=seconds)
        return replace(made, prune=min(made.prune, seconds))

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        if self.batch > MAX_PUBLISH:
            raise ValueError(f"batch must be at most {MAX_PUBLISH}")


class Outbox:
    """The outbox of one service; an adapter adds how an event gets into it.

    Args:
        rows: where events wait.
        bus: where they go.
        source: name of the service; event ids begin with it.
        options: batches and times.
        traceparent: the W3C trace context of the request that is being handled; by default that of the current call.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        rows: OutboxRows,
        bus: Bus,
        source: str,
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._bus = bus
        self._source = check_name("source", source)
        self._options = options or OutboxOptions()
        self._traceparent = traceparent or (lambda: current().traceparent or None)
        self._clock = clock
        self._holder = f"{source}-{uuid.uuid4().hex}"
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._leads_until = 0.0  # monotonic
        self._contended_until = 0.0  # monotonic
        self._contended_mark_at = 0.0  # monotonic
        self._sweep_at = 0.0  # monotonic
        self._prune_at = 0.0  # monotonic
        self._bus_seen: Incarnation | None = None
        self._bus_checked_ms = 0
        self._bus_failed_ms: int | None = None
        self._blocked: dict[str, tuple[int, float]] = {}  # topic -> refusals, monotonic time of the next try
        self._outage: str | None = None

    def event(
        self,
        topic: str,
        key: bytes,
        type: str,
        payload: bytes,
        *,
        event_id: str | None = None,
        traceparent: str | None = None,
    ) -> Outgoing:
        """An event as this outbox takes it.

        Args:
            topic: where to.
            key: events with equal keys are published in the order of their commits.
            type: full name of the payload's message type.
            payload: the serialised event.
            event_id: identity of the fact; by default a new one.
            traceparent: by default that of the request that is being handled.

        Raises:
            ValueError: the bus would refuse the event (see `Outgoing`).
        """
        return Outgoing(
            topic=topic,
            key=key,
            type=type,
            payload=payload,
            event_id=event_id or f"{self._source}-{uuid.uuid4().hex}",
            traceparent=traceparent or self._traceparent(),
        )

    def committed(self) -> None:
        """Call it when an event was committed: it is published now, not at the next sweep."""
        self._wake.set()

    async def start(self) -> None:
        """Relay in the background; whatever is down is waited for there, not here."""
        if self._task is not None:
            raise RuntimeError("the outbox was started before")
        self._task = asyncio.create_task(self._relay(), name=f"outbox-{self._source}")

    async def stop(self, grace: float = 5.0) -> None:
        """Finish the batch that is on its way (`grace` seconds at most) and free the lease. What waits is published by
        the next relay."""
        self._stopping = True
        self._wake.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=grace)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=grace)
        if self._leads:
            self._leads_until = 0.0
            try:
                await self._rows.free(self._holder)
            except Unavailable:
                _log.info("the outbox's lease was left to expire", source=self._source)

    @property
    def healthy(self) -> bool:
        """Whether the last round worked; for the health map."""
        return self._outage is None

    # --- the relay ---

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    @property
    def _leads(self) -> bool:
        return time.monotonic() < self._leads_until

    async def _relay(self) -> None:
        failures = 0
        while not self._stopping:
            self._wake.clear()
            try:
                wait = await self._round()
            except Unavailable as error:
                failures += 1
                if self._outage is None:
                    _log.warning("the outbox waits", source=self._source, error=str(error.__cause__ or error))
                self._outage = str(error)
                await asyncio.sleep(backoff(failures, 0.05, self._options.backoff_cap))
                continue
            except Exception as error:  # noqa: BLE001 - the relay must not end: logged, then tried again
                failures += 1
                _log.error("the outbox failed", source=self._source, exc_info=error)
                self._outage = type(error).__name__
                await asyncio.sleep(backoff(failures, 0.05, self._options.backoff_cap))
                continue
            if self._outage is not None:
                _log.info("the outbox goes on", source=self._source)
            failures, self._outage = 0, None
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self) -> float:
        """Publish what waits; how many seconds to wait for more."""
        if time.monotonic() >= self._sweep_at or self._bus_failed_ms is not None:
            await self._sweep()
        if not self._leads:
            await self._contend()
            return max(0.01, self._sweep_at - time.monotonic())
        while not self._stopping and self._leads and await self._publish():
            if time.monotonic() >= self._sweep_at:
                return 0.0
        now = time.monotonic()
        wait = self._sweep_at - now
        if now < self._contended_until:
            wait = min(wait, _CONTENDED_POLL_S)
        for _, again_at in self._blocked.values():
            wait = min(wait, again_at - now)
        return max(0.0, wait)

    async def _sweep(self) -> None:
        led = self._leads
        lease = await self._take_lease()
        if not self._leads:
            self._sweep_at = time.monotonic() + self._options.sweep
            return
        if not led or self._bus_seen is None:  # what the holder before knew about the bus
            self._bus_seen, self._bus_checked_ms = lease.checked.bus, lease.checked.at_ms
        await self._check_bus()
        if time.monotonic() >= self._prune_at:
            await self._prune()
            self._prune_at = time.monotonic() + self._options.prune
        self._sweep_at = time.monotonic() + self._options.sweep

    async def _take_lease(self) -> Lease:
        """Take or renew the lease, if nobody else has it."""
        asked = time.monotonic()
        now_ms = self._now_ms()
        lease = await self._rows.lease()
        mine = lease is not None and lease.holder == self._holder
        free = lease is None or lease.expires_ms < now_ms
        # A renewal is a write, with its fsync: one in each third of the lease, not one in each sweep.
        if free or (mine and self._leads_until - asked < self._options.lease / 3):
            checked = self._checked() if self._bus_seen is not None and self._leads else None
            expires_ms = now_ms + int(self._options.lease * 1000)
            lease = await self._rows.take(self._holder, now_ms, expires_ms, checked)
            if lease.holder == self._holder:
                # A third less than the row says: replicas' clocks differ, and a batch takes its time.
                self._leads_until = asked + self._options.lease * 2 / 3
        if lease is None:
            raise RuntimeError("the outbox's lease row is missing")
        if lease.holder != self._holder:
            self._leads_until = 0.0
        elif lease.contended_ms > now_ms - _CONTENDED_S * 1000:
            self._contended_until = asked + _CONTENDED_S
        return lease

    async def _contend(self) -> None:
        """Tell the holder of the lease that rows come from here too."""
        now = time.monotonic()
        if now < self._contended_mark_at:
            return
        await self._rows.contend(self._holder, self._now_ms())
        self._contended_mark_at = now + _CONTENDED_S / 2

    def _checked(self) -> Checked:
        return Checked(self._bus_seen or Incarnation("", ""), self._bus_checked_ms)

    async def _check_bus(self) -> None:
        """Publish again what the bus may have lost.

        Came back empty (another incarnation): everything that is kept. Another server process, or any failure since the
        last check: what was published in the seconds before. What was seen is stored with the lease, so that a bus that
        changes while no relay runs is noticed by the next one.
        """
        now_ms = self._now_ms()
        try:
            bus = await self._bus.incarnation()
        except Unavailable:
            self._bus_failed_ms = now_ms if self._bus_failed_ms is None else self._bus_failed_ms
            raise
        seen = self._bus_seen or Incarnation("", "")
        since_ms: int | None = None
        if seen.data and seen.data != bus.data:
            since_ms = 0
        elif self._bus_failed_ms is not None or (seen.process and seen.process != bus.process):
            known_good = [at for at in (self._bus_failed_ms, self._bus_checked_ms) if at]
            since_ms = min(known_good, default=now_ms) - int(self._options.rewind * 1000)
        if since_ms is not None:
            rows = await self._rewind(max(0, since_ms))
            if rows:
                _log.warning("publishing again after a failure of the bus", source=self._source, rows=rows)
        changed = bus != seen
        self._bus_seen, self._bus_checked_ms, self._bus_failed_ms = bus, now_ms, None
        if changed:
            await self._rows.check(self._holder, self._checked())

    async def _rewind(self, since_ms: int) -> int:
        total = 0
        while True:
            rows, more = await self._rows.rewind(since_ms)
            total += rows
            if not more:
                return total
            await self._take_lease()

    async def _prune(self) -> None:
        before_ms = self._now_ms() - int(self._options.keep * 1000)
        for _ in range(_PRUNE_STEPS):
            if not await self._rows.prune(before_ms):
                return

    async def _publish(self) -> bool:
        """Publish one batch; whether there may be more."""
        now = time.monotonic()
        topics = [topic for topic, (_, again_at) in self._blocked.items() if again_at > now]
        rows = await self._rows.waiting(self._options.batch, topics)
        if not rows:
            return False
        refused: frozenset[int] = frozenset()
        try:
            await self._bus.publish([row.event for row in rows])
        except PublishRefused as error:
            refused = error.refused
            _log.warning("the bus has no room", source=self._source, error=str(error))
        except Unavailable:
            self._bus_failed_ms = self._now_ms() if self._bus_failed_ms is None else self._bus_failed_ms
            raise
        published = [row for position, row in enumerate(rows) if position not in refused]
        self._note_refusals({row.event.topic for row in rows}, {rows[position].event.topic for position in refused})
        if published:
            await self._rows.mark(published, self._now_ms())
        return len(rows) == self._options.batch or bool(refused)

    def _note_refusals(self, tried: set[str], refused: set[str]) -> None:
        """Topics without room wait, in order and longer each time; the others go on."""
        for topic in tried - refused:
            self._blocked.pop(topic, None)
        for topic in refused:
            refusals = self._blocked.get(topic, (0, 0.0))[0] + 1
            wait = backoff(refusals, 0.05, self._options.backoff_cap)
            self._blocked[topic] = (refusals, time.monotonic() + wait)
