"""A group's reading of topics on Kafka.

Kafka gives each partition to one member of the group, and keeps for each group and partition one offset: all before it
is handled. Keys are handled side by side, so messages after it may be handled too. Which ones those are is noted with
the offset, with how often owners began at that offset and did not end in order, and how far they had read:
`BEGUN:READ:DONE`, where DONE has the places after the offset that are done, as `distance+count` in hexadecimal. The
next owner passes over what is done, and counts what was in the hands of owners that died.

When owners began at one offset twice and died, its partition is handled *carefully* for a while: one message at a time,
of all such partitions of the process, each acknowledged before the next. So the one that kills its consumers is soon
the first that is not done, and after `max_deliveries` it is a dead letter, and not its neighbours.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from mesh.bus.base import BatchHandler, Message, MessageHandler, SubscriptionOptions
from mesh.bus.kafka_server import MAX_RECORD_BYTES, KafkaOptions, Server, stopped, to_message
from mesh.bus.lanes import Lanes, backoff
from mesh.bus.metrics import BusMetrics
from mesh.errors import Unavailable

_PAGE = 256  # messages a read
_GRACE = 5.0  # seconds for running handlers when a partition is handed over
_REBALANCE_MS = 30_000
_CAREFUL = 3  # owners that began at one offset, from which on it is handled carefully
_NOTE_CHARS = 3_000  # of at most 4,096 (offset.metadata.max.bytes)
_WINDOW = 16  # times prefetch: messages from the first that is not done to the last that was read

_log = structlog.stdlib.get_logger("mesh.bus")

Bury = Callable[[Message, str, str, int], Awaitable[None]]


def note(begun: int, read: int, offset: int, done: set[int]) -> str:
    """What is noted with an offset; the last of `done` are left out when they are too many."""
    parts: list[str] = []
    length = 0
    ordered = sorted(done)
    place = 0
    while place < len(ordered) and length < _NOTE_CHARS:
        start = place
        while place + 1 < len(ordered) and ordered[place + 1] == ordered[place] + 1:
            place += 1
        place += 1
        parts.append(f"{ordered[start] - offset:x}+{place - start:x}")
        length += len(parts[-1]) + 1
    return f"{begun}:{read}:{','.join(parts)}"


def noted(text: str, offset: int) -> tuple[int, int, set[int]]:
    """What `note` was given; nothing for a text that it did not write."""
    try:
        begun, read, ranges = text.split(":")
        done: set[int] = set()
        for part in filter(None, ranges.split(",")):
            distance, count = (int(number, 16) for number in part.split("+"))
            done.update(range(offset + distance, offset + distance + count))
        return int(begun), int(read), done
    except ValueError:
        return 0, offset, set()


class _Partition:
    """A partition that this process holds."""

    def __init__(self, subscription: KafkaSubscription, tp: TopicPartition, topic: str) -> None:
        self.tp = tp
        self.topic = topic
        self.valid_until = 0.0
        self.prepared = False
        self.closing = False
        self.paused = False
        self.acknowledged = 0
        """How many were acknowledged; more than are `committed` while a commit is due."""
        self.committed = 0
        self._subscription = subscription
        self._window: deque[int] = deque()  # offsets from the first that is not done
        self._done: set[int] = set()  # those of the window that are done
        self._skip: set[int] = set()  # done by earlier owners
        self._position = 0  # the next one to read
        self._begun = 1
        self._read = 0  # how far owners that died had read
        self._careful = False
        self._care_until = 0
        self._later: list[Message] = []  # for when care is no longer needed
        self._changed = asyncio.Event()
        self._lanes = subscription.make_lanes(self)

    def prepare(self, offset: int, text: str) -> None:
        """Begin at an offset, with what was noted at it."""
        begun, read, self._skip = noted(text, offset)
        self._position = offset
        self._begun = begun + 1
        self._read = max(read, offset + 1) if begun else offset
        self._careful = self._begun >= _CAREFUL
        if self._careful:
            # They may have read further than they could say.
            self._care_until = max(self._read, offset + self._subscription.prefetch)
            self._lanes = self._subscription.make_lanes(self, careful=True)

    @property
    def offset(self) -> int:
        """All before it is handled."""
        return self._window[0] if self._window else self._position

    @property
    def is_held(self) -> bool:
        return time.monotonic() < self.valid_until

    @property
    def has_room(self) -> bool:
        prefetch = self._subscription.prefetch
        return len(self._window) - len(self._done) < prefetch and len(self._window) < _WINDOW * prefetch

    def state(self, *, ended: bool) -> OffsetAndMetadata:
        """What is committed."""
        offset = self.offset
        begun = 0 if ended else self._begun
        return OffsetAndMetadata(offset, note(begun, max(self._position, self._read), offset, self._done | self._skip))

    def renew(self, valid_until: float, acknowledged: int) -> None:
        """It is known to be held until then, and so many acknowledgements are committed."""
        self.valid_until = valid_until
        self.committed = acknowledged
        self._subscription.end_turn(self)
        self._changed.set()

    @property
    def has_turn(self) -> bool:
        """Whether a message may be handled now: with care, nothing of this process is uncommitted."""
        if not self.is_held:
            return False
        return not self._careful or (self.committed >= self.acknowledged and self._subscription.take_turn(self))

    def wake(self) -> None:
        """Look again whether a message may be handled."""
        self._changed.set()

    def take(self, records: Sequence[Any], group: str, options: SubscriptionOptions) -> int:
        """Take records over, in order; how many of them had been read by owners that died."""
        messages: list[Message] = []
        again = 0
        for record in records:
            offset = record.offset
            if offset < self._position:
                continue  # read again after a seek
            self._position = offset + 1
            self._window.append(offset)
            if offset in self._skip:
                self._skip.discard(offset)
                self._finish(offset)
                continue
            deliveries = self._begun - 1 if offset < self._read else 0
            again += deliveries > 0
            try:
                message, only = to_message(self.topic, record, deliveries + 1)
            except ValueError:
                _log.error("a record that is not a message was skipped", topic=self.topic, id=f"{offset}")
                self._finish(offset)
                continue
            if only not in ("", group):  # a replay for another group
                self._finish(offset)
            elif deliveries >= options.max_deliveries and offset == self._window[0]:
                self._lanes.bury(message, f"delivered {deliveries} times, and each time its consumer died")
            elif self._careful and offset >= self._care_until:
                self._later.append(message)
            else:
                messages.append(message)
        if messages:
            self._lanes.add(messages)
        self._advance()
        return again

    def _finish(self, offset: int) -> None:
        self.acknowledged += 1
        self._done.add(offset)
        before = self._window[0]
        while self._window and self._window[0] in self._done:
            self._done.discard(self._window.popleft())
        if self.offset != before:  # who died before has nothing to do with the next one; but care goes on
            self._begun = _CAREFUL - 1 if self._careful else 1
        self._subscription.wants_commit()

    def _advance(self) -> None:
        """Care ends behind what owners that died had read."""
        if self._careful and self.offset >= self._care_until:
            self._careful = False
            self._begun = 1
            self._lanes = self._subscription.make_lanes(self)
            later, self._later = self._later, []
            if not self.closing:
                self._lanes.add(later)

    def close(self) -> None:
        """Take no more, begin no more; what runs goes on."""
        self.closing = True
        self._lanes.close()
        self._subscription.end_turn(self)
        self._changed.set()

    async def drain(self, grace: float) -> None:
        """Let running handlers end, if it is sure that nobody else has the partition yet."""
        if self.is_held:
            await self._lanes.drain(grace)
        else:
            await self._lanes.cancel()

    # mesh.bus.lanes.Partition

    async def held(self) -> None:
        while not self.closing and not self.has_turn:
            self._changed.clear()
            await self._changed.wait()

    def done(self, message: Message) -> None:
        self._finish(int(message.id.rpartition("-")[2]))
        self._advance()
        if self.paused and self.has_room:
            self._subscription.resume(self)

    async def give_up(self, message: Message, error: str) -> None:
        await self._subscription.bury(message, error)


class KafkaSubscription(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """See `mesh.bus.base.Subscription`; made by `KafkaBus.subscribe`."""

    def __init__(
        self,
        *,
        server: Server,
        bury: Bury,
        group: str,
        topics: tuple[str, ...],
        handler: MessageHandler | None,
        batch_handler: BatchHandler | None,
        options: SubscriptionOptions,
        metrics: BusMetrics,
    ) -> None:
        if not topics:
            raise ValueError("a subscription needs a topic")
        self.group = group
        self.prefetch = options.prefetch
        self._server = server
        self._bury = bury
        self._topics = topics
        self._names = {server.real(topic): topic for topic in topics}
        self._handler = handler
        self._batch_handler = batch_handler
        self._options = options
        self._bus_options: KafkaOptions = server.options
        self._metrics = metrics
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._due = asyncio.Event()
        self._preparing: set[asyncio.Task[None]] = set()
        self._turn: _Partition | None = None
        self._turn_from = 0  # acknowledgements that were committed when the turn began
        self._grace = _GRACE
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def assigned(self) -> frozenset[tuple[str, int]]:
        return frozenset((one.topic, tp.partition) for tp, one in self._partitions.items() if one.is_held)

    @property
    def connected(self) -> bool:
        return not self._server.outage.active

    async def start(self) -> None:
        if self._task is not None:
            raise RuntimeError("the subscription was started before")
        self._task = asyncio.create_task(self._run(), name=f"bus-{self.group}")

    async def stop(self, grace: float = _GRACE) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._grace = grace
        if self._task is not None:
            self._task.cancel()
            _, late = await asyncio.wait([self._task], timeout=grace + 15.0)
            if late:
                _log.error("a subscription does not end", group=self.group)

    def make_lanes(self, partition: _Partition, *, careful: bool = False) -> Lanes:
        options = replace(self._options, concurrency=1, batch_size=1) if careful else self._options
        return Lanes(self.group, partition.topic, self._handler, self._batch_handler, partition, options, self._metrics)

    def wants_commit(self) -> None:
        self._due.set()

    def take_turn(self, one: _Partition) -> bool:
        """Whether a partition that needs care may handle a message now: one of them at a time."""
        if self._turn is None:
            self._turn, self._turn_from = one, one.committed
        return self._turn is one

    def end_turn(self, one: _Partition) -> None:
        """What it handled is committed, or it handles no more. (Without a commit due, its message is not done yet.)"""
        if self._turn is one and (one.closing or one.committed > self._turn_from):
            self._turn = None
            for other in self._partitions.values():
                other.wake()

    def resume(self, one: _Partition) -> None:
        one.paused = False
        self._resume(one.tp)

    async def bury(self, message: Message, error: str) -> None:
        await self._bury(message, self.group, error, self._options.dead_letters)

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                await self._session()
            except (Unavailable, KafkaError, OSError, TimeoutError) as error:
                self._server.outage.began(error)
                self._server.forget()
            except Exception as error:  # noqa: BLE001 - a loop must not end: logged, then tried again
                _log.error("a subscription failed", group=self.group, exc_info=error)
            failures += 1
            await asyncio.sleep(backoff(failures, 0.05, self._bus_options.reconnect_cap))

    async def _session(self) -> None:
        """Be a member of the group for as long as that works."""
        for topic in self._topics:
            await self._server.partitions(topic)
        session_ms = int(self._bus_options.session * 1000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._server.brokers,
            group_id=self._server.real(self.group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 6,
            rebalance_timeout_ms=_REBALANCE_MS,
            request_timeout_ms=self._server.timeout_ms + _REBALANCE_MS,
            fetch_max_wait_ms=int(self._bus_options.block * 1000),
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            retry_backoff_ms=50,
        )
        consumer.subscribe(list(self._names), listener=self)
        self._consumer = consumer
        committer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._bus_options.deadline + _REBALANCE_MS / 1000):
                await consumer.start()
            self._server.outage.ended()
            committer = asyncio.create_task(self._commit_for_ever(), name=f"bus-{self.group}-commit")
            while not committer.done():
                await self._read(consumer)
        finally:
            if committer is not None:
                committer.cancel()
            await self._let_go(list(self._partitions), self._grace)
            self._consumer = None
            for task in list(self._preparing):
                task.cancel()
            await stopped(consumer)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=int(self._bus_options.block * 1000), max_records=_PAGE)
        parts = list(found.items())
        random.shuffle(parts)  # no partition is always the first to get a turn
        for tp, records in parts:
            one = self._partitions.get(tp)
            if one is None or one.closing or not one.prepared:
                continue  # handed over meanwhile, or read again once it is known where to begin
            labels = (one.topic, self.group)
            self._metrics.consumed.labels(*labels).inc(len(records))
            if again := one.take(records, self.group, self._options):
                self._metrics.redelivered.labels(*labels).inc(again)
            if not one.has_room and not one.paused:
                one.paused = True
                consumer.pause(tp)

    # --- partitions come and go ---

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """For the client: partitions are this member's now."""
        if self._stopping or self._consumer is None:
            return
        if assigned:
            self._consumer.pause(*assigned)
        for tp in assigned:
            self._partitions[tp] = _Partition(self, tp, self._names[tp.topic])
        task = asyncio.create_task(self._prepare([self._partitions[tp] for tp in assigned]))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """For the client: partitions will be another member's, once this returns."""
        await self._let_go(revoked, _GRACE)

    async def _prepare(self, ones: Sequence[_Partition]) -> None:
        """Find out where to begin, say that it has begun, and begin."""
        failures = 0
        while left := [one for one in ones if not one.closing and not one.prepared]:
            try:
                offsets = await self._server.group_offsets(self.group)
                bounds = await self._server.bounds(one.tp for one in left)
                for one in left:
                    first, end = bounds[one.tp]
                    offset, text = offsets.get(one.tp, (first, ""))
                    if not first <= offset <= end:
                        _log.warning("the bus no longer has what comes next", group=self.group, topic=one.topic)
                        offset, text = first, ""
                    one.prepare(offset, text)
                    if self._consumer is not None and not one.closing:
                        self._consumer.seek(one.tp, offset)
                left = [one for one in left if not one.closing]
                await self._commit(left)
                for one in left:
                    if not one.closing:
                        one.prepared = True
                        self._resume(one.tp)
                        _log.info("took a partition", topic=one.topic, partition=one.tp.partition, group=self.group)
            except (Unavailable, IllegalStateError) as error:
                failures += 1
                if failures > 1:
                    _log.info("a partition is not ready yet", group=self.group, error=str(error.__cause__ or error))
                await asyncio.sleep(backoff(failures, 0.05, self._bus_options.reconnect_cap))
            except Exception as error:  # noqa: BLE001 - a defect: logged; the partition stays paused until it is handed on
                _log.error("a partition could not be taken", group=self.group, exc_info=error)
                return

    def _resume(self, tp: TopicPartition) -> None:
        if self._consumer is not None:
            try:
                self._consumer.resume(tp)
            except IllegalStateError:
                return  # it is no longer this member's

    async def _let_go(self, partitions: Sequence[TopicPartition], grace: float) -> None:
        """Let running handlers end and commit what is done."""
        ones = [one for tp in partitions if (one := self._partitions.pop(tp, None)) is not None]
        for one in ones:
            one.close()
        try:
            await asyncio.gather(*(one.drain(grace) for one in ones))
            await self._commit([one for one in ones if one.prepared and one.is_held], ended=True)
        except Unavailable as error:
            _log.info("handed over without a last commit", group=self.group, error=str(error.__cause__ or error))
        except Exception as error:  # noqa: BLE001 - the group must go on
            _log.error("handing over failed", group=self.group, exc_info=error)

    # --- commits ---

    async def _commit_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._bus_options.session / 3):
                    await self._due.wait()
            except TimeoutError:
                pass  # nothing to say but that this member is there: it is how `is_held` is known
            else:
                await asyncio.sleep(self._bus_options.commit_interval)
            self._due.clear()
            try:
                ones = [one for one in self._partitions.values() if one.prepared]
                if ones:
                    await self._commit(ones)
                else:
                    await self._server.places([self._server.real(self._topics[0])])
                failures = 0
            except Unavailable:
                failures += 1
                self._due.set()
                await asyncio.sleep(backoff(failures, 0.05, self._bus_options.reconnect_cap))
            self._tell_lag()

    async def _commit(self, ones: Sequence[_Partition], *, ended: bool = False) -> None:
        """Commit what is done. Raises Unavailable: this member may hold them no longer, or the bus is down."""
        if not ones or self._consumer is None:
            return
        asked = time.monotonic()
        acknowledged = [one.acknowledged for one in ones]
        offsets = {one.tp: one.state(ended=ended) for one in ones}
        try:
            async with asyncio.timeout(self._bus_options.deadline):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:  # of the group's state, not of the bus's
            raise Unavailable("the group takes no commit") from error
        except (KafkaError, OSError, TimeoutError) as error:
            self._server.outage.began(error)
            raise Unavailable("the bus does not answer") from error
        self._server.outage.ended()
        # The broker counts a commit as a sign of life. Counted from before it; a tenth for clocks that drift.
        for one, count in zip(ones, acknowledged, strict=True):
            one.renew(asked + self._bus_options.session * 0.9, count)

    def _tell_lag(self) -> None:
        if self._consumer is None:
            return
        lags = dict.fromkeys(self._topics, 0)
        for tp, one in self._partitions.items():
            try:
                highwater = self._consumer.highwater(tp)
            except IllegalStateError:
                continue
            if highwater is not None and one.prepared:
                lags[one.topic] += max(0, highwater - one.offset)
        for topic, lag in lags.items():
            self._metrics.lag.labels(topic, self.group).set(lag)
