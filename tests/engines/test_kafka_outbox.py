"""The outbox before a real Kafka whose broker is killed."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus.base import Message
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_server import KafkaOptions
from mesh.db.sql import Tx
from mesh.outbox.relay import OutboxOptions
from mesh.outbox.sql import SqlOutbox
from scripts.engines.control import Control
from scripts.engines.kafka import Kafka
from tests.stores.sqlite_stores import Sql, sqlite
from tests.stores.suites.outbox import eventually

from .engines import inside

pytestmark = pytest.mark.timeout(400)

QUICK = OutboxOptions(sweep=0.2, lease=1.5, backoff_cap=0.1)
BUS = KafkaOptions(block=0.2, session=3.0, reconnect_cap=0.2, deadline=10.0)
KEYS = 5


@pytest.fixture
def broker() -> Iterator[Control]:
    """A broker of the test's own."""
    folder = inside(f"outbox-{uuid.uuid4().hex[:8]}")
    control = Control(Kafka(), folder)
    control.up()
    yield control
    control.down()
    shutil.rmtree(folder, ignore_errors=True)


class Way:
    """What happens to events on their way.

    Args:
        sql: where they are committed.
        bus: where they go.
    """

    def __init__(self, sql: Sql, bus: KafkaBus) -> None:
        self.got: defaultdict[bytes, list[int]] = defaultdict(list)
        """The numbers that arrived, by key."""
        self.committed = 0
        self._sql = sql
        self._outbox = SqlOutbox(sql.db, bus, "test", options=QUICK)
        self._bus = bus

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The relay and a reader run."""

        async def handle(message: Message) -> None:
            self.got[message.key].append(int(message.payload))

        reader = self._bus.subscribe("g", ["t"], handle)
        await reader.start()
        await self._outbox.start()
        try:
            yield
        finally:
            await self._outbox.stop()
            await reader.stop(grace=1.0)

    async def commit(self, count: int) -> None:
        """So many more events."""
        for number in range(self.committed, self.committed + count):

            async def unit(tx: Tx, number: int = number) -> None:
                await self._outbox.add(tx, "t", b"%d" % (number % KEYS), "test.Event", b"%d" % number)

            await self._sql.db.write(unit)
        self.committed += count

    async def all_arrive(self) -> None:
        """What was committed arrives, each key's first deliveries in the order of its commits."""
        wanted = {b"%d" % key: list(range(key, self.committed, KEYS)) for key in range(KEYS)}
        await eventually(lambda: all(set(wanted[key]) <= set(self.got[key]) for key in wanted), seconds=120.0)
        assert {key: list(dict.fromkeys(numbers)) for key, numbers in self.got.items()} == wanted


async def on_its_way(broker: Control, folder: Path, harm: Callable[[Way], Awaitable[None]]) -> None:
    """Opens both ends, and harms what is between them."""
    bus = KafkaBus(broker.urls()["ROOKERY_BUS_URL"], options=BUS)
    try:
        async with sqlite("tweet", folder) as sql:
            path = Way(sql, bus)
            async with path.open():
                await path.commit(100)
                await path.all_arrive()
                await harm(path)
                await path.all_arrive()
    finally:
        await bus.close()


async def test_what_is_committed_while_the_broker_is_gone_arrives_when_it_is_back(
    broker: Control, tmp_path: Path
) -> None:
    async def harm(path: Way) -> None:
        committing = asyncio.create_task(path.commit(100))
        await asyncio.to_thread(broker.kill, "kafka-1")
        await committing
        await path.commit(50)
        await asyncio.to_thread(broker.up)
        await path.commit(50)

    await on_its_way(broker, tmp_path, harm)
