"""The bus on a real Valkey: order, retries, dead letters, and what happens when a consumer or the server dies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from mesh.bus.base import Bus, Message, Outgoing, PublishRefused, SubscriptionOptions
from mesh.bus.redis_server import RedisStreamsOptions, stream_key
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.errors import Unavailable

from .conftest import Valkey
from .suites.bus import BusSuite, Recorder, consuming, dead_count, event, eventually

FAST = RedisStreamsOptions(lease=0.6, block=0.2, deadline=1.0, trim_age=0.001, reconnect_cap=0.1)


@pytest.fixture
def url(valkey_socket: str) -> str:
    return f"unix://{valkey_socket}?db=0"


class TestBusOnRedisStreams(BusSuite):
    """All of the suite."""

    maker = "tests.stores.test_bus:TestBusOnRedisStreams"
    prompt_s = 0.02  # 0.4 ms alone on a machine
    counts_each = True

    @staticmethod
    def make(url: str, registry: CollectorRegistry | None = None) -> Bus:
        """See BusSuite."""
        return RedisStreamsBus(url, options=FAST, registry=registry)


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def bus(valkey_socket: str) -> AsyncIterator[RedisStreamsBus]:
    one = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=FAST)
    yield one
    await one.close()


@pytest.fixture
async def raw(valkey_socket: str) -> AsyncIterator[redis.Redis]:
    client = redis.Redis.from_url(f"unix://{valkey_socket}?db=0", protocol=2)
    yield client
    await client.aclose()


async def test_a_full_stream_refuses_until_its_slowest_group_has_read_it(
    valkey_socket: str, topic: str, raw: redis.Redis
) -> None:
    options = RedisStreamsOptions(partitions=1, max_backlog=10, lease=0.3, block=0.1, trim_age=0.001)
    bus = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=options)
    await raw.xgroup_create(stream_key(topic, 0), "slow", "0", mkstream=True)
    fast, slow = Recorder(), Recorder()
    async with consuming(bus.subscribe("fast", [topic], fast)):
        await bus.publish([event(topic, "k", n) for n in range(10)])
        await fast.until_count(10)
        await asyncio.sleep(0.3)  # three rounds of trimming: nothing tells that something was not removed
        with pytest.raises(PublishRefused) as refusal:
            await bus.publish([event(topic, "k", 10)])
        assert refusal.value.refused == {0}
        async with consuming(bus.subscribe("slow", [topic], slow)):
            await slow.until_count(10)

            async def published() -> bool:
                try:
                    await bus.publish([event(topic, "k", 10)])
                except PublishRefused:
                    return False
                return True

            await eventually(published)
            await slow.until_count(11)
    await bus.close()


async def test_a_stream_that_nobody_reads_is_cut_instead(valkey_socket: str, topic: str, raw: redis.Redis) -> None:
    options = RedisStreamsOptions(partitions=1, max_backlog=10)
    bus = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=options)
    for n in range(25):
        await bus.publish([event(topic, "k", n)])
    assert await raw.xlen(stream_key(topic, 0)) == 10
    await bus.close()


async def test_what_every_group_acknowledged_is_trimmed(bus: RedisStreamsBus, topic: str, raw: redis.Redis) -> None:
    got = Recorder()
    async with consuming(bus.subscribe("g", [topic], got)):
        await bus.publish([event(topic, f"k{n}", n) for n in range(100)])
        await got.until_count(100)

        async def empty() -> bool:
            return sum([await raw.xlen(stream_key(topic, p)) for p in range(4)]) == 0

        await eventually(empty)


async def test_a_message_that_kills_its_consumers_is_given_up(
    bus: RedisStreamsBus, topic: str, raw: redis.Redis
) -> None:
    await bus.publish([event(topic, "k", 0)])
    stream = stream_key(topic, bus.partition(b"k"))
    await raw.xgroup_create(stream, "g", "0")
    await raw.xreadgroup("g", "dead", {stream: ">"})
    (entry,) = await raw.xpending_range(stream, "g", "-", "+", 1)
    await raw.xclaim(stream, "g", "dead", 0, [entry["message_id"]], retrycount=20)
    got = Recorder()
    async with consuming(bus.subscribe("g", [topic], got)):
        await eventually(lambda: dead_count(bus, topic, 1))
    assert got.messages == []


@pytest.mark.parametrize("durable", [True, False], ids=["keeps-all", "keeps-nothing"])
async def test_the_server_dies_and_returns_and_nothing_is_restarted(
    start_valkey: Callable[[bool], Valkey], topic: str, durable: bool
) -> None:
    server = start_valkey(durable)
    bus = RedisStreamsBus(server.url, options=FAST)
    got = Recorder()
    subscription = bus.subscribe("g", [topic], got)
    async with consuming(subscription):
        await bus.publish([event(topic, "k", n) for n in range(5)])
        await got.until_count(5)
        before = await bus.incarnation()
        server.kill()
        with pytest.raises(Unavailable):
            await bus.publish([event(topic, "k", 5)])
        server.start()

        async def published() -> bool:
            try:
                await bus.publish([event(topic, "k", 6)])
            except Unavailable:
                return False
            return True

        await eventually(published)
        await got.until(lambda: "k-6" in got.event_ids)
        after = await bus.incarnation()
        assert after.process != before.process
        assert (after.data == before.data) is durable
    await bus.close()


async def test_unhandled_messages_survive_the_servers_death(start_valkey: Callable[[bool], Valkey], topic: str) -> None:
    server = start_valkey(True)
    bus = RedisStreamsBus(server.url, options=FAST)
    got = Recorder()
    await bus.publish([event(topic, f"k{n % 7}", n) for n in range(200)])

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.001)
        got.add(message)

    async with consuming(bus.subscribe("g", [topic], handle)):
        await got.until_count(20)
        server.kill()
        server.start()
        await got.until(lambda: len(set(got.event_ids)) == 200)
    await bus.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Outgoing("Bad Topic", b"", "t", b"", "e"),
        lambda: Outgoing("t", b"k" * 2000, "t", b"", "e"),
        lambda: Outgoing("t", b"k", "t", b"x" * (1 << 20 | 1), "e"),
        lambda: Outgoing("t", b"k", "", b"", "e"),
        lambda: SubscriptionOptions(concurrency=0),
        lambda: RedisStreamsOptions(lease=-1),
    ],
)
def test_bad_arguments_are_clear_errors(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"topic|at most|empty|positive"):
        make()
