"""The bus on Redis Streams (Redis 7, Valkey).

A topic is `partitions` streams `bus:{topic:p}`; the braces place a stream, and all that belongs to it, on one node of
a cluster. The partition of a message is CRC-32 of its key modulo the number of partitions, so that number must be the
same in every process, and is changed only while the topic is empty. `redis_subscription` reads them.

Entry fields: k key, t type, e event id, p payload, c trace context, g the only group it is for (replays; or empty).
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
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
from mesh.bus.redis_subscription import RedisSubscription
from mesh.errors import Unavailable

_PAGE = 1000

_log = structlog.stdlib.get_logger("mesh.bus")

# KEYS[1] stream; ARGV[1] most entries; then k, t, e, p, c, g for each message. All or none: a partition has no gaps.
# A full stream that no group reads is cut instead: nobody has a claim on what it holds.
_PUBLISH = """
local count = (#ARGV - 1) / 6
local limit = tonumber(ARGV[1])
if redis.call('XLEN', KEYS[1]) + count > limit then
  if #redis.call('XINFO', 'GROUPS', KEYS[1]) > 0 or count > limit then return 0 end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', limit - count)
end
for i = 2, #ARGV, 6 do
  redis.call('XADD', KEYS[1], '*', 'k', ARGV[i], 't', ARGV[i + 1], 'e', ARGV[i + 2], 'p', ARGV[i + 3],
    'c', ARGV[i + 4], 'g', ARGV[i + 5])
end
return 1
"""


class RedisStreamsBus:
    """The bus; see `mesh.bus.base.Bus`.

    Args:
        url: `redis://host:port/db`, `rediss://...` or `unix:///path?db=0`.
        options: limits and times.
        registry: for metrics; by default none are exported.
    """

    def __init__(
        self, url: str, *, options: RedisStreamsOptions | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self._url = url
        self._options = options or RedisStreamsOptions()
        self._metrics = BusMetrics(registry)
        self._outage = Outage("bus")
        self._server = Server(
            url, connections=self._options.max_connections, deadline=self._options.deadline, outage=self._outage
        )

    def partition(self, key: bytes) -> int:
        """The partition of a key."""
        return zlib.crc32(key) % self._options.partitions

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        if len(messages) > MAX_PUBLISH:
            raise ValueError(f"at most {MAX_PUBLISH} messages a call")
        await self._publish([(message, "") for message in messages])

    async def _publish(self, messages: Sequence[tuple[Outgoing, str]]) -> None:
        """Publish messages, each for one group or, with an empty name, for all."""
        streams: dict[tuple[str, int], list[int]] = {}
        for position, (message, _) in enumerate(messages):
            streams.setdefault((message.topic, self.partition(message.key)), []).append(position)
        commands: list[Command] = []
        for (topic, partition), positions in streams.items():
            command: list[str | bytes | int | float] = ["EVAL", _PUBLISH, 1, stream_key(topic, partition)]
            command.append(self._options.max_backlog)
            for position in positions:
                message, group = messages[position]
                command += [message.key, message.type, message.event_id, message.payload, message.traceparent or ""]
                command.append(group)
            commands.append(command)
        answers = await self._server.calls(commands)
        refused: set[int] = set()
        for ((topic, partition), positions), answer in zip(streams.items(), answers, strict=True):
            if answer == 1:
                self._metrics.sent.labels(topic).inc(len(positions))
                continue
            if isinstance(answer, Exception):
                _log.error("a stream refuses messages", topic=topic, partition=partition, error=str(answer))
            self._metrics.refused.labels(topic).inc(len(positions))
            refused.update(positions)
        if refused:
            topics = sorted({messages[position][0].topic for position in refused})
            raise PublishRefused(f"no room on the bus for topic {', '.join(topics)}", frozenset(refused))

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
        return RedisSubscription(
            server=self._server,
            reader=Server(
                self._url, connections=1, deadline=self._options.block + self._options.deadline, outage=self._outage
            ),
            outage=self._outage,
            group=check_name("group", group),
            topics=tuple(dict.fromkeys(check_name("topic", topic) for topic in topics)),
            handler=handler,
            batch_handler=batch_handler,
            bus_options=self._options,
            options=options or SubscriptionOptions(),
            metrics=self._metrics,
        )

    async def dead_letters(
        self, topic: str, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> DeadLetterPage:
        check_name("topic", topic)
        check_name("group", group)
        if not 1 <= limit <= _PAGE:
            raise ValueError(f"limit must be 1 to {_PAGE}")
        start = "-" if cursor is None else f"({_stream_id(cursor)}"
        rows = await self._server.call("XRANGE", dead_key(topic, group), start, "+", "COUNT", limit + 1)
        items = tuple(_dead_letter(topic, entry_id, entry_fields(flat)) for entry_id, flat in rows[:limit])
        return DeadLetterPage(items, items[-1].id if len(rows) > limit else None)

    async def replay(self, topic: str, group: str, *, ids: Sequence[str] | None = None, limit: int = _PAGE) -> int:
        check_name("topic", topic)
        check_name("group", group)
        if not 1 <= limit <= _PAGE:
            raise ValueError(f"limit must be 1 to {_PAGE}")
        key = dead_key(topic, group)
        rows: list[Any] = []
        if ids is None:
            rows = await self._server.call("XRANGE", key, "-", "+", "COUNT", limit)
        else:
            wanted = [_stream_id(one) for one in ids][:limit]
            for answer in await self._server.calls([("XRANGE", key, one, one) for one in wanted]):
                if isinstance(answer, Exception):
                    raise Unavailable("the bus cannot read dead letters") from answer
                rows += answer
        letters = [_dead_letter(topic, entry_id, entry_fields(flat)) for entry_id, flat in rows]
        put_back = 0
        for start in range(0, len(letters), 100):
            part = letters[start : start + 100]
            taken = part
            refusal: PublishRefused | None = None
            try:
                await self._publish([(_outgoing(letter.message), group) for letter in part])
            except PublishRefused as error:
                refusal = error
                taken = [letter for position, letter in enumerate(part) if position not in error.refused]
            if taken:  # after, not before: a crash between the two repeats a message and loses none
                await self._server.call("XDEL", key, *(letter.id for letter in taken))
            put_back += len(taken)
            if refusal is not None:
                raise refusal
        return put_back

    async def incarnation(self) -> Incarnation:
        answers = await self._server.calls(
            [
                ("SET", INCARNATION_KEY, secrets.token_hex(16), "NX"),
                ("GET", INCARNATION_KEY),
                ("INFO", "server"),
            ]
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise Unavailable("the bus does not tell its incarnation") from answer
        process = ""
        for line in bytes(answers[2]).decode().splitlines():
            if line.startswith("run_id:"):
                process = line.removeprefix("run_id:")
        return Incarnation(data=bytes(answers[1]).decode(), process=process)

    async def backlog(self) -> Backlog:
        streams = sorted([stream async for stream in self._streams()])
        commands: list[Command] = []
        for stream, _, _ in streams:
            commands += [("XREVRANGE", stream, "+", "-", "COUNT", 1), ("XINFO", "GROUPS", stream)]
        answers = await self._server.calls(commands)
        newest: list[tuple[str, int, str]] = []
        unhandled: list[Unhandled] = []
        for (_, topic, partition), entries, groups in zip(streams, answers[::2], answers[1::2], strict=True):
            for answer in (entries, groups):
                if isinstance(answer, Exception):
                    raise Unavailable("the bus does not tell what is on it") from answer
            last = entries[0][0] if entries else b"0-0"
            newest.append((topic, partition, last.decode()))
            for flat in groups:
                group = dict(zip(flat[::2], flat[1::2], strict=True))
                if group[b"pending"] or _order(group[b"last-delivered-id"]) < _order(last):
                    unhandled.append(Unhandled(topic, partition, group[b"name"].decode()))
        return Backlog(tuple(newest), tuple(unhandled))

    async def _streams(self) -> AsyncIterator[tuple[str, str, int]]:
        """Key, topic and partition of each stream of events."""
        cursor = b"0"
        while True:
            cursor, keys = await self._server.call("SCAN", cursor, "MATCH", "bus:{*:*}", "COUNT", 1_000)
            for key in keys:
                topic, _, partition = key.decode()[len("bus:{") : -1].rpartition(":")
                if partition.isdigit():
                    yield key.decode(), topic, int(partition)
            if cursor == b"0":
                return

    async def close(self) -> None:
        await self._server.close()


def _order(entry_id: bytes) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)


def _stream_id(text: str) -> str:
    parts = text.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        raise ValueError(f"{text[:80]!r} is not the id of a dead letter")
    return text


def _dead_letter(topic: str, entry_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    complete = {b"k": b"", b"t": b"", b"p": b"", b"e": b"", b"c": b"", **fields}
    message = to_message(topic, fields.get(b"i", entry_id), complete, int(fields.get(b"n", b"1")))
    return DeadLetter(
        id=entry_id.decode(),
        message=message,
        error=fields.get(b"x", b"").decode(errors="replace"),
        failed_ms=int(entry_id.split(b"-")[0]),
    )


def _outgoing(message: Message) -> Outgoing:
    return Outgoing(
        topic=message.topic,
        key=message.key,
        type=message.type or "unknown",
        payload=message.payload,
        event_id=message.event_id or message.id,
        traceparent=message.traceparent,
    )
