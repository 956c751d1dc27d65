"""Nodes of three are killed while statements run: what was acknowledged stays, and one that is gone stops nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement

from mesh.db.cassandra import Address, Cassandra
from mesh.errors import Unavailable
from scripts.engines.cassandra import Cassandra as CassandraEngine
from scripts.engines.control import Control
from tests.stores.suites.outbox import eventually

from .cassandra_keyspaces import keyspace

TABLES = """
CREATE TABLE IF NOT EXISTS things (key bigint PRIMARY KEY, text text);
CREATE TABLE IF NOT EXISTS names (name bigint PRIMARY KEY, owner int);
"""
LONGEST_S = 20.0  # without any answer, on a machine that has other work


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Three nodes of this module's own."""
    control = Control(CassandraEngine(), tmp_path_factory.mktemp("cassandra") / "engines")
    control.up(3)
    yield control
    control.down()


@pytest.fixture
def url(nodes: Control) -> Iterator[str]:
    with keyspace(nodes, TABLES) as one:
        yield one


class Load:
    """Writes, conditional writes and reads without an end; keeps what was acknowledged."""

    def __init__(self, db: Cassandra) -> None:
        self.written: set[int] = set()
        self.decided: set[int] = set()
        self.errors = 0
        self.longest_s = 0.0
        self.stopped = False
        self._db = db
        self._next = 0

    async def run(self, workers: int) -> None:
        await asyncio.gather(*(self._work() for _ in range(workers)), self._read())

    async def _work(self) -> None:
        last = time.monotonic()
        while not self.stopped:
            self._next += 1
            number = self._next
            try:
                await self._db.execute("INSERT INTO things (key, text) VALUES (?, 'x')", (number,), idempotent=True)
                self.written.add(number)
                cql = "INSERT INTO names (name, owner) VALUES (?, 1) IF NOT EXISTS"
                if (await self._db.conditional(cql, (number,))).applied:
                    self.decided.add(number)
            except Unavailable:
                self.errors += 1
                await asyncio.sleep(0.02)
                continue
            self.longest_s, last = max(self.longest_s, time.monotonic() - last), time.monotonic()

    async def _read(self) -> None:
        """What was acknowledged is there at once."""
        while not self.stopped:
            number = max(self.written, default=None)
            if number is not None:
                try:
                    assert await self._db.row("SELECT text FROM things WHERE key = ?", (number,)) is not None
                except Unavailable:
                    self.errors += 1
            await asyncio.sleep(0.02)

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.decided) + count
        await eventually(lambda: len(self.decided) >= wanted, 60.0)


def on(address: Address, number: int, cql: str) -> set[int]:
    """What one node has by itself, in a thread."""
    host = address.hosts[number - 1]
    cluster = Cluster(
        [host],
        execution_profiles={
            "one": ExecutionProfile(WhiteListRoundRobinPolicy([host[0]]), consistency_level=ConsistencyLevel.ONE)
        },
    )
    try:
        session = cluster.connect(address.keyspace)
        [its] = [one for one in cluster.metadata.all_hosts() if one.endpoint.port == host[1]]
        statement = SimpleStatement(cql, consistency_level=ConsistencyLevel.ONE)
        return {row[0] for row in session.execute(statement, execution_profile="one", host=its)}
    finally:
        cluster.shutdown()


@pytest.mark.timeout(600)
async def test_a_node_that_is_killed_stops_nobody_and_has_everything_after_its_return(nodes: Control, url: str) -> None:
    address = Address.parse(url)
    db = await Cassandra.open(url, deadline=5.0)
    load = Load(db)
    running = asyncio.create_task(load.run(8))
    await load.more(100)
    await asyncio.to_thread(nodes.kill, "cassandra-2")
    await load.more(300)
    await asyncio.to_thread(nodes.up, 3)
    await load.more(100)
    load.stopped = True
    await running
    print(
        f"{len(load.written)} writes and {len(load.decided)} conditional ones acknowledged, {load.errors} not;"
        f" longest without an answer {load.longest_s:.1f} s"
    )
    assert load.longest_s < LONGEST_S
    found = {row.key async for page in db.pages("SELECT key FROM things") for row in page}
    assert load.written <= found
    names = {row.name async for page in db.pages("SELECT name FROM names") for row in page}
    assert load.decided <= names
    await db.close()

    async def agrees() -> bool:  # hints are on their way
        try:
            return load.written <= await asyncio.to_thread(on, address, 2, "SELECT key FROM things")
        except NoHostAvailable:  # a node that is back may be taken for down once more
            return False

    await eventually(agrees, 90.0)


@pytest.mark.timeout(600)
async def test_what_was_acknowledged_is_there_after_all_nodes_were_killed_at_once(nodes: Control, url: str) -> None:
    db = await Cassandra.open(url, deadline=5.0)
    load = Load(db)
    running = asyncio.create_task(load.run(8))
    await load.more(200)
    for number in (1, 2, 3):
        await asyncio.to_thread(nodes.kill, f"cassandra-{number}")
    load.stopped = True
    await running
    await asyncio.to_thread(nodes.up, 3)

    async def back() -> bool:  # by itself
        try:
            await db.row("SELECT key FROM things WHERE key = 1")
        except Unavailable:
            return False
        return True

    await eventually(back, 60.0)
    found = {row.key async for page in db.pages("SELECT key FROM things") for row in page}
    assert load.written <= found
    names = {row.name async for page in db.pages("SELECT name FROM names") for row in page}
    assert load.decided <= names
    await db.close()
