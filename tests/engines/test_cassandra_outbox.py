"""The outbox between a real Cassandra and a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus.base import Message, Outgoing
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra
from mesh.outbox.cassandra import CassandraOutbox
from scripts.engines.control import Control
from tests.stores.cassandra_outbox import OPENER, CassandraOutboxDb
from tests.stores.conftest import Valkey
from tests.stores.suites.outbox import BUS, QUICK, OutboxSuite, eventually, listening, nothing_waits, running

from .cassandra_keyspaces import OUTBOX, emptied, keyspace

WRITERS = 4
KEYS = 5
EACH = 25


@pytest.fixture(scope="module")
def address(cassandra: Control) -> AsyncIterator[str]:
    """A keyspace of this module's."""
    with keyspace(cassandra, OUTBOX) as url:
        yield url


class TestOutbox(OutboxSuite):
    """All of the suite."""

    opener = OPENER

    @pytest.fixture(autouse=True)
    def its_address(self, address: str) -> None:
        """Where `opened` finds it."""
        self._address = address

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[str]:
        """See OutboxSuite."""
        del folder
        await emptied(self._address)
        yield self._address

    async def test_replicas_that_write_the_same_keys_publish_each_keys_events_in_the_order_of_their_chain(
        self, url: str, bus: RedisStreamsBus, topic: str
    ) -> None:
        """Whoever writes an event of a key has seen the one before acknowledged: the payload is a number that grows."""
        databases = [await Cassandra.open(url, deadline=10.0) for _ in range(WRITERS)]
        outboxes = [CassandraOutbox(one, bus, "test", options=QUICK) for one in databases]
        turns = [asyncio.Lock() for _ in range(KEYS)]
        steps = [0] * KEYS
        got: defaultdict[bytes, list[int]] = defaultdict(list)

        async def handle(message: Message) -> None:
            got[message.key].append(int(message.payload))

        async def step(writer: int, key: int) -> None:
            async with turns[key]:
                steps[key] += 1
                event = outboxes[writer].event(topic, b"%d" % key, "test.Step", b"%d" % steps[key])
                await databases[writer].batch(outboxes[writer].statements([event], time.time_ns() // 1_000))
            outboxes[writer].committed()

        subscription = bus.subscribe("g", [topic], handle)
        await subscription.start()
        try:
            async with running(*outboxes):
                await asyncio.gather(
                    *(step(writer, key) for _ in range(EACH) for key in range(KEYS) for writer in range(WRITERS))
                )
                await eventually(lambda: sum(map(len, got.values())) >= WRITERS * KEYS * EACH, 30.0)
        finally:
            await subscription.stop()
            for one in databases:
                await one.close()
        for key in range(KEYS):
            firsts = list(dict.fromkeys(got[b"%d" % key]))  # a lease that ended under load repeats some
            assert firsts == list(range(1, WRITERS * EACH + 1))

    async def test_what_comes_into_a_partition_of_long_ago_is_found(
        self, db: CassandraOutboxDb, bus: RedisStreamsBus, topic: str
    ) -> None:
        """As a node's hints bring it that was away for hours."""
        from mesh.outbox.cassandra import _insertion, shard_of

        before = db.outbox(bus, options=QUICK)
        async with listening(bus, topic) as got:
            async with running(before):
                await db.make(before, topic, 1)
                await eventually(lambda: got == [1])
                at_us = int((time.time() - 7_200) * 1_000_000)
                late = Outgoing(topic, b"k", "test.ThingMade", b"2", "late")
                await db.db.batch([_insertion(shard_of(b"k"), at_us, late, at_us)])
            after = db.outbox(bus, options=QUICK)  # as after a walk's time
            async with running(after):
                await eventually(lambda: got == [1, 2])
                await eventually(lambda: nothing_waits(db))

    async def test_a_writer_whose_clock_is_ahead_is_published_once(
        self, db: CassandraOutboxDb, bus: RedisStreamsBus, topic: str
    ) -> None:
        """Its rows have a later time than their deletion would have."""
        ahead = db.outbox(bus, clock=lambda: time.time() + 4.0)
        relay = db.outbox(bus, options=QUICK)
        async with listening(bus, topic) as got, running(relay):
            for n in range(5):
                await db.make(ahead, topic, n)
            await eventually(lambda: got == list(range(5)))
            await eventually(lambda: nothing_waits(db))

    async def test_a_batch_that_is_done_again_adds_nothing(
        self, db: CassandraOutboxDb, bus: RedisStreamsBus, topic: str
    ) -> None:
        outbox = db.outbox(bus, options=QUICK)
        assert isinstance(outbox, CassandraOutbox)
        statements = outbox.statements([outbox.event(topic, b"k", "test.ThingMade", b"1")])
        async with listening(bus, topic) as got, running(outbox):
            await db.db.batch(statements)
            outbox.committed()
            await eventually(lambda: nothing_waits(db))
            await db.db.batch(statements)  # it was published meanwhile
            assert await nothing_waits(db)
            await db.make(outbox, topic, 2)
            await eventually(lambda: 2 in got)
        assert got == [1, 2]

    async def test_who_publishes_again_may_have_a_clock_behind_that_of_who_published(
        self, db: CassandraOutboxDb, start_valkey: Callable[[bool], Valkey], topic: str
    ) -> None:
        """What is put back has a later time than its deletion."""
        server = start_valkey(False)
        bus = RedisStreamsBus(server.url, options=BUS)
        first = db.outbox(bus, options=QUICK, clock=lambda: time.time() + 8.0)
        async with running(first):
            for n in range(5):
                await db.make(first, topic, n)
            await eventually(lambda: nothing_waits(db))
        server.kill()
        server.start()  # empty
        second = db.outbox(bus, options=QUICK)
        async with running(second), listening(bus, topic) as got:
            await eventually(lambda: set(got) == set(range(5)))
            await eventually(lambda: nothing_waits(db))
        await bus.close()
