"""Hostile input 17 on the engines: settings that running servers report, and SIGKILL amid writes.

A killed process loses nothing that the kernel has, so a kill does not show a flush that was left out; a server is asked
whether it makes them. (On SQLite, bytes that were not flushed are dropped: tests/faults/test_power_loss.py.)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import make_url

from mesh.bus.base import Outgoing
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_server import KafkaOptions, parts_of
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.sql import Database, Tx
from mesh.objects import Objects
from mesh.outbox.sql import SqlOutbox
from scripts.engines.base import Engine
from scripts.engines.control import Control
from scripts.engines.kafka import Kafka
from scripts.engines.postgresql import PostgreSQL
from scripts.engines.s3 import S3
from services.tweet.domain import StoredTweet
from services.tweet.store.sql import SqlTweetStore
from tests.stores.suites.bus import Recorder, consuming
from tests.stores.suites.outbox import eventually

from .durability import survive
from .engines import schema

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
def started(tmp_path: Path) -> Iterator[Callable[[Engine], Control]]:
    """Starts an engine of the test's own, which is stopped after it."""
    controls: list[Control] = []

    def start(engine: Engine) -> Control:
        tmp_path.chmod(0o755)  # PostgreSQL runs as another user when it is started by root
        controls.append(Control(engine, tmp_path / "engines"))
        controls[-1].up()
        return controls[-1]

    yield start
    for control in controls:
        control.down()


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
