"""Hostile input 17 on the engines: settings that running servers report, and SIGKILL amid writes.

A killed process loses nothing that the kernel has, so a kill does not show a flush that was left out; a server is asked
whether it makes them. (On SQLite, bytes that were not flushed are dropped: tests/faults/test_power_loss.py.)
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import make_url

from mesh.bus.base import Outgoing
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_server import KafkaOptions, parts_of
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.neo4j import Neo4jDatabase
from mesh.db.sql import Database, Tx
from mesh.objects import Objects
from mesh.outbox.neo4j import Neo4jOutbox
from mesh.outbox.sql import SqlOutbox
from scripts.engines.base import Engine
from scripts.engines.cassandra import Cassandra as CassandraEngine
from scripts.engines.control import Control
from scripts.engines.kafka import Kafka
from scripts.engines.neo4j import Neo4j as Neo4jEngine
from scripts.engines.postgresql import PostgreSQL
from scripts.engines.s3 import S3
from services.graph.domain import Line
from services.graph.store.neo4j import Neo4jGraphStore
from services.tweet.domain import StoredTweet
from services.tweet.store.base import By, TweetStore
from services.tweet.store.sql import SqlTweetStore
from tests.stores.suites.bus import Recorder, consuming
from tests.stores.suites.outbox import eventually
from views.entry import Entry

from .cassandra_stores import SCHEMA as CASSANDRA_SCHEMA
from .cassandra_stores import opened as opened_cassandra
from .durability import survive
from .engines import inside, schema
from .neo4j_stores import SCHEMA as NEO4J_SCHEMA

pytestmark = pytest.mark.timeout(300)


async def topic_settings(url: str, topic: str) -> dict[str, str]:
    """What the brokers say of a topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=parts_of(url)[0])
    await admin.start()
    try:
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        [resource] = answer.resources
        return {entry[0]: entry[1] for entry in resource[4]}
    finally:
        await admin.close()


@pytest.fixture
def started() -> Iterator[Callable[[Engine], Control]]:
    """Starts an engine of the test's own, which is stopped after it."""
    folder = inside(f"durability-{uuid.uuid4().hex[:8]}")
    controls: list[Control] = []

    def start(engine: Engine) -> Control:
        controls.append(Control(engine, folder))
        controls[-1].up()
        return controls[-1]

    yield start
    for control in controls:
        control.down()
    shutil.rmtree(folder, ignore_errors=True)


async def test_postgresql_keeps_what_it_acknowledged(started: Callable[[Engine], Control]) -> None:
    server = started(PostgreSQL())
    url = make_url(server.urls()["ROOKERY_TWEETS_URL"]).render_as_string(hide_password=False)
    await migrate(url, schema("tweet"))
    db = await Database.open(url, deadline=5.0)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    try:

        async def settings(tx: Tx) -> dict[str, str]:
            names = ("fsync", "synchronous_commit", "full_page_writes", "wal_level")
            return {name: str(await tx.scalar(f"SHOW {name}")) for name in names}

        for asked in (db.read, db.write):  # on the connections that reads and writes have
            told = await asked(settings)
            assert (told["fsync"], told["synchronous_commit"], told["full_page_writes"]) == ("on", "on", "on"), told
        tweets = SqlTweetStore(db, SqlOutbox(db, bus, "tweet"))

        async def there() -> set[int]:
            """Tweets whose events are there too; none may have one without the other."""

            async def unit(tx: Tx) -> tuple[set[int], int]:
                found = (await tx.execute("SELECT id FROM tweets")).scalars().all()
                return set(found), int(await tx.scalar("SELECT COUNT(*) FROM outbox"))

            found, events = await db.read(unit)
            assert len(found) == events
            return {one - 1 for one in found}

        print(await survive(server, "postgresql-1", lambda n: tweets.create(StoredTweet(n + 1, n % 7, "t"), ""), there))
    finally:
        await bus.close()
        await db.close()


async def test_an_object_store_keeps_what_it_acknowledged(started: Callable[[Engine], Control]) -> None:
    server = started(S3())
    objects = Objects.open(server.urls()["ROOKERY_OBJECTS_URL"], deadline_s=3.0)

    async def there() -> set[int]:
        """The test's server leaves files of uploads in which it died, under names of its own."""
        names = [one.key.rpartition("/")[2] for one in await objects.list("kept")]
        return {int(name) for name in names if name.isdigit()}

    [program] = server.pids()
    print(await survive(server, program, lambda n: objects.put(f"kept/{n}", b"%d" % n * 500), there, before=100))


