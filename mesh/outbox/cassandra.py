"""The outbox on Cassandra: events are rows of the logged batch that commits what they are about.

An event has a *position*, a time in microseconds that whoever commits it chose, and which is later than that of any
event of its key that it follows from. It waits in a partition of its shard (by key) and of the minute of its position.
What was published is deleted there and kept elsewhere, with a lifetime, for a bus that lost data.

Queues as tables gather tombstones, so a partition is read from where the last read stopped, and a minute that is over
and empty is read no more. What may come late is looked for: each read goes back 2 s, each sweep 60 s (no position is
older than 20 s when its batch begins), and every 5 minutes, and when another replica begins to relay, the whole table
is walked for partitions that have rows. So a batch that a node's log or a hint brings hours later is found too.

**Order.** Of two events of a key, of which the second's batch began after the first's was acknowledged, the first is
published first. A read that sees the second may have asked some replica before the first came there; so keys are read
once more, and an event waits for the next round if one of its key turns up before it. Concurrent batches have no order.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from mesh.bus.base import Bus, Incarnation, Outgoing
from mesh.db.cassandra import Cassandra, Row, Statement, token_ranges
from mesh.outbox.base import Checked, Lease, Waiting
from mesh.outbox.relay import Outbox, OutboxOptions

OUTBOX_CQL = """\
CREATE TABLE IF NOT EXISTS outbox_waiting (
  minute bigint,
  shard int,
  at_us bigint,
  event_id text,
  topic text,
  key blob,
  type text,
  payload blob,
  traceparent text,
  PRIMARY KEY ((minute, shard), at_us, event_id)
) WITH gc_grace_seconds = 600
  AND compaction = {
    'class': 'SizeTieredCompactionStrategy',
    'tombstone_compaction_interval': 600,
    'unchecked_tombstone_compaction': true
  };
CREATE TABLE IF NOT EXISTS outbox_published (
  minute bigint,
  shard int,
  published_ms bigint,
  at_us bigint,
  event_id text,
  topic text,
  key blob,
  type text,
  payload blob,
  traceparent text,
  gone_us bigint,
  PRIMARY KEY ((minute, shard), published_ms, at_us, event_id)
) WITH gc_grace_seconds = 600
  AND compaction = {
    'class': 'TimeWindowCompactionStrategy',
    'compaction_window_unit': 'MINUTES',
    'compaction_window_size': 10
  };
CREATE TABLE IF NOT EXISTS outbox_lease (
  name text PRIMARY KEY,
  holder text,
  expires_ms bigint,
  contended_ms bigint,
  bus_data text,
  bus_process text,
  checked_ms bigint
);
"""
"""Tables of the outbox; a service's schema repeats them in a migration of its own.

