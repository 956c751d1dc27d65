"""A group's reading of topics on Redis Streams.

Each partition of a group is *leased* by one process at a time (a key with a time to live), so that the order of a key
holds with many replicas; live members share the partitions evenly. A new owner first works through what earlier owners
read and did not acknowledge, in order, and only then reads what is new. All owners use one consumer name: the lease
says who it is.

Four loops run: `_coordinate` (membership, leases, trimming, lag), `_read` (one blocking read over all partitions, on a
connection of its own), `_wake_reader` (ends that read early, by CLIENT UNBLOCK from another connection, when the set of
partitions changes; cancelling it instead could lose its answer) and `_acknowledge`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import structlog
from redis.exceptions import ResponseError

from mesh.bus.base import BatchHandler, Message, MessageHandler, SubscriptionOptions
from mesh.bus.lanes import Lanes, backoff
from mesh.bus.metrics import BusMetrics
from mesh.bus.outage import Outage
from mesh.bus.redis_server import (
    INCARNATION_KEY,
    Command,
    RedisStreamsOptions,
    Server,
    dead_key,
    entry_fields,
    stream_key,
    to_message,
)
from mesh.errors import Unavailable

_CONSUMER = "owner"
_PAGE = 256  # entries a read or a page of pending ones
_GRACE = 5.0  # seconds for running handlers when a partition is handed over

_log = structlog.stdlib.get_logger("mesh.bus")

# KEYS[1] members (score: last sign of life, ms of the server's clock); ARGV[1] member, ARGV[2] ms that it is good for.
_JOIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

# KEYS leases; ARGV[1] holder; ARGV[2] ms. Answers for each whether it is the holder's, and renewed.
_RENEW = """
local held = {}
for i, key in ipairs(KEYS) do
  held[i] = 0
  if redis.call('GET', key) == ARGV[1] then held[i] = redis.call('PEXPIRE', key, ARGV[2]) end
end
return held
"""
# KEYS[1] lease; ARGV[1] holder.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# KEYS[1] stream; ARGV[1] this group; ARGV[2] ms that an entry is kept at least. Removes what every group has
# acknowledged: all before the first entry that is pending with, or not yet delivered to, any of them.
# Answers {lag of this group or -1, name of each group ...}, or {} without a stream.
_TRIM = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local time = redis.call('TIME')
local first_ms, first_seq = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2], 0
local answer = {-1}
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
for _, flat in ipairs(groups) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  local ms, seq
  if group['pending'] > 0 then
    ms, seq = parts(redis.call('XPENDING', KEYS[1], group['name'])[2])
  else
    ms, seq = parts(group['last-delivered-id'])
    seq = seq + 1
  end
  if ms < first_ms or (ms == first_ms and seq < first_seq) then first_ms, first_seq = ms, seq end
  if group['name'] == ARGV[1] and group['lag'] then answer[1] = group['lag'] + group['pending'] end
  answer[#answer + 1] = group['name']
end
if #groups > 0 then
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', first_ms, first_seq))
end
return answer
"""


class _Partition:
    """A partition that this process holds."""

    def __init__(self, subscription: RedisSubscription, topic: str, index: int, valid_until: float) -> None:
        self.topic = topic
        self.index = index
        self.stream = stream_key(topic, index)
        self.lease = f"{self.stream}:lease:{subscription.group}"
        self.valid_until = valid_until
        self.closing = False
        self.recovering = True  # first what earlier owners left
        self.cursor = "-"
        self.unacknowledged = 0
        """Messages that are handled and whose acknowledgement is not yet with the server."""
        self.inflight: dict[str, int] = {}
        """Message id -> deliveries before this one; from the read until the acknowledgement is with the server."""
        self._subscription = subscription
        self._renewed = asyncio.Event()
        self.lanes = subscription.make_lanes(self)

    def renew(self, valid_until: float) -> None:
        self.valid_until = valid_until
        self._renewed.set()

    def close(self) -> None:
        """Take no more, begin no more; what runs goes on."""
        self.closing = True
        self.lanes.close()
        self._renewed.set()

    def recover(self) -> None:
        """Look again at what is pending: an answer may have been lost."""
        self.recovering = True
        self.cursor = "-"

    @property
    def is_held(self) -> bool:
        return time.monotonic() < self.valid_until

    # mesh.bus.lanes.Partition

    async def held(self) -> None:
        while not self.is_held and not self.closing:
            self._renewed.clear()
            await self._renewed.wait()

    def done(self, message: Message) -> None:
        self._subscription.acknowledge(self, message.id)

    async def give_up(self, message: Message, error: str) -> None:
        await self._subscription.bury(message, error)


