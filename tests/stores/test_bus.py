"""The bus on a real Valkey: order, retries, dead letters, and what happens when a consumer or the server dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from mesh.bus.base import Message, MessageHandler, Outgoing, PublishRefused, Subscription, SubscriptionOptions
from mesh.bus.redis_server import RedisStreamsOptions, stream_key
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.errors import Unavailable

from .conftest import Valkey

ROOT = Path(__file__).parents[2]
FAST = RedisStreamsOptions(lease=0.6, block=0.2, deadline=1.0, trim_age=0.001, reconnect_cap=0.1)
EAGER = SubscriptionOptions(backoff=0.001, backoff_cap=0.01, max_attempts=3)


def event(topic: str, key: str, number: int, payload: bytes = b"") -> Outgoing:
    return Outgoing(topic, key.encode(), "test.Event", payload or str(number).encode(), f"{key}-{number}")


class Recorder:
    """A handler that keeps what it got, and tells when it has got enough."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.add(message)

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self._changed.set()

    @property
    def event_ids(self) -> list[str]:
        return [message.event_id for message in self.messages]

    async def until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def until_count(self, count: int, seconds: float = 10.0) -> None:
        await self.until(lambda: len(self.messages) >= count, seconds)


async def eventually(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Poll a condition of the server, which has no event for it; the first true answer."""
    async with asyncio.timeout(seconds):
        while True:
            answer = check()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.01)


@asynccontextmanager
async def consuming(*subscriptions: Subscription) -> AsyncIterator[None]:
    for subscription in subscriptions:
        await subscription.start()
    try:
        yield
    finally:
        for subscription in subscriptions:
            await subscription.stop(grace=1.0)


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


async def test_a_message_arrives_whole_and_at_every_group(bus: RedisStreamsBus, topic: str) -> None:
    one, two = Recorder(), Recorder()
    sent = Outgoing(topic, b"\x00\xff", "test.Event", b"\x00bytes\xff", "id-1", "00-aa-bb-01")
    async with consuming(bus.subscribe("one", [topic], one), bus.subscribe("two", [topic], two)):
        await bus.publish([sent])
        await one.until_count(1)
        await two.until_count(1)
    got = one.messages[0]
    assert (got.topic, got.key, got.type, got.payload, got.event_id, got.traceparent, got.attempt) == (
        *(topic, b"\x00\xff", "test.Event", b"\x00bytes\xff", "id-1", "00-aa-bb-01", 1),
    )


async def test_what_was_published_before_the_group_existed_is_delivered(bus: RedisStreamsBus, topic: str) -> None:
    await bus.publish([event(topic, "k", n) for n in range(10)])
    got = Recorder()
    async with consuming(bus.subscribe("late", [topic], got)):
        await got.until_count(10)
    assert got.event_ids == [f"k-{n}" for n in range(10)]


async def test_an_idle_handler_gets_a_message_at_once(bus: RedisStreamsBus, topic: str) -> None:
    delays: list[float] = []
    got = Recorder()

    async def handle(message: Message) -> None:
        delays.append(time.perf_counter() - float(message.payload))
        got.add(message)

    async with consuming(bus.subscribe("g", [topic], handle)):
        for n in range(30):
            await bus.publish([event(topic, f"k{n}", n, repr(time.perf_counter()).encode())])
            await got.until_count(n + 1)
    assert sorted(delays)[len(delays) // 2] < 0.02  # 0.4 ms alone on a machine; the bound is for shared ones


async def test_keys_stay_in_order_with_three_consumers_and_random_failures(valkey_socket: str, topic: str) -> None:
    chance = random.Random(7)
    got = Recorder()
    owners: dict[bytes, set[int]] = {}
    running: set[bytes] = set()
    overlaps: list[bytes] = []

    def handler(consumer: int) -> MessageHandler:
        async def handle(message: Message) -> None:
            if message.key in running:
                overlaps.append(message.key)
            running.add(message.key)
            try:
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
                if chance.random() < 0.1:
                    raise RuntimeError("chance")
                owners.setdefault(message.key, set()).add(consumer)
                got.add(message)
            finally:
                running.discard(message.key)

        return handle

    buses = [RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=FAST) for _ in range(3)]
    options = SubscriptionOptions(backoff=0.001, backoff_cap=0.01, max_attempts=50)
    subscriptions = [one.subscribe("g", [topic], handler(number), options=options) for number, one in enumerate(buses)]
    keys = [f"key{n}" for n in range(23)]
    async with consuming(*subscriptions):
        await eventually(lambda: sorted(len(one.assigned) for one in subscriptions) == [1, 1, 2])
        for batch in range(10):
            await buses[0].publish([event(topic, key, batch * 5 + n) for n in range(5) for key in keys])
        await got.until_count(len(keys) * 50)
    assert overlaps == []
    for key in keys:
        numbers = [int(message.payload) for message in got.messages if message.key == key.encode()]
        assert numbers == list(range(50)), key
    assert len(set().union(*owners.values())) == 3, "the work was shared"
    for one in buses:
        await one.close()


async def test_partitions_move_in_order_when_members_come_and_go(bus: RedisStreamsBus, topic: str) -> None:
    got = Recorder()
    first, second = (bus.subscribe("g", [topic], got) for _ in range(2))
    sending = True

    async def send() -> int:
        number = 0
        while sending:
            await bus.publish([event(topic, f"k{k}", number) for k in range(8)])
            number += 1
            await asyncio.sleep(0.002)
        return number

    await first.start()
    sender = asyncio.create_task(send())
    await eventually(lambda: len(first.assigned) == 4)
    await second.start()
    await eventually(lambda: len(first.assigned) == len(second.assigned) == 2)
    await first.stop()
    await eventually(lambda: len(second.assigned) == 4)
    sending = False
    count = await sender
    await got.until(lambda: len(set(got.event_ids)) == 8 * count)
    await second.stop()
    for k in range(8):
        numbers = [int(m.payload) for m in got.messages if m.key == f"k{k}".encode()]
        assert numbers == list(range(count))  # a hand-over repeats nothing and reorders nothing


CHILD = """
import asyncio, sys
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.bus.redis_server import RedisStreamsOptions

async def main():
    bus = RedisStreamsBus(sys.argv[1], options=RedisStreamsOptions(lease=0.6, block=0.2))
    async def handle(message):
        if message.payload == b"stuck":
            print("stuck", flush=True)
            await asyncio.sleep(60)
    await bus.subscribe("g", [sys.argv[2]], handle).start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_consumers_messages_are_handled_by_another(
    bus: RedisStreamsBus, topic: str, valkey_socket: str
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, f"unix://{valkey_socket}?db=0", topic),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await bus.publish([event(topic, "k", n, b"stuck") for n in range(5)])
        assert child.stdout is not None
        while (await asyncio.wait_for(child.stdout.readline(), 10)).strip() != b"stuck":
            pass
    finally:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    got = Recorder()
    async with consuming(bus.subscribe("g", [topic], got)):
        await bus.publish([event(topic, "k", 5)])
        await got.until_count(6)
    assert got.event_ids == [f"k-{n}" for n in range(6)]
    assert [message.attempt for message in got.messages] == [2, 2, 2, 2, 2, 1]


async def test_a_poison_message_becomes_a_dead_letter_while_others_go_on(bus: RedisStreamsBus, topic: str) -> None:
    got = Recorder()
    attempts: list[int] = []

    async def handle(message: Message) -> None:
        if message.payload == b"poison":
            attempts.append(message.attempt)
            raise ValueError("cannot read this")
        got.add(message)

    async with consuming(bus.subscribe("g", [topic], handle, options=EAGER)):
        await bus.publish(
            [
                event(topic, "bad", 0, b"poison"),
                event(topic, "bad", 1),
                *(event(topic, f"k{n}", n) for n in range(20)),
            ]
        )
        await got.until_count(21)
    assert attempts == [1, 2, 3]
    assert got.event_ids[-1] == "bad-1"  # after the poison before it was given up
    page = await bus.dead_letters(topic, "g")
    assert [letter.message.event_id for letter in page.items] == ["bad-0"]
    assert page.items[0].error == "ValueError: cannot read this"
    assert page.items[0].message.attempt == 3
    assert page.next_cursor is None
    assert (await bus.dead_letters(topic, "other")).items == ()


async def test_an_unavailable_dependency_is_no_reason_to_give_up(bus: RedisStreamsBus, topic: str) -> None:
    got = Recorder()
    tries = 0

    async def handle(message: Message) -> None:
        nonlocal tries
        tries += 1
        if tries <= 20:
            raise Unavailable("the store is gone")
        got.add(message)

    async with consuming(bus.subscribe("g", [topic], handle, options=EAGER)):
        await bus.publish([event(topic, "k", 0)])
        await got.until_count(1)
    assert got.messages[0].attempt == 1
    assert (await bus.dead_letters(topic, "g")).items == ()


async def test_a_handler_that_hangs_is_a_failure(bus: RedisStreamsBus, topic: str) -> None:
    async def handle(message: Message) -> None:
        await asyncio.get_running_loop().create_future()

    options = SubscriptionOptions(backoff=0.001, backoff_cap=0.01, max_attempts=2, handler_timeout=0.02)
    async with consuming(bus.subscribe("g", [topic], handle, options=options)):
        await bus.publish([event(topic, "k", 0)])
        await eventually(lambda: dead_count(bus, topic, 1))


async def dead_count(bus: RedisStreamsBus, topic: str, count: int) -> bool:
    return len((await bus.dead_letters(topic, "g")).items) == count


async def test_a_failing_batch_falls_back_to_one_at_a_time(bus: RedisStreamsBus, topic: str) -> None:
    got = Recorder()
    sizes: list[int] = []

    async def handle(batch: Sequence[Message]) -> None:
        sizes.append(len(batch))
        if any(message.payload == b"poison" for message in batch):
            raise ValueError("poison")
        for message in batch:
            got.add(message)

    events = [event(topic, "same", n) for n in range(30)]
    events[11] = event(topic, "same", 11, b"poison")
    await bus.publish(events)
    async with consuming(bus.subscribe_batch("g", [topic], handle, options=EAGER)):
        await got.until_count(29)
        await bus.publish([event(topic, "same", n) for n in range(30, 40)])
        await got.until_count(39)
    assert got.event_ids == [f"same-{n}" for n in range(40) if n != 11]
    assert sizes[0] == 30
    assert max(sizes[-3:]) > 1, "batches again after the fall-back"
    assert [letter.message.event_id for letter in (await bus.dead_letters(topic, "g")).items] == ["same-11"]


async def test_dead_letters_come_in_pages_and_are_replayed_to_their_group_only(
    bus: RedisStreamsBus, topic: str
) -> None:
    broken = True
    healed, other = Recorder(), Recorder()

    async def handle(message: Message) -> None:
        if broken:
            raise ValueError("a defect")
        healed.add(message)

    options = SubscriptionOptions(max_attempts=1)
    async with consuming(bus.subscribe("g", [topic], handle, options=options), bus.subscribe("h", [topic], other)):
        await bus.publish([event(topic, "k", n) for n in range(5)])
        await other.until_count(5)
        await eventually(lambda: dead_count(bus, topic, 5))
        pages = [await bus.dead_letters(topic, "g", limit=2)]
        while (cursor := pages[-1].next_cursor) is not None:
            pages.append(await bus.dead_letters(topic, "g", cursor=cursor, limit=2))
        assert [len(page.items) for page in pages] == [2, 2, 1]
        broken = False
        assert await bus.replay(topic, "g", ids=[pages[0].items[1].id]) == 1
        await healed.until_count(1)
        assert healed.event_ids == ["k-1"]
        assert await bus.replay(topic, "g") == 4
        await healed.until_count(5)
        await bus.publish([event(topic, "k", 5)])
        await other.until_count(6)
    assert healed.event_ids == ["k-1", "k-0", "k-2", "k-3", "k-4", "k-5"]
    assert other.event_ids == [f"k-{n}" for n in range(6)]
    assert (await bus.dead_letters(topic, "g")).items == ()


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


async def test_stopping_lets_the_running_handler_end_and_gives_the_rest_back(
    bus: RedisStreamsBus, topic: str, raw: redis.Redis
) -> None:
    started, release = asyncio.Event(), asyncio.Event()
    first, second = Recorder(), Recorder()

    async def handle(message: Message) -> None:
        started.set()
        await release.wait()
        first.add(message)

    await bus.publish([event(topic, "k", n) for n in range(5)])
    subscription = bus.subscribe("g", [topic], handle)
    await subscription.start()
    await started.wait()
    stopping = asyncio.create_task(subscription.stop(grace=5.0))
    await asyncio.sleep(0)
    release.set()
    await stopping
    assert first.event_ids == ["k-0"]
    async with consuming(bus.subscribe("g", [topic], second)):
        await second.until_count(4)
    assert second.event_ids == [f"k-{n}" for n in range(1, 5)]
    assert {message.attempt for message in second.messages} == {1}


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


async def test_metrics_tell_what_happened(valkey_socket: str, topic: str) -> None:
    registry = CollectorRegistry()
    bus = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=FAST, registry=registry)
    got = Recorder()

    async def handle(message: Message) -> None:
        if message.payload == b"poison":
            raise ValueError("poison")
        got.add(message)

    labels = {"messaging_destination_name": topic, "messaging_consumer_group_name": "g"}
    async with consuming(bus.subscribe("g", [topic], handle, options=EAGER)):
        await bus.publish([event(topic, "k", n) for n in range(3)] + [event(topic, "bad", 0, b"poison")])
        await got.until_count(3)
        await eventually(lambda: registry.get_sample_value("messaging_process_dead_letters_total", labels) == 1)
        await eventually(lambda: registry.get_sample_value("messaging_consumer_lag_messages", labels) == 0)
    assert registry.get_sample_value("messaging_process_messages_total", labels) == 3
    failures = {**labels, "error_type": "ValueError"}
    assert registry.get_sample_value("messaging_process_failures_total", failures) == 3
    assert registry.get_sample_value("messaging_client_consumed_messages_total", labels) == 4
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


async def test_bad_calls_are_clear_errors(bus: RedisStreamsBus) -> None:
    async def handle(message: Message) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="group"):
        bus.subscribe("{bad}", ["t"], handle)
    with pytest.raises(ValueError, match="topic"):
        bus.subscribe("g", [], handle)
    with pytest.raises(ValueError, match="limit"):
        await bus.dead_letters("t", "g", limit=0)
    with pytest.raises(ValueError, match="not the id"):
        await bus.dead_letters("t", "g", cursor="+")
    with pytest.raises(ValueError, match="at most"):
        await bus.publish([event("t", "k", 0)] * 1001)
