"""The outbox between a real PostgreSQL and a real Valkey; and what it promises to several writers at once."""

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
from mesh.db.sql import Database, Tx
from mesh.outbox.sql import OUTBOX_DDL_POSTGRESQL, SqlOutbox
from tests.stores.sql_outbox import OPENER
from tests.stores.suites.outbox import QUICK, OutboxSuite, eventually, running

from .engines import new_database

pytestmark = pytest.mark.usefixtures("postgresql")

WRITERS = 4
KEYS = 5
EACH = 40


class TestOutbox(OutboxSuite):
    """All of the suite."""

    opener = OPENER

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[str]:
        """See OutboxSuite."""
        schema = folder / "schema"
        schema.mkdir()
        tables = (
            "CREATE TABLE things (id BIGINT PRIMARY KEY);\nCREATE TABLE steps (key BIGINT PRIMARY KEY, n BIGINT);\n"
        )
        (schema / "001_init.sql").write_text(tables + OUTBOX_DDL_POSTGRESQL)
        async with new_database() as url:
            await migrate(url, schema)
            yield url

    async def test_replicas_that_write_the_same_keys_publish_each_keys_events_in_the_order_of_commits(
        self, url: str, bus: RedisStreamsBus, topic: str
    ) -> None:
        """The payload is a number that grows by one with each commit of its key."""
        databases = [await Database.open(url, deadline=20.0) for _ in range(WRITERS)]
        outboxes = [SqlOutbox(one, bus, "test", options=QUICK) for one in databases]
        got: defaultdict[bytes, list[int]] = defaultdict(list)

        async def handle(message: Message) -> None:
            got[message.key].append(int(message.payload))

        async def step(writer: int, key: int) -> None:
            async def unit(tx: Tx) -> None:
                n = await tx.scalar(
                    "INSERT INTO steps (key, n) VALUES (:key, 1) ON CONFLICT (key) DO UPDATE SET n = steps.n + 1"
                    " RETURNING n",
                    {"key": key},
                )
                await outboxes[writer].add(tx, topic, b"%d" % key, "test.Stepped", b"%d" % n)

            await databases[writer].write(unit)

        subscription = bus.subscribe("g", [topic], handle)
        await subscription.start()
        try:
            async with running(*outboxes):
                for _ in range(EACH // 10):
                    pairs = [(writer, key) for writer in range(WRITERS) for key in range(KEYS)]
                    await asyncio.gather(*(step(writer, key) for writer, key in pairs * 10))
                total = WRITERS * EACH
                await eventually(lambda: sum(map(len, got.values())) >= total * KEYS, seconds=20.0)
        finally:
            await subscription.stop(grace=1.0)
            for one in databases:
                await one.close()
        assert got == {b"%d" % key: list(range(1, total + 1)) for key in range(KEYS)}