async def test_kafka_keeps_what_it_acknowledged(started: Callable[[Engine], Control]) -> None:
    server = started(Kafka())
    url = server.urls()["ROOKERY_BUS_URL"]
    bus = KafkaBus(url, options=KafkaOptions(block=0.2, session=3.0, reconnect_cap=0.2))
    try:

        async def there() -> set[int]:
            got, group = Recorder(), f"g{uuid.uuid4().hex}"
            async with consuming(bus.subscribe(group, ["t"], got)):
                await bus.publish([Outgoing("t", b"end", "test.End", b"", "end")])
                await got.until(lambda: "end" in got.event_ids, 30.0)

                async def handled() -> bool:
                    return not any(one.group == group for one in (await bus.backlog()).unhandled)

                await eventually(handled, seconds=30.0)
            return {int(one) for one in got.event_ids if one != "end"}

        async def write(number: int) -> None:
            await bus.publish([Outgoing("t", b"%d" % (number % 50), "test.Event", b"", f"{number}")])

        await write(0)
        producer = bus._producer
        assert producer is not None
        assert producer._sender._acks == -1, "all replicas that are in sync"
        assert producer._txn_manager is not None, "an idempotent producer has one"
        told = await topic_settings(url, "t")
        assert told["unclean.leader.election.enable"] == "false"
        print(await survive(server, "kafka-1", write, there))
    finally:
        await bus.close()


async def test_cassandra_keeps_what_it_acknowledged(started: Callable[[Engine], Control]) -> None:
    server = started(CassandraEngine())
    [url] = server.engine.apart(server.place(), "durable").values()
    await migrate(url, CASSANDRA_SCHEMA)
    async with opened_cassandra(url) as (keyspace, stores):
        settings = await keyspace.db.rows("SELECT name, value FROM system_views.settings")
        told = {row.name: row.value for row in settings}
        assert told["commitlog_sync"] in ("batch", "group"), "on disk before it is acknowledged"
        kept = await keyspace.db.rows(
            "SELECT durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?", (keyspace.db.keyspace,)
        )
        assert [row.durable_writes for row in kept] == [True]

        async def there() -> set[int]:
            """Tweets that are in their author's list, too; each has its event."""
            authors = [entry async for entry in _all_entries(stores.tweets)]
            events = {event.message.tweet_id for event in await keyspace.events()}  # type: ignore[attr-defined]
            found = {entry.tweet_id for entry in authors}
            assert found <= events
            assert len(await stores.tweets.by_ids(sorted(found))) == len(found)
            return {one - 1 for one in found}

        def write(number: int) -> Awaitable[object]:
            return stores.tweets.create(StoredTweet(number + 1, number % 7, "t"), "")

        print(await survive(server, "cassandra-1", write, there, before=100, back_s=180.0))


async def _all_entries(tweets: TweetStore) -> AsyncIterator[Entry]:
    for author in range(7):
        for entry in await tweets.page(By.AUTHOR, author, before=0, after=0, ascending=False, limit=100_000):
            yield entry


async def test_neo4j_keeps_what_it_acknowledged(started: Callable[[Engine], Control]) -> None:
    """A commit is in the log of transactions, on disk, before it is acknowledged; there is no setting to ask for."""
    server = started(Neo4jEngine())
    url = server.urls()["ROOKERY_GRAPH_URL"]
    await migrate(url, NEO4J_SCHEMA)
    db = await Neo4jDatabase.open(url, deadline=10.0)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    graph = Neo4jGraphStore(db, Neo4jOutbox(db, bus, "graph"), Line(10**9))
    try:

        async def there() -> set[int]:
            followers = await graph.follower_ids(5, after=0, limit=100_000)
            [(events,)] = await db.read(lambda tx: tx.run("MATCH (e:OutboxWaiting) RETURN count(e)"))
            assert len(followers) == events, "each has its event"
            return {one - 100 for one in followers}

        def write(number: int) -> Awaitable[object]:
            return graph.follow(number + 100, 5, number + 1)

        print(await survive(server, "neo4j-1", write, there, before=100, back_s=120.0))
    finally:
        await bus.close()
        await db.close()
