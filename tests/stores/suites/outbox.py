"""What the outbox does between any database and a real Valkey: crashes, outages, and a bus that comes back empty."""

from __future__ import annotations

import asyncio
import functools
import operator
import signal
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from mesh.bus.base import Message
from mesh.bus.redis_server import RedisStreamsOptions, stream_key
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.sql import Database, Tx
from mesh.outbox import Outbox, OutboxOptions
from tests.stores.conftest import Valkey

ROOT = Path(__file__).parents[3]
QUICK = OutboxOptions(sweep=0.1, lease=1.5, backoff_cap=0.1)
BUS = RedisStreamsOptions(lease=0.6, block=0.2, deadline=1.0, reconnect_cap=0.1)


def add_thing(outbox: Outbox, topic: str, number: int, key: bytes = b"k") -> Callable[[Tx], Awaitable[None]]:
    async def unit(tx: Tx) -> None:
        await tx.execute("INSERT INTO things (id) VALUES (:id)", {"id": number})
        await outbox.add(tx, topic, key, "test.ThingMade", str(number).encode())

    return unit


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


async def waiting(db: Database) -> int:
    return int(await db.read(lambda tx: tx.scalar("SELECT count(*) FROM outbox WHERE published_ms IS NULL")))


async def nothing_waits(db: Database) -> bool:
    return await waiting(db) == 0


async def all_payloads(tx: Tx) -> list[int]:
    return [int(row[0]) for row in await tx.execute("SELECT payload FROM outbox ORDER BY id")]


CHILD = """
import asyncio, os, signal, sys
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.sql import Database
from mesh.outbox import Outbox

class DiesInstead(RedisStreamsBus):
    async def publish(self, messages):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    db = await Database.open(sys.argv[1])
    outbox = Outbox(db, DiesInstead(sys.argv[2]), "test")
    await outbox.start()
    async def unit(tx):
        await outbox.add(tx, sys.argv[3], b"k", "test.ThingMade", b"7")
    await db.write(unit)
    await asyncio.sleep(30)

asyncio.run(main())
"""


class OutboxSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[str]:
        """The URL of a new database with the outbox's tables, and `things(id)`."""

    @pytest.fixture
    async def url(self, tmp_path: Path) -> AsyncIterator[str]:
        """A new database."""
        async with self.opened(tmp_path) as url:
            yield url

    @pytest.fixture
    async def db(self, url: str) -> AsyncIterator[Database]:
        """The new database, opened."""
        database = await Database.open(url)
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
        self, db: Database, bus: RedisStreamsBus, topic: str
    ) -> None:
        outbox = Outbox(db, bus, "test", options=QUICK)
        async with listening(bus, topic) as got, running(outbox):
            for start in range(0, 600, 60):
                await asyncio.gather(*(db.write(add_thing(outbox, topic, start + n)) for n in range(60)))
            await eventually(lambda: len(got) == 600)
        committed = await db.read(all_payloads)
        assert got == committed

    async def test_a_commit_wakes_the_relay(self, db: Database, bus: RedisStreamsBus, topic: str) -> None:
        outbox = Outbox(db, bus, "test", options=OutboxOptions(sweep=60.0))
        async with listening(bus, topic) as got, running(outbox):
            for n in range(5):  # several, since the first could be found by the relay's first look
                await db.write(add_thing(outbox, topic, n))
                await eventually(
                    functools.partial(operator.contains, got, n), seconds=5.0
                )  # the sweeper looks once a minute
                await eventually(lambda: nothing_waits(db))

    async def test_nothing_is_published_on_rollback(self, db: Database, bus: RedisStreamsBus, topic: str) -> None:
        outbox = Outbox(db, bus, "test", options=QUICK)

        async def fails(tx: Tx) -> None:
            await add_thing(outbox, topic, 1)(tx)
            raise LookupError

        async with listening(bus, topic) as got, running(outbox):
            with pytest.raises(LookupError):
                await db.write(fails)
            await db.write(add_thing(outbox, topic, 2))
            await eventually(lambda: 2 in got)
        assert got == [2]

    async def test_an_event_that_the_bus_would_refuse_fails_its_unit(self, db: Database, bus: RedisStreamsBus) -> None:
        outbox = Outbox(db, bus, "test")

        async def too_large(tx: Tx) -> None:
            await outbox.add(tx, "t", b"k", "test.ThingMade", b"x" * (1 << 21))

        with pytest.raises(ValueError, match="payload"):
            await db.write(too_large)
        assert await nothing_waits(db)

    async def test_what_a_crash_left_between_commit_and_publish_is_swept(
        self, db: Database, bus: RedisStreamsBus, topic: str, valkey_socket: str, url: str
    ) -> None:
        child = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                CHILD,
                url,
                f"unix://{valkey_socket}?db=0",
                topic,
            ),
            cwd=ROOT,
        )
        assert await asyncio.wait_for(child.wait(), 20) == -signal.SIGKILL
        assert await waiting(db) == 1
        # The dead process still has its lease (6 s); this clock is past it, so that the test need not wait.
        outbox = Outbox(db, bus, "test", options=QUICK, clock=lambda: time.time() + 7.0)
        async with listening(bus, topic) as got, running(outbox):
            await eventually(lambda: got == [7])

    async def test_the_bus_is_down_and_events_wait_for_it(
        self, db: Database, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(True)
        bus = RedisStreamsBus(server.url, options=BUS)
        outbox = Outbox(db, bus, "test", options=QUICK)
        async with listening(bus, topic) as got, running(outbox):
            await db.write(add_thing(outbox, topic, 0))
            await eventually(lambda: got == [0])
            server.kill()
            for n in range(1, 20):
                await db.write(add_thing(outbox, topic, n))  # accepted all the same
            await eventually(lambda: not outbox.healthy)
            server.start()
            await eventually(lambda: set(got) == set(range(20)))
            await eventually(lambda: outbox.healthy)
            firsts = list(dict.fromkeys(got))
            assert firsts == list(range(20))
        await bus.close()

    async def test_a_bus_that_lost_everything_gets_all_that_is_kept(
        self, db: Database, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(False)
        bus = RedisStreamsBus(server.url, options=BUS)
        # Rewinding by time is as good as off: only the incarnation tells.
        options = OutboxOptions(sweep=0.1, lease=1.5, backoff_cap=0.1, rewind=0.001)
        outbox = Outbox(db, bus, "test", options=options)
        async with running(outbox):
            for n in range(50):
                await db.write(add_thing(outbox, topic, n))
            await eventually(lambda: nothing_waits(db))
            server.kill()  # nobody had read them
            server.start()
            async with listening(bus, topic) as got:
                await eventually(lambda: set(got) == set(range(50)))
                assert list(dict.fromkeys(got)) == list(range(50))
        await bus.close()

    async def test_a_bus_that_lost_everything_while_no_relay_ran(
        self, db: Database, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        server = start_valkey(False)
        bus = RedisStreamsBus(server.url, options=BUS)
        before = Outbox(db, bus, "test", options=QUICK)
        async with running(before):
            await db.write(add_thing(before, topic, 1))
            await eventually(lambda: nothing_waits(db))
        server.kill()
        server.start()
        after = Outbox(db, bus, "test", options=QUICK)
        async with running(after), listening(bus, topic) as got:
            await eventually(lambda: got == [1])
        await bus.close()

    async def test_a_restarted_bus_gets_its_last_seconds_again(
        self, db: Database, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        """The server returns with its identity, but without its last writes (here: they are taken from it)."""
        server = start_valkey(True)
        bus = RedisStreamsBus(server.url, options=BUS)
        outbox = Outbox(db, bus, "test", options=QUICK)
        async with running(outbox):
            await db.write(add_thing(outbox, topic, 1))
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
        self, db: Database, valkey_socket: str, topic: str
    ) -> None:
        options = RedisStreamsOptions(partitions=1, max_backlog=3, lease=0.6, block=0.2)
        bus = RedisStreamsBus(f"unix://{valkey_socket}?db=0", options=options)
        client = redis.Redis.from_url(f"unix://{valkey_socket}?db=0", protocol=2)
        await client.xgroup_create(stream_key(topic, 0), "nobody", "0", mkstream=True)
        outbox = Outbox(db, bus, "test", options=OutboxOptions(batch=3, sweep=0.1, lease=1.5, backoff_cap=0.05))
        async with listening(bus, f"{topic}-b") as got, running(outbox):
            for n in range(9):
                await db.write(add_thing(outbox, topic, n))
            await db.write(add_thing(outbox, f"{topic}-b", 100))
            await eventually(lambda: got == [100])

            async def marked() -> bool:  # a moment after it was published
                query = "SELECT count(*) FROM outbox WHERE topic = :topic AND published_ms IS NULL"
                return await db.read(lambda tx: tx.scalar(query, {"topic": f"{topic}-b"})) == 0

            await eventually(marked)
            assert await waiting(db) == 6
            await client.xgroup_destroy(stream_key(topic, 0), "nobody")
            await eventually(lambda: nothing_waits(db))
        await client.aclose()
        await bus.close()

    async def test_two_replicas_publish_each_event_once_and_in_order(
        self, url: str, bus: RedisStreamsBus, topic: str
    ) -> None:
        databases = [await Database.open(url) for _ in range(2)]
        outboxes = [Outbox(one, bus, "test", options=QUICK) for one in databases]
        try:
            async with listening(bus, topic) as got, running(*outboxes):
                for n in range(100):
                    await databases[n % 2].write(add_thing(outboxes[n % 2], topic, n))
                await eventually(lambda: len(got) >= 100)
                assert got == list(range(100))
                assert [one._leads for one in outboxes].count(True) == 1
                # Its holder leaves; the other one takes over.
                leader = 0 if outboxes[0]._leads else 1
                await outboxes[leader].stop()
                await databases[leader].write(add_thing(outboxes[leader], topic, 100))
                await eventually(lambda: got == list(range(101)))
        finally:
            for one in databases:
                await one.close()

    async def test_published_rows_are_deleted_after_a_while(
        self, db: Database, bus: RedisStreamsBus, topic: str
    ) -> None:
        outbox = Outbox(db, bus, "test", options=OutboxOptions(sweep=0.05, keep=0.1, prune=0.05))
        async with running(outbox):
            await db.write(add_thing(outbox, topic, 1))

            async def gone() -> bool:
                return bool(await db.read(lambda tx: tx.scalar("SELECT count(*) = 0 FROM outbox")))

            await eventually(gone)

    async def test_the_trace_and_the_ids_travel(self, db: Database, bus: RedisStreamsBus, topic: str) -> None:
        outbox = Outbox(db, bus, "things", options=QUICK, traceparent=lambda: "00-aa-bb-01")
        seen: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def handle(message: Message) -> None:
            seen.set_result(message)

        subscription = bus.subscribe("g", [topic], handle)
        await subscription.start()
        async with running(outbox):
            event_id = await db.write(lambda tx: outbox.add(tx, topic, b"k", "test.ThingMade", b"1"))
            message = await asyncio.wait_for(seen, 10)
        await subscription.stop()
        assert message.event_id == event_id
        assert event_id.startswith("things-")
        assert message.traceparent == "00-aa-bb-01"
