"""The outbox between a real Neo4j and a real Valkey; and what it promises to several writers at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus.base import Message
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.outbox.neo4j import Neo4jOutbox
from tests.stores.suites.outbox import QUICK, OutboxSuite, eventually, running

from .neo4j_stores import OPENER, SCHEMA, address, empty

pytestmark = pytest.mark.usefixtures("neo4j")

WRITERS = 4
KEYS = 5
EACH = 20


class TestOutbox(OutboxSuite):
    """All of the suite."""

    opener = OPENER

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[str]:
        """See OutboxSuite."""
        url = address()
        await migrate(url, SCHEMA)
        await empty(url)
        yield url

    async def test_replicas_that_write_the_same_keys_publish_each_keys_events_in_the_order_of_commits(
        self, url: str, bus: RedisStreamsBus, topic: str
    ) -> None:
        """The payload is a number that grows by one with each commit of its key; units have keys in common."""
        databases = [await Neo4jDatabase.open(url, deadline=30.0) for _ in range(WRITERS)]
        outboxes = [Neo4jOutbox(one, bus, "test", options=QUICK) for one in databases]
        got: defaultdict[bytes, list[int]] = defaultdict(list)
        step = "MERGE (s:Step {key: $key}) SET s.locked = true WITH s SET s.n = coalesce(s.n, 0) + 1 RETURN s.n"

        async def handle(message: Message) -> None:
            got[message.key].append(int(message.payload))

        async def steps(writer: int, keys: tuple[int, ...]) -> None:
            async def unit(tx: Neo4jTx) -> None:
                for key in keys:
                    [(n,)] = await tx.run(step, {"key": key})
                    outboxes[writer].add(tx, topic, b"%d" % key, "test.Stepped", b"%d" % n)

            await databases[writer].write(unit)

        await databases[0].write(
            lambda tx: tx.run("UNWIND range(0, $last) AS key CREATE (:Step {key: key})", {"last": KEYS})
        )
        subscription = bus.subscribe("g", [topic], handle)
        await subscription.start()
        try:
            async with running(*outboxes):
                for _ in range(EACH // 5):
                    pairs = [(writer, key) for writer in range(WRITERS) for key in range(KEYS)]
                    # Each with the next one, in an order that lets some meet head on.
                    both = [(writer, (key, (key + 1) % KEYS)) for writer, key in pairs]
                    await asyncio.gather(*(steps(writer, keys) for writer, keys in both * 5))
                total = WRITERS * EACH * 2
                await eventually(lambda: sum(len(set(one)) for one in got.values()) == total * KEYS, seconds=60.0)
        finally:
            await subscription.stop(grace=1.0)
            for one in databases:
                await one.close()
        # A bus that did not answer in time gets its last seconds again, so what counts is when each first came.
        firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in got.items()}
        assert firsts == {b"%d" % key: list(range(1, total + 1)) for key in range(KEYS)}
