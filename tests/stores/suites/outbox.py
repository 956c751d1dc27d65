"""What the outbox does between any database and a real Valkey: crashes, outages, and a bus that comes back empty."""

from __future__ import annotations

import asyncio
import functools
import importlib
import operator
import signal
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
import redis.asyncio as redis

from mesh.bus.base import Bus, Message
from mesh.bus.redis_server import RedisStreamsOptions, stream_key
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.outbox.relay import Outbox, OutboxOptions
from tests.stores.conftest import Valkey

ROOT = Path(__file__).parents[3]
QUICK = OutboxOptions(sweep=0.1, lease=1.5, backoff_cap=0.1)
BUS = RedisStreamsOptions(lease=0.6, block=0.2, deadline=1.0, reconnect_cap=0.1)


class OutboxDb(Protocol):
    """An open database with an outbox and things; several may be open on one."""

    def outbox(
        self,
        bus: Bus,
        source: str = "test",
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Outbox:
        """Its outbox, not started; the arguments are Outbox's."""
        ...

    async def make(
        self, outbox: Outbox, topic: str, number: int, *, payload: bytes | None = None, gives_up: bool = False
    ) -> str:
        """Commits a thing and its event, with key "k" and the number for a payload; gives the event's id.

        Raises LookupError instead of committing when it is to give up.
        """
        ...

    async def waiting(self, topic: str | None = None) -> int:
        """How many events wait, of one topic or of all."""
        ...

    async def kept(self) -> list[int]:
        """The numbers of all events that are kept, published or not, in the order of their commits."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


@asynccontextmanager
async def running(*outboxes: Outbox) -> AsyncIterator[None]:
    for outbox in outboxes:
        await outbox.start()
    try:
        yield
    finally:
        for outbox in outboxes:
            await outbox.stop(grace=2.0)


@asynccontextmanager
async def listening(bus: RedisStreamsBus, topic: str) -> AsyncIterator[list[int]]:
    got: list[int] = []

    async def handle(message: Message) -> None:
        got.append(int(message.payload))

    subscription = bus.subscribe("g", [topic], handle)
    await subscription.start()
    try:
        yield got
    finally:
        await subscription.stop(grace=1.0)


async def eventually(check: Callable[[], Any], seconds: float = 10.0) -> None:
    """Poll a condition that has no event."""
    async with asyncio.timeout(seconds):
        while True:
            answer = check()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.005)


async def nothing_waits(db: OutboxDb) -> bool:
    return await db.waiting() == 0


CHILD = """
import asyncio, importlib, os, signal, sys
from mesh.bus.redis_streams import RedisStreamsBus

class DiesInstead(RedisStreamsBus):
    async def publish(self, messages):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    module, name = sys.argv[4].split(":")
    db = await getattr(importlib.import_module(module), name)(sys.argv[1])
    outbox = db.outbox(DiesInstead(sys.argv[2]))
    await outbox.start()
    await db.make(outbox, sys.argv[3], 7)
    await asyncio.sleep(30)

asyncio.run(main())
"""


class OutboxSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[str]:
        """The URL of a new database with the outbox's tables, and `things(id)`."""

    opener: str
    """MODULE:FUNCTION, an async function that gives the OutboxDb of a URL; the suite calls it in processes too."""

    async def open(self, url: str) -> OutboxDb:
        """Opens the database."""
        module, name = self.opener.split(":")
        return cast("OutboxDb", await getattr(importlib.import_module(module), name)(url))

    @pytest.fixture
    async def url(self, tmp_path: Path) -> AsyncIterator[str]:
        """A new database."""
        async with self.opened(tmp_path) as url:
            yield url

    @pytest.fixture
    async def db(self, url: str) -> AsyncIterator[OutboxDb]:
        """The new database, opened."""
        database = await self.open(url)
        yield database
        await database.close()

    @pytest.fixture
    async def bus(self, valkey_socket: str) -> AsyncIterator[RedisStreamsBus]:
        """A bus."""
        one = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=BUS)
        yield one
        await one.close()

    @pytest.fixture
    def topic(self) -> str:
        """A topic of the test's own."""
        return f"t{uuid.uuid4().hex[:8]}"

    async def test_events_are_published_in_the_order_of_their_commits(
        self, db: OutboxDb, bus: RedisStreamsBus, topic: str
    ) -> None:
        outbox = db.outbox(bus, options=QUICK)
        async with listening(bus, topic) as got, running(outbox):
            for start in range(0, 600, 60):
                await asyncio.gather(*(db.make(outbox, topic, start + n) for n in range(60)))
            await eventually(lambda: len(got) == 600)
        assert got == await db.kept()

    async def test_a_commit_wakes_the_relay(self, db: OutboxDb, bus: RedisStreamsBus, topic: str) -> None:
        outbox = db.outbox(bus, options=OutboxOptions(sweep=60.0))
        async with listening(bus, topic) as got, running(outbox):
            for n in range(5):  # several, since the first could be found by the relay's first look
                await db.make(outbox, topic, n)
                await eventually(
                    functools.partial(operator.contains, got, n), seconds=5.0
                )  # the sweeper looks once a minute
                await eventually(lambda: nothing_waits(db))

    async def test_nothing_is_published_on_rollback(self, db: OutboxDb, bus: RedisStreamsBus, topic: str) -> None:
        outbox = db.outbox(bus, options=QUICK)

        async with listening(bus, topic) as got, running(outbox):
            with pytest.raises(LookupError):
                await db.make(outbox, topic, 1, gives_up=True)
            await db.make(outbox, topic, 2)
            await eventually(lambda: 2 in got)
        assert got == [2]

    async def test_an_event_that_the_bus_would_refuse_fails_its_unit(self, db: OutboxDb, bus: RedisStreamsBus) -> None:
        outbox = db.outbox(bus)
        with pytest.raises(ValueError, match="payload"):
            await db.make(outbox, "t", 1, payload=b"x" * (1 << 21))
        assert await nothing_waits(db)

    async def test_what_a_crash_left_between_commit_and_publish_is_swept(
        self, db: OutboxDb, bus: RedisStreamsBus, topic: str, valkey_socket: str, url: str
    ) -> None:
        child = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                CHILD,
                url,
                f"unix://{valkey_socket}?db=0",
                topic,
                self.opener,
            ),
            cwd=ROOT,
        )
        assert await asyncio.wait_for(child.wait(), 20) == -signal.SIGKILL
        assert await db.waiting() == 1
        # The dead process still has its lease (6 s); this clock is past it, so that the test need not wait.
        outbox = db.outbox(bus, options=QUICK, clock=lambda: time.time() + 7.0)
        async with listening(bus, topic) as got, running(outbox):
            await eventually(lambda: got == [7])

    async def test_the_bus_is_down_and_events_wait_for_it(
        self, db: OutboxDb, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(True)
        bus = RedisStreamsBus(server.url, options=BUS)
        outbox = db.outbox(bus, options=QUICK)
        async with listening(bus, topic) as got, running(outbox):
            await db.make(outbox, topic, 0)
            await eventually(lambda: got == [0])
            server.kill()
            for n in range(1, 20):
                await db.make(outbox, topic, n)  # accepted all the same
            await eventually(lambda: not outbox.healthy)
            server.start()
            await eventually(lambda: set(got) == set(range(20)))
            await eventually(lambda: outbox.healthy)
            firsts = list(dict.fromkeys(got))
            assert firsts == list(range(20))
        await bus.close()

    async def test_a_bus_that_lost_everything_gets_all_that_is_kept(
        self, db: OutboxDb, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(False)
        bus = RedisStreamsBus(server.url, options=BUS)
        # Rewinding by time is as good as off: only the incarnation tells.
        options = OutboxOptions(sweep=0.1, lease=1.5, backoff_cap=0.1, rewind=0.001)
        outbox = db.outbox(bus, options=options)
        async with running(outbox):
            for n in range(50):
                await db.make(outbox, topic, n)
            await eventually(lambda: nothing_waits(db))
            server.kill()  # nobody had read them
            server.start()
            async with listening(bus, topic) as got:
                await eventually(lambda: set(got) == set(range(50)))
                assert list(dict.fromkeys(got)) == list(range(50))
        await bus.close()

    async def test_a_bus_that_lost_everything_while_no_relay_ran(
        self, db: OutboxDb, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(False)
        bus = RedisStreamsBus(server.url, options=BUS)
        before = db.outbox(bus, options=QUICK)
        async with running(before):
            await db.make(before, topic, 1)
            await eventually(lambda: nothing_waits(db))
        server.kill()
        server.start()
        after = db.outbox(bus, options=QUICK)
        async with running(after), listening(bus, topic) as got:
            await eventually(lambda: got == [1])
        await bus.close()

    async def test_a_restarted_bus_gets_its_last_seconds_again(
        self, db: OutboxDb, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        """The server returns with its identity, but without its last writes (here: they are taken from it)."""
        server = start_valkey(True)
        bus = RedisStreamsBus(server.url, options=BUS)
        outbox = db.outbox(bus, options=QUICK)
        async with running(outbox):
            await db.make(outbox, topic, 1)
            await eventually(lambda: nothing_waits(db))
            client = redis.Redis.from_url(server.url, protocol=2)
            await client.delete(stream_key(topic, bus.partition(b"k")))
            await client.aclose()
            server.kill()
            server.start()
            async with listening(bus, topic) as got:
                await eventually(lambda: got == [1])
        await bus.close()

    async def test_a_topic_without_room_does_not_hold_up_the_others(
        self, db: OutboxDb, valkey_socket: str, topic: str
    ) -> None:
        options = RedisStreamsOptions(partitions=1, max_backlog=3, lease=0.6, block=0.2)
        bus = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=options)
        client = redis.Redis.from_url(f"unix://{valkey_socket}?db=0", protocol=2)
        await client.xgroup_create(stream_key(topic, 0), "nobody", "0", mkstream=True)
        outbox = db.outbox(bus, options=OutboxOptions(batch=3, sweep=0.1, lease=1.5, backoff_cap=0.05))
        async with listening(bus, f"{topic}-b") as got, running(outbox):
            for n in range(9):
                await db.make(outbox, topic, n)
            await db.make(outbox, f"{topic}-b", 100)
            await eventually(lambda: got == [100])

            async def marked() -> bool:  # a moment after they were published
                return await db.waiting(f"{topic}-b") == 0 and await db.waiting() == 6

            await eventually(marked)
            await client.xgroup_destroy(stream_key(topic, 0), "nobody")
            await eventually(lambda: nothing_waits(db))
        await client.aclose()
        await bus.close()

    async def test_two_replicas_publish_each_event_once_and_in_order(
        self, url: str, bus: RedisStreamsBus, topic: str
    ) -> None:
        databases = [await self.open(url) for _ in range(2)]
        outboxes = [one.outbox(bus, options=QUICK) for one in databases]
        try:
            async with listening(bus, topic) as got, running(*outboxes):
                for n in range(100):
                    await databases[n % 2].make(outboxes[n % 2], topic, n)
                await eventually(lambda: len(got) >= 100)
                assert got == list(range(100))
                assert [one._leads for one in outboxes].count(True) == 1
                # Its holder leaves; the other one takes over.
                leader = 0 if outboxes[0]._leads else 1
                await outboxes[leader].stop()
                await databases[leader].make(outboxes[leader], topic, 100)
                await eventually(lambda: got == list(range(101)))
        finally:
            for one in databases:
                await one.close()

    async def test_published_rows_are_deleted_after_a_while(
        self, db: OutboxDb, bus: RedisStreamsBus, topic: str
    ) -> None:
        outbox = db.outbox(bus, options=OutboxOptions(sweep=0.05, keep=0.1, prune=0.05))
        async with running(outbox):
            await db.make(outbox, topic, 1)

            async def gone() -> bool:
                return await db.kept() == []

            await eventually(gone)

    async def test_the_trace_and_the_ids_travel(self, db: OutboxDb, bus: RedisStreamsBus, topic: str) -> None:
        outbox = db.outbox(bus, "things", options=QUICK, traceparent=lambda: "00-aa-bb-01")
        seen: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def handle(message: Message) -> None:
            seen.set_result(message)

        subscription = bus.subscribe("g", [topic], handle)
        await subscription.start()
        async with running(outbox):
            event_id = await db.make(outbox, topic, 1)
            message = await asyncio.wait_for(seen, 10)
        await subscription.stop()
        assert message.event_id == event_id
        assert event_id.startswith("things-")
        assert message.traceparent == "00-aa-bb-01"
