"""What the Kafka adapter of the bus stands on: options, names of topics, records, and questions to the cluster."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v4
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from mesh.bus.base import MAX_PAYLOAD_BYTES, Message, is_name
from mesh.bus.outage import Outage
from mesh.errors import Unavailable

INCARNATION_TOPIC = "bus.INCARNATION"
"""Capitals are in no topic's name, so these are nobody else's."""
MAX_RECORD_BYTES = 2 * MAX_PAYLOAD_BYTES
_INCARNATION_PARTITIONS = 12  # led by different brokers, of which each tells when it was started again
_RETRY_S = 0.05
_FOREVER = "-1"
_SPACE = re.compile(r"[a-z0-9_-]{1,48}")
_READ_RECORDS = 1_000

# It says at length what is told here in one line (`Outage`), and errors reach whoever asked.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How the bus uses its cluster.

    Raises:
        ValueError: a value that is not positive.
    """

    partitions: int = 4
    """Of a topic that is made here: the most replicas of a group that work at the same time. A topic that is there
    keeps its number."""
    retention: float = 7 * 86_400.0
    """Seconds that a message is kept, handled or not, in a topic that is made here: the longest that a group may be
    away without losing any."""
    deadline: float = 10.0
    """Seconds for one exchange with the cluster, and for a publication; longer than a failover takes (5 to 8 s)."""
    block: float = 0.5
    """Seconds that a read waits for messages at a broker."""
    session: float = 6.0
    """Seconds until the partitions of a consumer that died go to others."""
    commit_interval: float = 0.02
    """Seconds for which acknowledgements are gathered."""
    reconnect_cap: float = 1.0
    """Seconds between tries to reach the cluster, at most."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")


def parts_of(url: str) -> tuple[list[str], str]:
    """The brokers in `kafka://host:port,host:port/NAME`, and the name, which may be left out.

    Raises:
        ValueError: it is no such URL. It is not repeated in the message.
    """
    scheme, separator, rest = url.partition("://")
    hosts, _, name = rest.partition("/")
    brokers = hosts.split(",")
    if scheme != "kafka" or not separator or "@" in rest or (name and _SPACE.fullmatch(name) is None):
        raise ValueError(
            "the bus on Kafka is kafka://host:port,host:port, then / and a name if several share the cluster"
        )
    for broker in brokers:
        host, colon, port = broker.rpartition(":")
        if not host or not colon or not port.isascii() or not port.isdigit() or "?" in host:
            raise ValueError("each broker of the bus is host:port")
    return brokers, name


def dead_topic(topic: str, group: str) -> str:
    """Where a group's dead letters are: partition 0 has them, partition 1 the offsets of those taken away again."""
    return f"{topic}.DEAD.{group}"


def to_message(topic: str, record: Any, attempt: int) -> tuple[Message, str]:
    """A record as a message, and the only group that it is for, or an empty name."""
    headers = dict(record.headers)
    return (
        Message(
            topic=topic,
            key=record.key or b"",
            type=headers.get("t", b"").decode(),
            payload=record.value or b"",
            id=f"{record.partition}-{record.offset}",
            event_id=headers.get("e", b"").decode(),
            traceparent=headers["c"].decode() if "c" in headers else None,
            attempt=attempt,
        ),
        headers.get("g", b"").decode(),
    )


class _MetadataResponse7(Response):  # type: ignore[misc]  # the client has no types, here and below
    API_KEY = 3
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
            ),
        ),
    )