Deletions are forgotten after 10 minutes (`gc_grace_seconds`), so that reads pass over few of them. A replica that
missed one for longer brings an event back: it is published twice, which consumers bear.
"""

SHARDS = 4
_MINUTE_US = 60_000_000
_BACK_US = 2_000_000
_SWEEP_BACK_US = 60_000_000
_OLDEST_US = 20_000_000
_AHEAD_US = 5_000_000  # another process's clock may be ahead so much without a delay
_HINT_S = 0.5
_WALK_S = 300.0
_WALK_PARTS = 32
_SCANNED, _PAGE = 20, 1_000  # pages and rows, of a partition with topics that have no room
_CONTENDED_MS = 10_000
_REWIND_ROWS = 500
_MARK_ROWS = 50

_INSERT = (
    "INSERT INTO outbox_waiting (minute, shard, at_us, event_id, topic, key, type, payload, traceparent)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_WAITING = (
    "SELECT at_us, event_id, topic, key, type, payload, traceparent, writetime(type) AS written FROM outbox_waiting"
    " WHERE minute = ? AND shard = ? AND at_us > ? LIMIT ?"
)
_KEYS = (
    "SELECT at_us, event_id, topic, key FROM outbox_waiting"
    " WHERE minute = ? AND shard = ? AND at_us > ? AND at_us <= ? LIMIT ?"
)
_GONE = "DELETE FROM outbox_waiting USING TIMESTAMP ? WHERE minute = ? AND shard = ? AND at_us = ? AND event_id = ?"
_KEEP = (
    "INSERT INTO outbox_published"
    " (minute, shard, published_ms, at_us, event_id, topic, key, type, payload, traceparent, gone_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?"
)
_KEPT = (
    "SELECT published_ms, at_us, event_id, topic, key, type, payload, traceparent, gone_us FROM outbox_published"
    " WHERE minute = ? AND shard = ? AND published_ms >= ? LIMIT ?"
)
_FORGET = (
    "DELETE FROM outbox_published USING TIMESTAMP ?"
    " WHERE minute = ? AND shard = ? AND published_ms = ? AND at_us = ? AND event_id = ?"
)
_FORGET_OLD = "DELETE FROM outbox_published USING TIMESTAMP ? WHERE minute = ? AND shard = ? AND published_ms < ?"
_PARTITIONS = "SELECT DISTINCT minute, shard FROM {} WHERE token(minute, shard) > ? AND token(minute, shard) <= ?"
_LEASE = (
    "SELECT holder, expires_ms, contended_ms, bus_data, bus_process, checked_ms FROM outbox_lease WHERE name = 'relay'"
)
_LEASE_MAKE = (
    "INSERT INTO outbox_lease (name, holder, expires_ms, contended_ms, bus_data, bus_process, checked_ms)"
    " VALUES ('relay', ?, ?, 0, '', '', 0) IF NOT EXISTS"
)
_LEASE_TAKE = "UPDATE outbox_lease SET holder = ?, expires_ms = ? WHERE name = 'relay' IF holder = ? AND expires_ms = ?"
_LEASE_RENEW = (
    "UPDATE outbox_lease SET expires_ms = ?, bus_data = ?, bus_process = ?, checked_ms = ? WHERE name = 'relay'"
    " IF holder = ?"
)
_LEASE_CHECKED = (
    "UPDATE outbox_lease SET bus_data = ?, bus_process = ?, checked_ms = ? WHERE name = 'relay' IF holder = ?"
)
_LEASE_CONTEND = "UPDATE outbox_lease SET contended_ms = ? WHERE name = 'relay' IF holder != ? AND expires_ms >= 0"
_LEASE_FREE = "UPDATE outbox_lease SET expires_ms = 0 WHERE name = 'relay' IF holder = ?"


def shard_of(key: bytes) -> int:
    """Which events wait together: all of a key."""
    return zlib.crc32(key) % SHARDS


@dataclass(slots=True)
class _Turn:
    """Batches of this process with events of one key."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class CassandraOutbox(Outbox):
    """The outbox of a keyspace that holds the tables of `OUTBOX_CQL`; the other arguments are Outbox's."""

    def __init__(
        self,
        db: Cassandra,
        bus: Bus,
        source: str,
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        options = options or OutboxOptions()
        rows = CassandraRows(db, keep_s=options.keep, clock=clock)
        super().__init__(rows, bus, source, options=options, traceparent=traceparent, clock=clock)
        self._hints = rows.hints
        self._last_us = 0
        self._turns: dict[tuple[str, bytes], _Turn] = {}

    def statements(self, events: Sequence[Outgoing], at_us: int | None = None) -> list[Statement]:
        """What puts events into the caller's logged batch. Call `committed` when the batch was acknowledged.

        Args:
            events: what `event` made, in the order in which those of a key are published.
            at_us: the position of the first; each next one is a microsecond later. They are greater than those of the
                events of their keys that they follow from. Doing a batch again with the same position and event ids
                adds nothing. One that is older than 20 s is replaced by now, so that the relay need not look far back;
                then a repetition may be published twice. By default now.
        """
        now = self.now_us(len(events))
        if at_us is None or at_us < now - _OLDEST_US:
            at_us = now
        found = []
        for number, event in enumerate(events):
            shard = shard_of(event.key)
            self._hints[shard] = time.monotonic() + _HINT_S
            found.append(_insertion(shard, at_us + number, event, at_us + number))
        return found

    def now_us(self, count: int = 1) -> int:
        """A position for an event that follows from no other process's: microseconds, later than those before.

        Args:
            count: so many from this one on are given out.
        """
        first = max(int(self._clock() * 1_000_000), self._last_us + 1)
        self._last_us = first + count - 1
        return first

    @asynccontextmanager
    async def turn(self, topic: str, key: bytes) -> AsyncIterator[None]:
        """Makes batches of this process with events of one key go one after the other, where no row decides an order.

        The batch is made and acknowledged within the block.
        """
        turn = self._turns.setdefault((topic, key), _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[topic, key]


def _insertion(shard: int, at_us: int, event: Outgoing, written_us: int) -> Statement:
    return (
        _INSERT,
        (
            *(at_us // _MINUTE_US, shard, at_us, event.event_id, event.topic, event.key, event.type, event.payload),
            *(event.traceparent, written_us),
        ),
    )


class _Where(NamedTuple):
    """Names a waiting event."""

    minute: int
    shard: int
    at_us: int
    event_id: str
    written_us: int


@dataclass(slots=True)
class _Partition:
    """A partition that may have rows."""

    minute: int
    shard: int
    done_us: int = field(default=0)
    """Up to here everything was published, as far as it had come."""


class CassandraRows:
    """mesh.outbox.base.OutboxRows.

    Args:
        db: the keyspace.
        keep_s: how long published events are kept, seconds; they go by themselves.
        clock: seconds since 1970.
    """

    def __init__(self, db: Cassandra, *, keep_s: float, clock: Callable[[], float]) -> None:
        self._db = db
        self._keep_s = max(1, round(keep_s))
        self._clock = clock
        self.hints: dict[int, float] = {}
        """Shards into which this process puts events, and until when (monotonic) that is so. They save reads; nothing
        depends on them."""
        self._partitions: dict[tuple[int, int], _Partition] = {}
        self._sweeps = True
        self._contended_ms = 0
        self._holder = ""
        self._walk_at = 0.0  # monotonic

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    # --- what waits

    async def waiting(self, limit: int, without: Collection[str]) -> list[Waiting]:
        """See OutboxRows."""
        if time.monotonic() >= self._walk_at:
            await self._walk()
        now = self._now_us()
        sweeps, self._sweeps = self._sweeps, False
        soon = time.monotonic()
        hinted = [shard for shard, until in self.hints.items() if until > soon]
        everywhere = sweeps or not hinted or self._contended_ms > now // 1000 - _CONTENDED_MS
        shards = range(SHARDS) if everywhere else sorted(hinted)
        back = _SWEEP_BACK_US if sweeps else _BACK_US
        try:
            found = await asyncio.gather(*(self._of_shard(shard, now, back, limit, without) for shard in shards))
        except BaseException:
            self._sweeps = True
            raise
        rows = sorted((one for some in found for one in some), key=lambda one: one.row.at_us)
        return [Waiting(one.row, one.event) for one in rows[:limit]]

    async def _of_shard(self, shard: int, now: int, back: int, limit: int, without: Collection[str]) -> list[_Found]:
        """The oldest events of a shard. Later partitions are not looked at while earlier ones have more."""
        for minute in range((now - back) // _MINUTE_US, (now + _AHEAD_US) // _MINUTE_US + 1):
            self._partitions.setdefault((shard, minute), _Partition(minute, shard))
        found: list[_Found] = []
        for place in sorted(place for place in self._partitions if place[0] == shard):
            partition = self._partitions[place]
            end_us = (partition.minute + 1) * _MINUTE_US
            if back == _BACK_US and partition.done_us >= end_us:
                continue  # the next sweep looks once more
            after = min(partition.done_us, now - back)
            some, first_us, complete = await self._of_partition(partition, after, limit - len(found), without)
            found += some
            # What is published now is read over once more, as tombstones; what is not, as rows.
            partition.done_us = min(now - _BACK_US, first_us - 1 if first_us is not None else now)
            if complete and first_us is None and end_us < now - _SWEEP_BACK_US:
                del self._partitions[place]
            if not complete or len(found) >= limit:
                break
        return found

    async def _of_partition(
        self, partition: _Partition, after: int, limit: int, without: Collection[str]
    ) -> tuple[list[_Found], int | None, bool]:
        """Events after a position, the position of the first row whatever its topic, and whether these are all."""
        where = (partition.minute, partition.shard)
        found: list[_Found] = []
        first_us: int | None = None
        start = after
        size = max(limit, _PAGE) if without else limit
        for _ in range(_SCANNED):
            rows = await self._db.rows(_WAITING, (*where, start, size))
            if rows and first_us is None:
                first_us = rows[0].at_us
            found += [_found(where, row) for row in rows if row.topic not in without]
            if len(rows) < size or len(found) >= limit:
                break
            start = rows[-1].at_us - 1 if rows[-1].at_us - 1 > start else rows[-1].at_us
        complete = len(rows) < size
        if not found:
            return [], first_us, complete
        found = list({one.row: one for one in found}.values())
        return await self._in_order(where, after, found), first_us, complete

    async def _in_order(self, where: tuple[int, int], after: int, found: list[_Found]) -> list[_Found]:
        """Without those before which another of their key has turned up since they were read."""
        last = found[-1].row.at_us
        seen = {(one.row.at_us, one.row.event_id) for one in found}
        wait: dict[tuple[str, bytes], int] = {}
        most = _SCANNED * _PAGE
        for row in await self._db.rows(_KEYS, (*where, after, last, most), most=2 * most):
            if (row.at_us, row.event_id) not in seen:
                wait.setdefault((row.topic, bytes(row.key)), row.at_us)
        if not wait:
            return found
        never = last + 1
        return [one for one in found if one.row.at_us < wait.get((one.event.topic, one.event.key), never)]

    async def _walk(self) -> None:
        """Finds every partition that has rows, however old."""
        for minute, shard in await self._with_rows("outbox_waiting"):
            self._partitions[shard, minute] = _Partition(minute, shard)
        self._walk_at = time.monotonic() + _WALK_S

    async def _with_rows(self, table: str) -> list[tuple[int, int]]:
        query = _PARTITIONS.format(table)
        found: list[tuple[int, int]] = []
        for part in token_ranges(_WALK_PARTS):
            async for page in self._db.pages(query, part):
                found += [(row.minute, row.shard) for row in page]
        return sorted(found)

    # --- what was published

    async def mark(self, published: Sequence[Waiting], now_ms: int) -> None:
        """See OutboxRows."""
        now_us = self._now_us()
        keep: list[Statement] = []
        gone: list[Statement] = []
        for waiting in published:
            where, event = cast("_Where", waiting.row), waiting.event
            gone_us = max(now_us, where.written_us + 1)  # whatever the writer's clock was
            keep.append(
                (
                    _KEEP,
                    (
                        *(now_ms // 60_000, where.shard, now_ms, where.at_us, event.event_id, event.topic, event.key),
                        *(event.type, event.payload, event.traceparent, gone_us, self._keep_s, gone_us),
                    ),
                )
            )
            gone.append((_GONE, (gone_us, where.minute, where.shard, where.at_us, where.event_id)))
        # In this order: a crash between repeats an event, and loses none.
        await self._all(keep, lambda params: (params[0], params[1]))
        await self._all(gone, lambda params: (params[1], params[2]))

    async def _all(self, statements: Iterable[Statement], partition: Callable[[Sequence[object]], object]) -> None:
        """Writes, a mutation for each partition and some 50 rows."""
        groups: dict[object, list[Statement]] = {}
        for statement in statements:
            groups.setdefault(partition(statement[1]), []).append(statement)
        await asyncio.gather(
            *(
                self._db.batch(group[start : start + _MARK_ROWS], logged=False, idempotent=True)
                for group in groups.values()
                for start in range(0, len(group), _MARK_ROWS)
            )
        )

    async def rewind(self, since_ms: int) -> tuple[int, bool]:
        """See OutboxRows."""
        count = 0
        for minute, shard in await self._with_rows("outbox_published"):
            if (minute + 1) * 60_000 <= since_ms:
                continue
            rows = await self._db.rows(_KEPT, (minute, shard, since_ms, _REWIND_ROWS))
            now_us = self._now_us()
            again, forget = [], []
            for row in rows:
                # Later than what it undoes, whatever the clock of who published it was.
                later_us = max(now_us, row.gone_us + 1)
                again.append(_insertion(shard, row.at_us, _event(row), later_us))
                forget.append((_FORGET, (later_us, minute, shard, row.published_ms, row.at_us, row.event_id)))
                place = (shard, row.at_us // _MINUTE_US)
                self._partitions[place] = _Partition(place[1], shard)
            await self._all(again, lambda params: (params[0], params[1]))
            await self._all(forget, lambda params: (params[1], params[2]))
            count += len(rows)
            if len(rows) == _REWIND_ROWS:
                return count, True
        return count, False

    async def prune(self, before_ms: int) -> bool:
        """See OutboxRows. What is older than is kept goes by itself; this forgets what is to go before."""
        if before_ms <= self._now_us() // 1_000 - (self._keep_s - 1) * 1_000:
            return False
        for minute, shard in await self._with_rows("outbox_published"):
            # Later than any of them, whatever the clock of who published it; what is published now is not among them.
            later_us = self._now_us() + _MINUTE_US
            await self._db.execute(_FORGET_OLD, (later_us, minute, shard, before_ms), idempotent=True)
        return False

    # --- the lease: conditional writes only

    async def lease(self) -> Lease | None:
        """See OutboxRows."""
        self._sweeps = True  # the relay asks once in each sweep
        row = await self._db.row(_LEASE)
        return None if row is None else self._noted(row)

    async def take(self, holder: str, now_ms: int, expires_ms: int, checked: Checked | None) -> Lease:
        """See OutboxRows."""
        row = await self._db.row(_LEASE, serial=True)
        if row is None:
            await self._db.conditional(_LEASE_MAKE, (holder, expires_ms))
        elif row.holder == holder:
            known = checked or _lease(row).checked
            await self._db.conditional(
                _LEASE_RENEW, (expires_ms, known.bus.data, known.bus.process, known.at_ms, holder)
            )
        elif row.expires_ms < now_ms:
            await self._db.conditional(_LEASE_TAKE, (holder, expires_ms, row.holder, row.expires_ms))
        row = await self._db.row(_LEASE, serial=True)
        if row is None:
            raise RuntimeError("the outbox's lease row is missing")
        lease = self._noted(row)
        if lease.holder != self._holder:
            self._holder = lease.holder
            self._walk_at = 0.0  # what others left
        return lease

    async def check(self, holder: str, checked: Checked) -> None:
        """See OutboxRows."""
        await self._db.conditional(_LEASE_CHECKED, (checked.bus.data, checked.bus.process, checked.at_ms, holder))

    async def contend(self, holder: str, now_ms: int) -> None:
        """See OutboxRows."""
        await self._db.conditional(_LEASE_CONTEND, (now_ms, holder))

    async def free(self, holder: str) -> None:
        """See OutboxRows."""
        await self._db.conditional(_LEASE_FREE, (holder,))

    def _noted(self, row: Row) -> Lease:
        lease = _lease(row)
        self._contended_ms = lease.contended_ms
        return lease


class _Found(NamedTuple):
    """A waiting event."""

    row: _Where
    event: Outgoing


def _found(where: tuple[int, int], row: Row) -> _Found:
    return _Found(_Where(*where, row.at_us, row.event_id, row.written), _event(row))


def _event(row: Row) -> Outgoing:
    return Outgoing(row.topic, bytes(row.key), row.type, bytes(row.payload), row.event_id, row.traceparent)


def _lease(row: Row) -> Lease:
    bus = Incarnation(row.bus_data, row.bus_process)
    return Lease(row.holder, row.expires_ms, row.contended_ms, Checked(bus, row.checked_ms))