class RedisSubscription:
    """See `mesh.bus.base.Subscription`; made by `RedisStreamsBus.subscribe`."""

    def __init__(
        self,
        *,
        server: Server,
        reader: Server,
        outage: Outage,
        group: str,
        topics: tuple[str, ...],
        handler: MessageHandler | None,
        batch_handler: BatchHandler | None,
        bus_options: RedisStreamsOptions,
        options: SubscriptionOptions,
        metrics: BusMetrics,
    ) -> None:
        if not topics:
            raise ValueError("a subscription needs a topic")
        self.group = group
        self._server = server
        self._reader = reader
        self._outage = outage
        self._topics = topics
        self._handler = handler
        self._batch_handler = batch_handler
        self._bus_options = bus_options
        self._options = options
        self._metrics = metrics
        self._member = secrets.token_hex(8)
        self._page = min(_PAGE, max(1, options.prefetch // 2))
        self._lease_ms = int(bus_options.lease * 1000)
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._handovers: dict[_Partition, asyncio.Task[None]] = {}
        self._known_groups: dict[str, set[str]] = {}
        self._incarnation: bytes | None = None
        self._acks: dict[_Partition, list[str]] = {}
        self._acks_waiting = asyncio.Event()
        self._acks_sent = asyncio.Event()  # set, and replaced, each time that acknowledgements are with the server
        self._hurry = asyncio.Event()  # the coordinator should not wait for its next round
        self._wanted = asyncio.Event()  # the reader should look again at what it reads
        self._blocked = False
        self._maintain_at = 0.0  # monotonic
        self._round = asyncio.Event()  # set each time the reader comes back
        self._reader_id: int | None = None
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def assigned(self) -> frozenset[tuple[str, int]]:
        return frozenset(key for key, one in self._partitions.items() if one.is_held and not one.closing)

    @property
    def connected(self) -> bool:
        return not self._outage.active

    async def start(self) -> None:
        if self._tasks:
            raise RuntimeError("the subscription was started before")
        self._tasks = [
            asyncio.create_task(loop, name=f"bus-{self.group}-{name}")
            for name, loop in (
                ("coordinate", self._for_ever(self._coordinate)),
                ("read", self._for_ever(self._read)),
                ("acknowledge", self._for_ever(self._acknowledge)),
                ("wake", self._for_ever(self._wake_reader)),
            )
        ]

    async def stop(self, grace: float = _GRACE) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._tasks:
            for one in self._partitions.values():
                self._hand_over(one, grace)
            self._hurry.set()  # leave the group's members now; leases are renewed until they are handed over
            if self._handovers:
                await asyncio.wait(self._handovers.values(), timeout=grace + 10.0)
            await _cancelled([*self._tasks, *self._handovers.values()])
        await self._reader.close()

    def make_lanes(self, partition: _Partition) -> Lanes:
        return Lanes(
            self.group,
            partition.topic,
            self._handler,
            self._batch_handler,
            partition,
            self._options,
            self._metrics,
        )

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` again and again; with backoff after a failure."""
        failures = 0
        while True:
            try:
                await step()
            except Unavailable:  # logged once, where the exchange failed
                failures += 1
            except Exception as error:  # noqa: BLE001 - a loop must not end: logged, then tried again
                failures += 1
                _log.error("a loop of a subscription failed", group=self.group, exc_info=error)
            else:
                failures = 0
                continue
            await asyncio.sleep(backoff(failures, 0.02, self._bus_options.reconnect_cap))

    # --- membership, leases, groups ---

    async def _coordinate(self) -> None:
        self._hurry.clear()
        asked = time.monotonic()
        held = list(self._partitions.values())
        answers = await self._server.calls(
            [
                ("SET", INCARNATION_KEY, secrets.token_hex(16), "NX"),
                ("GET", INCARNATION_KEY),
                *(self._membership(topic) for topic in self._topics),
                ("EVAL", _RENEW, len(held), *(one.lease for one in held), self._member, self._lease_ms),
            ]
        )
        _raise_errors(answers)
        lost: list[_Partition] = []
        for one, renewed in zip(held, answers[-1], strict=True):
            if renewed:
                # Counted from before the question: the server's clock started later. A tenth for clocks that drift.
                one.renew(asked + self._bus_options.lease * 0.9)
            elif self._partitions.get((one.topic, one.index)) is one:
                lost.append(one)
        for one in lost:
            _log.warning("lost a partition", topic=one.topic, partition=one.index, group=self.group)
            await self._drop(one)
        if not self._stopping:
            await self._ensure_groups(answers[1])
            for topic, names in zip(self._topics, answers[2:-1], strict=True):
                await self._share(topic, sorted(names))
            if time.monotonic() >= self._maintain_at:
                await self._maintain()
                self._maintain_at = time.monotonic() + self._bus_options.lease
        try:
            async with asyncio.timeout(self._bus_options.lease / 3 * random.uniform(0.8, 1.0)):  # noqa: S311
                await self._hurry.wait()
        except TimeoutError:
            return

    def _membership(self, topic: str) -> Command:
        key = f"bus:{{{topic}}}:members:{self.group}"
        if self._stopping:
            return ("ZREM", key, self._member)
        return ("EVAL", _JOIN, 1, key, self._member, self._lease_ms)

    async def _ensure_groups(self, incarnation: bytes) -> None:
        """Make the group on every partition, at the stream's beginning, once for each incarnation of the server.

        On a server that came back empty, also those of other services that were seen before: their owners may be
        slower, and an entry must not be trimmed before they had it.
        """
        if incarnation == self._incarnation:
            return
        commands = []
        for topic in self._topics:
            for index in range(self._bus_options.partitions):
                stream = stream_key(topic, index)
                for group in sorted({self.group, *self._known_groups.get(stream, ())}):
                    commands.append(("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"))
        for answer in await self._server.calls(commands):
            if isinstance(answer, Exception) and not str(answer).startswith("BUSYGROUP"):
                raise answer
        if self._incarnation is not None:
            _log.warning("the bus lost its data: groups were made anew", group=self.group)
            for one in self._partitions.values():
                one.recover()
        self._incarnation = incarnation

    async def _share(self, topic: str, members: list[bytes]) -> None:
        """Hold as many partitions of a topic as is this member's share."""
        count = self._bus_options.partitions
        me = self._member.encode()
        if me not in members:  # a pause longer than the lease: the next round joins again
            return
        # Who gets one more than the others differs from topic to topic.
        rank = (members.index(me) + zlib.crc32(topic.encode())) % len(members)
        share = count // len(members) + (1 if rank < count % len(members) else 0)
        mine = [one for one in self._partitions.values() if one.topic == topic and not one.closing]
        for one in mine[share:]:
            self._hand_over(one, _GRACE)
        if len(mine) >= share:
            return
        free = [index for index in range(count) if (topic, index) not in self._partitions]
        leases = await self._server.calls([("GET", f"{stream_key(topic, i)}:lease:{self.group}") for i in free])
        free = [index for index, lease in zip(free, leases, strict=True) if lease is None]
        random.shuffle(free)  # members that look at the same moment try different ones
        wanted = free[: share - len(mine)]
        asked = time.monotonic()
        answers = await self._server.calls(
            [
                ("SET", f"{stream_key(topic, i)}:lease:{self.group}", self._member, "NX", "PX", self._lease_ms)
                for i in wanted
            ]
        )
        for index, answer in zip(wanted, answers, strict=True):
            if answer == b"OK" and not self._stopping:
                valid_until = asked + self._bus_options.lease * 0.9
                self._partitions[topic, index] = _Partition(self, topic, index, valid_until)
                _log.info("took a partition", topic=topic, partition=index, group=self.group)
        self._wanted.set()

    async def _drop(self, one: _Partition) -> None:
        """Forget a partition that is another's now."""
        one.close()
        self._partitions.pop((one.topic, one.index), None)
        self._acks.pop(one, None)
        await one.lanes.cancel()

    def _hand_over(self, one: _Partition, grace: float) -> None:
        if one not in self._handovers:
            one.close()
            task = asyncio.create_task(self._let_go(one, grace))
            self._handovers[one] = task
            task.add_done_callback(lambda _: self._handovers.pop(one, None))

    async def _let_go(self, one: _Partition, grace: float) -> None:
        """Hand a closed partition over: end what runs, acknowledge it, then free the lease."""
        self._wanted.set()
        if self._blocked:  # a read that is under way may still bring messages of this partition
            self._round.clear()
            try:
                async with asyncio.timeout(self._bus_options.block + self._bus_options.deadline):
                    await self._round.wait()
            except TimeoutError:
                _log.warning("a read did not end in time", group=self.group)
        await one.lanes.drain(grace)
        try:
            async with asyncio.timeout(self._bus_options.deadline):
                while one.unacknowledged:
                    await self._acks_sent.wait()
            if self._partitions.get((one.topic, one.index)) is one:
                await self._server.calls([*self._undeliver(one), ("EVAL", _RELEASE, 1, one.lease, self._member)])
        except (Unavailable, TimeoutError):
            _log.info("a lease was left to expire: the bus is down", topic=one.topic, partition=one.index)
        if self._partitions.get((one.topic, one.index)) is one:
            del self._partitions[one.topic, one.index]
        self._acks.pop(one, None)

    def _undeliver(self, one: _Partition) -> list[Command]:
        """What was read and not handled goes back as if it had not been delivered: its consumer did not die."""
        by_count: dict[int, list[str]] = {}
        for message_id, deliveries in one.inflight.items():
            by_count.setdefault(deliveries, []).append(message_id)
        return [
            ("XCLAIM", one.stream, self.group, _CONSUMER, 0, *ids, "RETRYCOUNT", deliveries, "JUSTID")
            for deliveries, ids in by_count.items()
        ]

    # --- trimming, lag, lost answers ---

    async def _maintain(self) -> None:
        held = [one for one in self._partitions.values() if one.is_held and not one.closing]
        keep_ms = int(self._bus_options.trim_age * 1000)
        idle_ms = 2 * self._lease_ms
        inflight = [len(one.inflight) for one in held]
        answers = await self._server.calls(
            [
                *(("EVAL", _TRIM, 1, one.stream, self.group, keep_ms) for one in held),
                # One more than are known to be in hand: enough to show that there are others.
                *(
                    ("XPENDING", one.stream, self.group, "IDLE", idle_ms, "-", "+", count + 1)
                    for one, count in zip(held, inflight, strict=True)
                ),
            ]
        )
        lags: dict[str, int] = dict.fromkeys(self._topics, 0)
        for one, trimmed, pending in zip(held, answers[: len(held)], answers[len(held) :], strict=True):
            if isinstance(trimmed, Exception) or self.group.encode() not in trimmed[1:]:
                self._remake_groups()  # the group is gone, the server's identity is not
                continue
            lags[one.topic] += max(0, int(trimmed[0]))
            self._known_groups[one.stream] = {name.decode() for name in trimmed[1:]}
            # Read by somebody (an owner that lost its lease in the middle of a read) and in nobody's hands.
            unknown = not isinstance(pending, Exception) and any(row[0].decode() not in one.inflight for row in pending)
            if unknown and not one.recovering:
                one.recover()
                self._wanted.set()
        for topic, lag in lags.items():
            self._metrics.lag.labels(topic, self.group).set(lag)

    # --- reading ---

    def _has_room(self, one: _Partition) -> bool:
        return self._options.prefetch - len(one.inflight) >= self._page

    async def _read(self) -> None:
        self._wanted.clear()
        readable = [p for p in self._partitions.values() if p.is_held and not p.closing and self._has_room(p)]
        for one in readable:
            if one.recovering:
                await self._recover(one)
                return
        if not readable:
            try:
                async with asyncio.timeout(self._bus_options.block):
                    await self._wanted.wait()
            except TimeoutError:
                return
            return
        self._blocked = True
        try:
            await self._read_new(readable)
        except ResponseError as error:
            # NOGROUP, or a stream that went while it was read: the server came back without it.
            self._remake_groups()
            raise Unavailable("the group is gone") from error
        except Unavailable:
            self._reader_id = None
            for one in self._partitions.values():
                one.recover()  # the answer may have been on its way
            raise
        finally:
            self._blocked = False
            self._round.set()

    def _remake_groups(self) -> None:
        self._incarnation = b""
        self._hurry.set()

    async def _read_new(self, partitions: Sequence[_Partition]) -> None:
        if self._reader_id is None:
            self._reader_id = int(await self._reader.call("CLIENT", "ID"))
        self._round.clear()
        answer = await self._reader.call(
            "XREADGROUP",
            "GROUP",
            self.group,
            _CONSUMER,
            "COUNT",
            self._page,
            "BLOCK",
            max(1, int(self._bus_options.block * 1000)),
            "STREAMS",
            *(one.stream for one in partitions),
            *(">" for _ in partitions),
        )
        by_stream = {one.stream.encode(): one for one in partitions}
        for stream, entries in answer or ():
            one = by_stream[stream]
            if one.closing:
                continue  # stays pending, for the next owner
            self._take(one, ((entry_id, flat, 0) for entry_id, flat in entries))

    async def _recover(self, one: _Partition) -> None:
        """Take one page of what was delivered and not acknowledged, and is not in hand here."""
        try:
            rows = await self._server.call("XPENDING", one.stream, self.group, one.cursor, "+", self._page)
        except ResponseError as error:
            self._remake_groups()
            raise Unavailable("the group is gone") from error
        deliveries = {row[0]: int(row[3]) for row in rows if row[0].decode() not in one.inflight}
        claimed: list[Any] = []
        if deliveries:
            claimed = await self._server.call("XCLAIM", one.stream, self.group, _CONSUMER, 0, *deliveries)
        if one.closing:
            return
        entries = {row[0]: row[1] for row in claimed if row is not None}
        for entry_id in deliveries:
            if entry_id not in entries:  # pending, but deleted from the stream: there is nothing to handle
                self.acknowledge(one, entry_id.decode())
        self._metrics.redelivered.labels(one.topic, self.group).inc(len(entries))
        self._take(one, ((entry_id, flat, deliveries[entry_id]) for entry_id, flat in entries.items()))
        if len(rows) < self._page:
            one.recovering = False
        else:
            one.cursor = f"({rows[-1][0].decode()}"

    def _take(self, one: _Partition, entries: Iterable[tuple[bytes, list[bytes], int]]) -> None:
        messages: list[Message] = []
        count = 0
        for entry_id, flat, deliveries in entries:
            count += 1
            text_id = entry_id.decode()
            one.inflight[text_id] = deliveries
            fields = entry_fields(flat)
            if fields.get(b"g", b"") not in (b"", self.group.encode()):
                self.acknowledge(one, text_id)  # a replay for another group
                continue
            try:
                message = to_message(one.topic, entry_id, fields, deliveries + 1)
            except ValueError:
                _log.error("an entry that is not a message was skipped", stream=one.stream, id=text_id)
                self.acknowledge(one, text_id)
                continue
            if deliveries >= self._options.max_deliveries:
                one.lanes.bury(message, f"delivered {deliveries} times, and each time its consumer died")
                continue
            messages.append(message)
        self._metrics.consumed.labels(one.topic, self.group).inc(count)
        if messages:
            one.lanes.add(messages)

    async def _wake_reader(self) -> None:
        """End a blocking read when `_wanted` is set."""
        await self._wanted.wait()
        if not self._blocked or self._reader_id is None:
            # Not blocked: the reader clears the wish when it looks again.
            await asyncio.sleep(0.005)
            return
        # Repeated, since the server may get this before the read it is meant for.
        await self._server.call("CLIENT", "UNBLOCK", self._reader_id)
        try:
            async with asyncio.timeout(0.02):
                await self._round.wait()
        except TimeoutError:
            return

    # --- acknowledging ---

    def acknowledge(self, one: _Partition, message_id: str) -> None:
        one.unacknowledged += 1
        self._acks.setdefault(one, []).append(message_id)
        self._acks_waiting.set()

    async def _acknowledge(self) -> None:
        await self._acks_waiting.wait()
        self._acks_waiting.clear()
        waiting, self._acks = self._acks, {}
        try:
            _raise_errors(
                await self._server.calls([("XACK", one.stream, self.group, *ids) for one, ids in waiting.items()])
            )
        except BaseException:
            for one, ids in waiting.items():
                if not one.closing or one in self._handovers:
                    self._acks[one] = ids + self._acks.get(one, [])
            self._acks_waiting.set()
            raise
        for one, ids in waiting.items():
            paused = not self._has_room(one)
            one.unacknowledged -= len(ids)
            for message_id in ids:
                one.inflight.pop(message_id, None)
            if paused and self._has_room(one):
                self._wanted.set()
        self._acks_sent.set()
        self._acks_sent = asyncio.Event()

    async def bury(self, message: Message, error: str) -> None:
        """Put a message among the dead letters of this group.

        Raises:
            Unavailable: the bus is down.
        """
        try:
            await self._server.call(
                "XADD",
                dead_key(message.topic, self.group),
                "MAXLEN",
                "~",
                self._options.dead_letters,
                "*",
                *("k", message.key, "t", message.type, "e", message.event_id, "p", message.payload),
                *("c", message.traceparent or "", "i", message.id, "n", message.attempt, "x", error),
            )
        except ResponseError as refusal:
            raise Unavailable("the bus refuses a dead letter") from refusal


def _raise_errors(answers: Iterable[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended (5 s at most)."""
    for task in tasks:
        task.cancel()
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=5.0)
        for task in late:
            _log.error("a task ignores cancellation", task=task.get_name())