class _MetadataRequest7(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 7
    RESPONSE_TYPE = _MetadataResponse7
    SCHEMA = MetadataRequest_v4.SCHEMA


class _Metadata(Request[_MetadataRequest7]):  # type: ignore[misc]
    """What the cluster knows of topics, with the epochs of their leaders (the client's own request has none)."""

    API_KEY: ClassVar[int] = 3

    def __init__(self, topics: Sequence[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest7]) -> _MetadataRequest7:
        return request_struct_class(self._topics, False)


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of a topic."""

    index: int
    leader: int
    """-1 while there is none."""
    epoch: int
    """Raised whenever a leader is chosen, also after the only broker's restart."""
    replicas: int
    """How many brokers have it."""


class Server:
    """Questions to the cluster, each within the deadline; `Unavailable` for whatever goes wrong.

    Args:
        brokers: some of them, `host:port`.
        options: limits and times.
        outage: is told of each exchange that worked or did not.
        space: whose topics and groups these are, when several share a cluster: each has names of its own.
    """

    def __init__(self, brokers: Sequence[str], options: KafkaOptions, outage: Outage, space: str = "") -> None:
        self.brokers = list(brokers)
        self._prefix = f"{space}.BUS." if space else ""
        self.options = options
        self.outage = outage
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._admin_lock = asyncio.Lock()
        self._reader_lock = asyncio.Lock()
        self._partitions: dict[str, int] = {}

    def real(self, name: str) -> str:
        """What a topic or a group is called in the cluster."""
        return self._prefix + name

    def own(self, real: str) -> str | None:
        """What is called so in the cluster; None when it is not a topic or group of this bus."""
        name = real.removeprefix(self._prefix)
        return name if real.startswith(self._prefix) and is_name(name) else None

    @property
    def timeout_ms(self) -> int:
        """The deadline as the client wants it."""
        return int(self.options.deadline * 1000)

    async def within(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, tried again while the cluster changes, until the deadline.

        Raises:
            Unavailable: it did not work.
        """
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self.options.deadline):
                while True:
                    try:
                        answer = await work()
                    except (KafkaError, OSError) as failed:
                        error = failed
                        await asyncio.sleep(_RETRY_S)
                        if not getattr(failed, "retriable", True):
                            break
                        continue
                    self.outage.ended()
                    return answer
        except TimeoutError as late:
            error = error or late
        self.outage.began(error)
        raise Unavailable("the bus does not answer") from error

    async def _with_admin(self, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        async def work() -> T:
            async with self._admin_lock:
                if self._admin is None:
                    admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers, request_timeout_ms=self.timeout_ms)
                    try:
                        await admin.start()
                    except BaseException:
                        await admin.close()
                        raise
                    self._admin = admin
                admin = self._admin
            try:
                return await ask(admin)
            except (KafkaError, OSError, asyncio.CancelledError):
                if self._admin is admin:  # it may hang on a broker that is gone: the next one looks anew
                    self._admin = None
                    await admin.close()
                raise

        return await self.within(work)

    async def _with_reader(self, ask: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> T:
        """A consumer of no group, for one at a time."""

        async def work() -> T:
            async with self._reader_lock:
                if self._reader is None:
                    reader = AIOKafkaConsumer(
                        bootstrap_servers=self.brokers,
                        enable_auto_commit=False,
                        auto_offset_reset="earliest",
                        request_timeout_ms=self.timeout_ms,
                        retry_backoff_ms=int(_RETRY_S * 1000),
                        max_partition_fetch_bytes=MAX_RECORD_BYTES,
                        fetch_max_wait_ms=10,  # questions on the same connection come after a read that waits
                    )
                    try:
                        await reader.start()
                    except BaseException:
                        await stopped(reader)
                        raise
                    self._reader = reader
                try:
                    return await ask(self._reader)
                except (KafkaError, OSError, asyncio.CancelledError):
                    reader, self._reader = self._reader, None
                    await stopped(reader)
                    raise

        return await self.within(work)

    async def places(self, topics: Sequence[str] | None) -> dict[str, list[Place]]:
        """The partitions of those of these topics that there are, or of all, in order. Raises Unavailable."""

        async def ask(admin: AIOKafkaAdminClient) -> dict[str, list[Place]]:
            found = await admin._client.send(admin._client.get_random_node(), _Metadata(topics))
            places: dict[str, list[Place]] = {}
            for code, topic, _, partitions in found.topics:
                if for_code(code) is UnknownTopicOrPartitionError:
                    continue
                if code:
                    raise for_code(code)(topic)
                places[topic] = sorted(
                    (
                        Place(index, leader, epoch, len(replicas))
                        for _, index, leader, epoch, replicas, _, _ in partitions
                    ),
                    key=lambda place: place.index,
                )
            return places

        return await self._with_admin(ask)

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic of events has; it is made if there is none. Raises Unavailable."""
        if (known := self._partitions.get(topic)) is not None:
            return known
        keep = str(int(self.options.retention * 1000))
        self._partitions[topic] = await self._ensure(self.real(topic), self.options.partitions, keep)
        return self._partitions[topic]

    async def ensure_dead(self, name: str) -> None:
        """Makes a topic of dead letters, if there is none. Raises Unavailable."""
        if name not in self._partitions:
            self._partitions[name] = await self._ensure(name, 2, _FOREVER)

    async def incarnation_places(self) -> list[Place]:
        """The partitions of the incarnation's topic, which is made if there is none. Raises Unavailable."""
        topic = self.real(INCARNATION_TOPIC)
        found = (await self.places([topic])).get(topic)
        if not found:
            await self._ensure(topic, _INCARNATION_PARTITIONS, _FOREVER)
            found = (await self.places([topic])).get(topic)
        if not found:
            raise Unavailable("the bus does not tell its incarnation")
        return found

    def forget(self) -> None:
        """What was known of topics may be wrong: the cluster may have come back without them."""
        self._partitions.clear()

    async def _ensure(self, topic: str, partitions: int, retention_ms: str) -> int:
        async def led() -> int:
            found = (await self.places([topic])).get(topic, [])
            return len(found) if found and all(place.leader >= 0 for place in found) else 0

        async def make(admin: AIOKafkaAdminClient) -> None:
            configuration = {"retention.ms": retention_ms, "max.message.bytes": str(MAX_RECORD_BYTES)}
            new = NewTopic(topic, partitions, 1, topic_configs=configuration)
            new.replication_factor = -1  # as many as is usual there; the constructor knows only numbers
            answer = await admin.create_topics([new], timeout_ms=self.timeout_ms)
            for _, code, *_ in answer.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise for_code(code)(topic)

        if found := await led():
            return found
        await self._with_admin(make)
        try:
            async with asyncio.timeout(self.options.deadline):
                while not (found := await led()):  # noqa: ASYNC110 - brokers learn of it one after the other
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError as late:
            raise Unavailable("a topic of the bus has no leader") from late
        return found

    async def group_offsets(self, group: str) -> dict[TopicPartition, tuple[int, str]]:
        """What a group has committed: the offset of the next message, and what it noted with it. Raises Unavailable."""

        async def ask(admin: AIOKafkaAdminClient) -> dict[TopicPartition, tuple[int, str]]:
            found = await admin.list_consumer_group_offsets(self.real(group))
            return {tp: (one.offset, one.metadata or "") for tp, one in found.items() if one.offset >= 0}

        return await self._with_admin(ask)

    async def groups(self) -> list[str]:
        """All groups. Raises Unavailable."""

        async def ask(admin: AIOKafkaAdminClient) -> list[str]:
            return sorted({str(group[0]) for group in await admin.list_consumer_groups()})

        return await self._with_admin(ask)

    async def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """The first offset that is kept and the next one that is given, by partition. Raises Unavailable."""
        asked = list(partitions)

        async def ask(reader: AIOKafkaConsumer) -> dict[TopicPartition, tuple[int, int]]:
            first, last = await reader.beginning_offsets(asked), await reader.end_offsets(asked)
            return {tp: (first[tp], last[tp]) for tp in asked}

        return await self._with_reader(ask) if asked else {}

    async def read(
        self, partition: TopicPartition, start: int, wanted: Callable[[Any], bool], *, upto: int | None = None
    ) -> None:
        """Hands the records from `start` on to `wanted`, until it says that it wants no more, or there are none.

        Args:
            partition: which.
            start: the first offset; earlier ones than are kept are passed over.
            wanted: is called for each and tells whether more are wanted.
            upto: stop before this offset.

        Raises:
            Unavailable: the cluster does not answer; `wanted` may have been called for some.
        """

        position = start

        async def ask(reader: AIOKafkaConsumer) -> None:
            nonlocal position  # a second try goes on where the first one ended
            begin = (await reader.beginning_offsets([partition]))[partition]
            end = (await reader.end_offsets([partition]))[partition]
            if upto is not None:
                end = min(end, upto)
            position = max(begin, position)
            if position >= end:
                return
            reader.assign([partition])
            reader.seek(partition, position)
            try:
                while position < end:
                    found: Mapping[TopicPartition, Sequence[Any]] = await reader.getmany(
                        partition, timeout_ms=int(self.options.block * 1000), max_records=_READ_RECORDS
                    )
                    for record in found.get(partition, ()):
                        if record.offset >= end:
                            return
                        position = record.offset + 1
                        if not wanted(record):
                            return
            finally:
                reader.unsubscribe()

        await self._with_reader(ask)

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Deletes the records before these offsets. Raises Unavailable."""

        async def ask(admin: AIOKafkaAdminClient) -> None:
            await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in offsets.items()})

        await self._with_admin(ask)

    async def close(self) -> None:
        """Release the connections."""
        admin, self._admin = self._admin, None
        reader, self._reader = self._reader, None
        if admin is not None:
            await admin.close()
        if reader is not None:
            await stopped(reader)


async def stopped(consumer: AIOKafkaConsumer, seconds: float = 3.0) -> None:
    """Stops a consumer, which leaves its group; without its group's knowledge when that takes longer."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.stop()
    except (TimeoutError, KafkaError, OSError):
        await consumer._client.close()  # what `stop` does last
