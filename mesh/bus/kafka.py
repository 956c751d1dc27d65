"""The bus on Kafka (3.0 or newer).

A topic of the bus is a topic of Kafka, and a group a group. The partition of a message is CRC-32 of its key modulo the
number of partitions that the topic has, so that number is changed only while the topic is empty. A publication is
acknowledged by all replicas that are in sync (acks=all), and its repetitions by the client are dropped by the broker
(an idempotent producer). `kafka_subscription` reads.

Records: key, value (payload), headers t type, e event id, c trace context, g the only group it is for (replays).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from prometheus_client import CollectorRegistry

from mesh.bus.base import (
    MAX_PUBLISH,
    Backlog,
    BatchHandler,
    DeadLetter,
    DeadLetterPage,
    Incarnation,
    Message,
    MessageHandler,
    Outgoing,
    PublishRefused,
    Subscription,
    SubscriptionOptions,
    Unhandled,
    check_name,
)
from mesh.bus.kafka_server import (
    INCARNATION_TOPIC,
    MAX_RECORD_BYTES,
    KafkaOptions,
    Server,
    dead_topic,
    parts_of,
    to_message,
)
from mesh.bus.kafka_subscription import KafkaSubscription
from mesh.bus.metrics import BusMetrics
from mesh.bus.outage import Outage
from mesh.errors import Unavailable

_PAGE = 1000
_TRIM_EVERY = 1_000  # dead letters
_CLOSE_S = 5.0

_log = structlog.stdlib.get_logger("mesh.bus")


class KafkaBus:
    """The bus; see `mesh.bus.base.Bus`.

    Args:
        url: `kafka://host:port,host:port`, some of the brokers; then `/NAME` when several buses share the cluster.
        options: limits and times.
        registry: for metrics; by default none are exported.

    Raises:
        ValueError: the URL is none.
    """

    def __init__(
        self, url: str, *, options: KafkaOptions | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self._options = options or KafkaOptions()
        self._metrics = BusMetrics(registry)
        brokers, space = parts_of(url)
        self._server = Server(brokers, self._options, Outage("bus"), space)
        self._producer: AIOKafkaProducer | None = None
        self._producer_lock = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._buried: dict[str, int] = {}

    async def prepare(self, topic: str) -> None:
        """Make a topic if there is none, before it is needed. Raises Unavailable, or ValueError for the name."""
        await self._server.partitions(check_name("topic", topic))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        if len(messages) > MAX_PUBLISH:
            raise ValueError(f"at most {MAX_PUBLISH} messages a call")
        await self._publish([(message, "") for message in messages])

    async def _publish(self, messages: Sequence[tuple[Outgoing, str]]) -> None:
        """Publish messages, each for one group or, with an empty name, for all."""
        partitions = {topic: await self._server.partitions(topic) for topic in {one.topic for one, _ in messages}}
        records: list[_Record] = []
        for message, group in messages:
            headers = [("t", message.type.encode()), ("e", message.event_id.encode())]
            if message.traceparent is not None:
                headers.append(("c", message.traceparent.encode()))
            if group:
                headers.append(("g", group.encode()))
            partition = zlib.crc32(message.key) % partitions[message.topic]
            records.append((self._server.real(message.topic), partition, message.key, message.payload, headers))
        refused = await self._send(records)
        sent = Counter(one.topic for position, (one, _) in enumerate(messages) if position not in refused)
        for topic, count in sent.items():
            self._metrics.sent.labels(topic).inc(count)
        if refused:
            topics = sorted({messages[position][0].topic for position in refused})
            for position in refused:
                self._metrics.refused.labels(messages[position][0].topic).inc()
            raise PublishRefused(f"the bus refuses messages of topic {', '.join(topics)}", frozenset(refused))

    async def _send(self, records: Sequence[_Record]) -> set[int]:
        """Write records; the positions of those that the brokers refuse as too large. Raises Unavailable."""
        refused: set[int] = set()
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._options.deadline):
                producer = await self._ready_producer()
                waiting = await _send_batches(producer, records)
                if waiting:
                    await asyncio.wait([future for future, _ in waiting])
            for future, positions in waiting:
                error = future.exception()
                if isinstance(error, MessageSizeTooLargeError):
                    refused.update(positions)
                elif error is not None:
                    raise error
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            # The next one begins anew: this one may hold what can no longer be sent, or a sequence that is broken.
            # (An AssertionError says that the topic came back with fewer partitions.)
            if producer is not None and self._producer is producer:
                self._producer = None
                self._close_later(producer)
            self._server.forget()
            self._server.outage.began(error)
            raise Unavailable("the bus does not answer") from error
        self._server.outage.ended()
        return refused

    async def _ready_producer(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._producer_lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._server.brokers,
                    enable_idempotence=True,
                    acks="all",
                    max_request_size=MAX_RECORD_BYTES,
                    max_batch_size=128 << 10,
                    request_timeout_ms=self._server.timeout_ms,
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                except BaseException:
                    self._close_later(producer)
                    raise
                self._producer = producer
        return self._producer

    def _close_later(self, producer: AIOKafkaProducer) -> None:
        """Close a producer that failed; what it holds expires within the deadline."""
        task = asyncio.create_task(_close(producer, self._options.deadline + _CLOSE_S))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def subscribe(
        self, group: str, topics: Sequence[str], handler: MessageHandler, *, options: SubscriptionOptions | None = None
    ) -> Subscription:
        return self._subscription(group, topics, handler, None, options)

    def subscribe_batch(
        self, group: str, topics: Sequence[str], handler: BatchHandler, *, options: SubscriptionOptions | None = None
    ) -> Subscription:
        return self._subscription(group, topics, None, handler, options)

    def _subscription(
        self,
        group: str,
        topics: Sequence[str],
        handler: MessageHandler | None,
        batch_handler: BatchHandler | None,
        options: SubscriptionOptions | None,
    ) -> Subscription:
        return KafkaSubscription(
            server=self._server,
            bury=self._bury,
            group=check_name("group", group),
            topics=tuple(dict.fromkeys(check_name("topic", topic) for topic in topics)),
            handler=handler,
            batch_handler=batch_handler,
            options=options or SubscriptionOptions(),
            metrics=self._metrics,
        )

    # --- dead letters ---

    async def _bury(self, message: Message, group: str, error: str, keep: int) -> None:
        """Put a message among the dead letters of a group, of which about `keep` are kept. Raises Unavailable."""
        name = self._server.real(dead_topic(message.topic, group))
        await self._server.ensure_dead(name)
        headers = [
            ("t", message.type.encode()),
            ("e", message.event_id.encode()),
            ("i", message.id.encode()),
            ("n", str(message.attempt).encode()),
            ("x", error.encode(errors="replace")),
        ]
        if message.traceparent is not None:
            headers.append(("c", message.traceparent.encode()))
        await self._send([(name, 0, message.key, message.payload, headers)])
        self._buried[name] = self._buried.get(name, 0) + 1
        if self._buried[name] % min(_TRIM_EVERY, keep) == 0:
            letters = TopicPartition(name, 0)
            first, end = (await self._server.bounds([letters]))[letters]
            if end - first > keep:
                await self._server.delete_before({letters: end - keep})

    async def dead_letters(
        self, topic: str, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> DeadLetterPage:
        check_name("topic", topic)
        check_name("group", group)
        if not 1 <= limit <= _PAGE:
            raise ValueError(f"limit must be 1 to {_PAGE}")
        start = 0 if cursor is None else _letter_offset(cursor) + 1
        items, _ = await self._letters(topic, group, start, limit + 1)
        return DeadLetterPage(tuple(items[:limit]), items[limit - 1].id if len(items) > limit else None)

    async def _letters(
        self, topic: str, group: str, start: int, count: int, only: frozenset[int] | None = None
    ) -> tuple[list[DeadLetter], set[int]]:
        """The first `count` letters from an offset on that were not taken away, of these offsets only; and the offsets
        of all that were taken away."""
        name = self._server.real(dead_topic(topic, group))
        taken: set[int] = set()
        letters: list[DeadLetter] = []
        if not await self._server.places([name]):
            return letters, taken

        def note_taken(record: Any) -> bool:
            taken.update(int(offset) for offset in record.value.split(b","))
            return True

        def note_letter(record: Any) -> bool:
            if record.offset not in taken and (only is None or record.offset in only):
                letters.append(_dead_letter(topic, record))
            return len(letters) < count

        await self._server.read(TopicPartition(name, 1), 0, note_taken)
        if only is None:
            await self._server.read(TopicPartition(name, 0), start, note_letter)
        elif only:
            await self._server.read(TopicPartition(name, 0), min(only), note_letter, upto=max(only) + 1)
        return letters, taken

    async def replay(self, topic: str, group: str, *, ids: Sequence[str] | None = None, limit: int = _PAGE) -> int:
        check_name("topic", topic)
        check_name("group", group)
        if not 1 <= limit <= _PAGE:
            raise ValueError(f"limit must be 1 to {_PAGE}")
        only = None if ids is None else frozenset(_letter_offset(one) for one in list(ids)[:limit])
        letters, taken = await self._letters(topic, group, 0, limit, only)
        name = self._server.real(dead_topic(topic, group))
        put_back = 0
        for start in range(0, len(letters), 100):
            part = letters[start : start + 100]
            gone = part
            refusal: PublishRefused | None = None
            try:
                await self._publish([(_outgoing(letter.message), group) for letter in part])
            except PublishRefused as error:
                refusal = error
                gone = [letter for position, letter in enumerate(part) if position not in error.refused]
            if gone:  # after, not before: a crash between the two repeats a message and loses none
                await self._send([(name, 1, b"", ",".join(letter.id for letter in gone).encode(), [])])
                taken.update(int(letter.id) for letter in gone)
            put_back += len(gone)
            if refusal is not None:
                raise refusal
        if put_back:
            await self._clear(name, taken)
        return put_back

    async def _clear(self, name: str, taken: set[int]) -> None:
        """Delete letters before the first that was not taken away, and once there is none, what tells of them."""
        letters, removals = TopicPartition(name, 0), TopicPartition(name, 1)
        removed = (await self._server.bounds([removals]))[removals][1]  # first: these are about letters before `end`
        first, end = (await self._server.bounds([letters]))[letters]
        kept = next((offset for offset in range(first, end) if offset not in taken), end)
        if kept == end and end > first:
            await self._server.delete_before({letters: end})
            await self._server.delete_before({removals: removed})
        elif kept > first:
            await self._server.delete_before({letters: kept})

    # --- what it is ---

    async def incarnation(self) -> Incarnation:
        """`data` is the first record of a topic that whoever finds it empty writes to: it is gone when the data is.

        `process` counts the elections of leaders among that topic's partitions that have one replica: a broker's
        restart may lose their last writes. With two or more a write is on two before it is acknowledged, and a
        failover loses none.
        """
        places = await self._server.incarnation_places()
        first = TopicPartition(self._server.real(INCARNATION_TOPIC), 0)
        found: list[bytes] = []

        def note_first(record: Any) -> bool:
            found.append(record.value)
            return False

        await self._server.read(first, 0, note_first)
        if not found:
            await self._send([(first.topic, 0, b"", secrets.token_hex(16).encode(), [])])
            await self._server.read(first, 0, note_first)
        if not found:
            raise Unavailable("the bus does not tell its incarnation")
        alone = [f"{place.index}:{place.leader}:{place.epoch}" for place in places if place.replicas < 2]
        process = hashlib.sha256(" ".join(alone).encode()).hexdigest()[:32] if alone else "replicated"
        return Incarnation(data=found[0].decode(), process=process)

    async def backlog(self) -> Backlog:
        places = await self._server.places(None)
        names = {
            TopicPartition(real, place.index): name
            for real, found in places.items()
            for place in found
            if (name := self._server.own(real))
        }
        ends = {tp: end for tp, (_, end) in (await self._server.bounds(sorted(names))).items()}
        unhandled: list[Unhandled] = []
        for real in await self._server.groups():
            if group := self._server.own(real):
                for tp, (offset, _) in sorted((await self._server.group_offsets(group)).items()):
                    if offset < ends.get(tp, 0):
                        unhandled.append(Unhandled(names[tp], tp.partition, group))
        newest = tuple((names[tp], tp.partition, str(end)) for tp, end in ends.items())
        return Backlog(newest, tuple(unhandled))

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer, _CLOSE_S)
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)
        for task in self._closing:
            task.cancel()
        await self._server.close()


_Record = tuple[str, int, bytes, bytes, list[tuple[str, bytes]]]
"""Topic, partition, key, value, headers."""


async def _send_batches(
    producer: AIOKafkaProducer, records: Sequence[_Record]
) -> list[tuple[asyncio.Future[Any], list[int]]]:
    """Hands records to the client in batches, one or more for each partition; what becomes of each batch, and the
    positions of its records. The client's own way, a future for each record, takes twice the CPU."""
    waiting: list[tuple[asyncio.Future[Any], list[int]]] = []
    filling: dict[tuple[str, int], tuple[Any, list[int]]] = {}
    for position, (topic, partition, key, value, headers) in enumerate(records):
        batch, positions = filling.get((topic, partition), (None, []))
        if batch is None or batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            if batch is not None:  # it is full
                waiting.append((await producer.send_batch(batch, topic, partition=partition), positions))
            batch, positions = producer.create_batch(), []
            filling[topic, partition] = batch, positions
            batch.append(timestamp=None, key=key, value=value, headers=headers)  # the first one always has room
        positions.append(position)
    for (topic, partition), (batch, positions) in filling.items():
        batch.close()
        waiting.append((await producer.send_batch(batch, topic, partition=partition), positions))
    return waiting


async def _close(producer: AIOKafkaProducer, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await producer.stop()
    except (TimeoutError, KafkaError, OSError) as error:
        _log.warning("closing a producer failed", error=f"{type(error).__name__}: {error}")
        await producer.client.close()


def _letter_offset(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"{text[:80]!r} is not the id of a dead letter")
    return int(text)


def _dead_letter(topic: str, record: Any) -> DeadLetter:
    message, _ = to_message(topic, record, 1)
    headers = dict(record.headers)
    message = Message(
        topic=topic,
        key=message.key,
        type=message.type,
        payload=message.payload,
        id=headers.get("i", b"").decode(),
        event_id=message.event_id,
        traceparent=message.traceparent,
        attempt=int(headers.get("n", b"1")),
    )
    error = headers.get("x", b"").decode(errors="replace")
    return DeadLetter(id=str(record.offset), message=message, error=error, failed_ms=int(record.timestamp))


def _outgoing(message: Message) -> Outgoing:
    return Outgoing(
        topic=message.topic,
        key=message.key,
        type=message.type or "unknown",
        payload=message.payload,
        event_id=message.event_id or message.id,
        traceparent=message.traceparent,
    )
