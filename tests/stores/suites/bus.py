"""What every bus does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from mesh.bus.base import Bus, Message, MessageHandler, Outgoing, Subscription, SubscriptionOptions, Unhandled
from mesh.errors import Unavailable

ROOT = Path(__file__).parents[3]
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


async def dead_count(bus: Bus, topic: str, count: int) -> bool:
    return len((await bus.dead_letters(topic, "g")).items) == count


CHILD = """
import asyncio, importlib, os, sys

async def main():
    module, _, name = sys.argv[1].partition(":")
    bus = getattr(importlib.import_module(module), name).make(sys.argv[2])
    async def handle(message):
        if message.payload == b"stuck":
            print("stuck", flush=True)
            await asyncio.sleep(60)
        if message.payload == b"killer":
            os._exit(9)
    await bus.subscribe("g", [sys.argv[3]], handle).start()
    await asyncio.sleep(60)

asyncio.run(main())
"""
"""Reads topic `argv[3]` by the bus that the suite `argv[1]` makes of the URL `argv[2]`."""


class BusSuite(ABC):
    """Tests of a bus; a module that uses it has a fixture `url`, of a server for these tests."""

    maker: ClassVar[str]
    """`module:class` of the suite that is run, for processes of its own."""
    prompt_s: ClassVar[float]
    """How soon half of all messages are with a handler that waits, on a machine that is shared, seconds."""
    counts_each: ClassVar[bool]
    """Whether deliveries are counted for each message exactly; else for the first in a dead one's hands."""

    @staticmethod
    @abstractmethod
    def make(url: str, registry: CollectorRegistry | None = None) -> Bus:
        """A bus with short times."""

    @pytest.fixture
    def topic(self) -> str:
        """A topic that nobody else has."""
        return f"t{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    async def bus(self, url: str) -> AsyncIterator[Bus]:
        """A bus, closed at the end."""
        one = self.make(url)
        yield one
        await one.close()

    async def test_a_message_arrives_whole_and_at_every_group(self, bus: Bus, topic: str) -> None:
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

    async def test_what_was_published_before_the_group_existed_is_delivered(self, bus: Bus, topic: str) -> None:
        await bus.publish([event(topic, "k", n) for n in range(10)])
        got = Recorder()
        async with consuming(bus.subscribe("late", [topic], got)):
            await got.until_count(10)
        assert got.event_ids == [f"k-{n}" for n in range(10)]

    async def test_an_idle_handler_gets_a_message_at_once(self, bus: Bus, topic: str) -> None:
        delays: list[float] = []
        got = Recorder()

        async def handle(message: Message) -> None:
            delays.append(time.perf_counter() - float(message.payload))
            got.add(message)

        async with consuming(bus.subscribe("g", [topic], handle)):
            for n in range(30):
                await bus.publish([event(topic, f"k{n}", n, repr(time.perf_counter()).encode())])
                await got.until_count(n + 1)
        assert sorted(delays)[len(delays) // 2] < self.prompt_s

    async def test_keys_stay_in_order_with_three_consumers_and_random_failures(self, url: str, topic: str) -> None:
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

        buses = [self.make(url) for _ in range(3)]
        options = SubscriptionOptions(backoff=0.001, backoff_cap=0.01, max_attempts=50)
        subscriptions = [
            one.subscribe("g", [topic], handler(number), options=options) for number, one in enumerate(buses)
        ]
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

    async def test_partitions_move_in_order_when_members_come_and_go(self, bus: Bus, topic: str) -> None:
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

    async def test_a_killed_consumers_messages_are_handled_by_another(self, bus: Bus, topic: str, url: str) -> None:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, self.maker, url, topic),
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
        attempts = [message.attempt for message in got.messages]
        assert (attempts[0], attempts[-1]) == (2, 1)
        if self.counts_each:
            assert attempts == [2, 2, 2, 2, 2, 1]

    async def test_a_poison_message_becomes_a_dead_letter_while_others_go_on(self, bus: Bus, topic: str) -> None:
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

    async def test_an_unavailable_dependency_is_no_reason_to_give_up(self, bus: Bus, topic: str) -> None:
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

    async def test_a_handler_that_hangs_is_a_failure(self, bus: Bus, topic: str) -> None:
        async def handle(message: Message) -> None:
            await asyncio.get_running_loop().create_future()

        options = SubscriptionOptions(backoff=0.001, backoff_cap=0.01, max_attempts=2, handler_timeout=0.02)
        async with consuming(bus.subscribe("g", [topic], handle, options=options)):
            await bus.publish([event(topic, "k", 0)])
            await eventually(lambda: dead_count(bus, topic, 1))

    async def test_a_failing_batch_falls_back_to_one_at_a_time(self, bus: Bus, topic: str) -> None:
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

    async def test_dead_letters_come_in_pages_and_are_replayed_to_their_group_only(self, bus: Bus, topic: str) -> None:
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

    async def test_stopping_lets_the_running_handler_end_and_gives_the_rest_back(self, bus: Bus, topic: str) -> None:
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

    async def test_metrics_tell_what_happened(self, url: str, topic: str) -> None:
        registry = CollectorRegistry()
        bus = self.make(url, registry)
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

    async def test_bad_calls_are_clear_errors(self, bus: Bus) -> None:
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

    async def test_the_backlog_is_what_no_group_has_handled(self, bus: Bus, topic: str) -> None:
        async def unhandled() -> list[Unhandled]:
            return [one for one in (await bus.backlog()).unhandled if one.topic == topic]

        async def newest() -> list[tuple[str, int, str]]:
            return [one for one in (await bus.backlog()).newest if one[0] == topic]

        release = asyncio.Event()

        async def handle(message: Message) -> None:
            await release.wait()

        async with consuming(bus.subscribe("g", [topic], handle)):
            await bus.publish([event(topic, "k", 0)])
            await eventually(unhandled)
            (one,) = await unhandled()
            assert one.group == "g"
            before = await newest()
            release.set()

            async def nothing() -> bool:
                return not await unhandled()

            await eventually(nothing)
            assert await newest() == before
            await bus.publish([event(topic, "k", 1)])
            assert await newest() != before
