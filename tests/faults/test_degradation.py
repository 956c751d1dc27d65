"""What is left when a port is ill: each refuses, hangs, is late, takes a part, or does what it is asked and denies it.

Wrappers of tests/faults/injection.py stand before real stores. What a whole mesh does when one of its processes is
gone: tests/faults/test_kills.py and test_valkey_gone.py.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rookery.events.v1.user_events_pb2 import UserRegistered

from mesh.bus.base import Bus, Message
from mesh.bus.redis_server import RedisStreamsOptions
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.cache.loading import LoadingCache
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.cache.store import CacheGone, CacheStore
from mesh.db.sql import Database, Tx
from mesh.errors import DeadlineExceeded, NotFound, Unavailable
from mesh.objects import Objects
from mesh.outbox.base import OutboxRows
from mesh.outbox.relay import OutboxOptions
from mesh.outbox.sql import SqlOutbox
from services.tweet.domain import Mark, StoredTweet, record
from services.tweet.store.base import TweetStore
from services.tweet.store.sql import SqlTweetStore
from services.tweet.tweets import Tweets
from services.user.consumers import subscriptions as user_subscriptions
from services.user.people import People
from services.user.store.base import NewPerson, Session
from services.user.store.sql import SqlUserStore
from tests.faults.injection import (
    HANGS,
    LOSES_THE_ANSWER,
    REFUSES,
    Fault,
    Faults,
    Replayed,
    faulty,
    takes,
)
from tests.stores.conftest import Valkey
from tests.stores.sqlite_stores import sqlite
from tests.stores.suites.outbox import eventually
from views.hydrate import Hydrator
from views.record import TWEET_PREFIX, USER_PREFIX

BUS = RedisStreamsOptions(lease=0.6, block=0.2, deadline=1.0, reconnect_cap=0.1)
QUICK = OutboxOptions(sweep=0.1, lease=1.5, backoff_cap=0.02, batch=20)
GONE = Fault(CacheGone)
ADA, BOB = 7, 8
EVENTS = 140
AT_ONCE_S = 0.1
"""No more than this, where something is known to be gone: no deadline is waited for."""


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Valkey for the module's tests."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder), durable=False)
        yield server
        server.kill()


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[CacheStore]:
    """An empty cache store."""
    store = open_cache(valkey.url)
    await store.client.flushdb()  # type: ignore[attr-defined]  # a single server's
    yield store
    await store.close()


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A port that takes connections and never says a word, and what was connected to it."""
    connected: list[asyncio.StreamWriter] = []

    async def connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connected
    finally:
        server.close()
        for writer in connected:
            writer.close()


# --- databases


async def test_a_database_that_answers_nobody_is_left_alone_but_for_one_now_and_then() -> None:
    async with silent() as (port, connected):
        db = await Database.open(f"postgresql+asyncpg://u:p@127.0.0.1:{port}/d", deadline=0.3)

        async def unit(tx: Tx) -> None:
            await tx.execute("SELECT 1")

        async def ask() -> float:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await db.read(unit)
            return time.monotonic() - began

        try:
            for _ in range(3):
                await asyncio.gather(*(ask() for _ in range(4)))
            asked = len(connected)
            assert asked > 0
            assert max(await asyncio.gather(*(ask() for _ in range(200)))) < AT_ONCE_S + 0.3
            assert len(connected) == asked, "those did not even try"
            await asyncio.sleep(0.3)  # longer than it is left alone for
            await asyncio.gather(*(ask() for _ in range(20)))
            assert len(connected) <= asked + 1, "one looks whether it is back"
        finally:
            await db.close()


async def test_a_unit_that_is_too_slow_takes_nobody_else_with_it(tmp_path: Path) -> None:
    """Deadlines that pass while others are served say nothing of the server."""
    async with sqlite("tweet", tmp_path) as sql:
        tweets = SqlTweetStore(sql.db, sql.outbox)
        await tweets.create(StoredTweet(10, 1, "text"), "")

        async def slow(tx: Tx) -> None:
            await tx.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
                " SELECT MAX(i) FROM n"
            )

        async def ask() -> None:
            with pytest.raises(Unavailable):
                await sql.db.read(slow, deadline=0.1)

        for _ in range(4):
            await asyncio.gather(*(ask() for _ in range(4)))
            async with asyncio.timeout(2):
                assert await tweets.by_ids([10])


# --- objects


async def test_a_store_of_objects_that_answers_nobody_is_left_alone() -> None:
    async with silent() as (port, _):
        objects = Objects.open(f"s3://key:secret@bucket?endpoint=http://127.0.0.1:{port}", deadline_s=0.2)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await objects.head("a")
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(Unavailable):
                await objects.put("a", b"b")
            with pytest.raises(Unavailable):
                await anext(objects.get("a"))
        assert time.monotonic() - began < AT_ONCE_S + 0.2


async def test_what_is_not_there_says_that_the_store_is(tmp_path: Path) -> None:
    objects = Objects.open(f"file://{tmp_path}/objects")
    for _ in range(20):
        with pytest.raises(NotFound):
            await objects.head("a")
    await objects.put("a", b"b")
    assert (await objects.head("a")).size == 1


async def test_a_stream_that_breaks_off_is_told_from_one_that_ends(tmp_path: Path) -> None:
    real = Objects.open(f"file://{tmp_path}/objects")
    await real.put("a", b"x" * 1_000_000)
    faults = Faults()
    objects = faulty(Objects, real, faults)
    faults.next(takes(1), "get")
    got = 0
    with pytest.raises(Unavailable):
        async for piece in objects.get("a"):
            got += len(piece)
    assert 0 < got < 1_000_000
    assert sum([len(piece) async for piece in objects.get("a")]) == 1_000_000


# --- the read model


async def test_what_the_read_model_has_is_shown_while_its_owner_is_ill(tmp_path: Path, cache: CacheStore) -> None:
    async with sqlite("tweet", tmp_path) as sql:
        faults = Faults()
        real = SqlTweetStore(sql.db, sql.outbox)
        made = [await real.create(StoredTweet(tweet_id, 1, "text"), "") for tweet_id in (10, 11)]
        records = Records(cache, TWEET_PREFIX)
        tweets = Tweets(faulty(TweetStore, real, faults), records)
        hydrator = Hydrator(records, tweets.load)
        assert await hydrator.get([10]) == [record(made[0])]

        faults.always(REFUSES)
        assert await hydrator.get([10]) == [record(made[0])]
        with pytest.raises(Unavailable):
            await hydrator.get([10, 11])
        faults.clear()

        faults.always(HANGS)
        hanging = asyncio.create_task(hydrator.get([11]))
        await faults.hanging.wait()
        assert await hydrator.get([10]) == [record(made[0])], "nobody waits for what others wait for"
        hanging.cancel()
        faults.clear()


async def test_a_change_is_made_and_answered_while_the_cache_is_gone(tmp_path: Path, cache: CacheStore) -> None:
    """And what the cache took before it was said to be gone does no harm."""
    async with sqlite("tweet", tmp_path) as sql:
        store = SqlTweetStore(sql.db, sql.outbox)
        faults = Faults()
        records = Records(faulty(CacheStore, cache, faults), TWEET_PREFIX)
        tweets = Tweets(store, records)
        hydrator = Hydrator(records, tweets.load)
        for number, fault in enumerate((GONE, Fault(CacheGone, done=True)), 10):
            faults.always(fault)
            made = await store.create(StoredTweet(number, 1, "text"), "")
            await tweets.publish([made])
            assert await hydrator.get([number]) == [record(made)], "from the store"
            gone = await store.delete(number, 1)
            assert gone is not None
            await tweets.publish([gone])
            with pytest.raises(CacheGone):
                await tweets.rewrite([number])
            faults.clear()
            await tweets.rewrite([number])  # as the bus does, which calls until it works
            assert await hydrator.get([number]) == [record(gone)]


async def test_what_is_to_be_renewed_is_good_until_its_end(cache: CacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.cache.loading.random.random", lambda: 1 - 1e-16)  # everybody wants to renew at once
    now = 1_000.0
    values = LoadingCache(cache, "stale:", ttl_s=1.0, now=lambda: now)
    asked = 0

    async def load() -> bytes:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)  # what costs much is renewed early
        if asked > 1:
            raise Unavailable("gone") if asked % 2 else DeadlineExceeded("hangs")
        return b"v"

    assert await values.get("k", load) == b"v"
    for _ in range(4):
        assert await values.get("k", load) == b"v"
    assert asked == 5, "each tried"
    now += 2.0
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await values.get("k", load)


# --- outbox and bus


async def test_events_reach_the_bus_whatever_fails_between_the_two(tmp_path: Path, valkey: Valkey) -> None:
    """Each step of the relay and of the bus fails at random, before, after, or half-way: nothing is lost, and first
    deliveries of a key are in the order of its commits."""
    dice = random.Random(5)
    topic = f"t{dice.getrandbits(32):x}"
    real = RedisStreamsBus(f"{valkey.url}", options=BUS)
    faults = Faults()
    got: defaultdict[bytes, list[int]] = defaultdict(list)

    async def handle(message: Message) -> None:
        got[message.key].append(int(message.payload))

    async with sqlite("tweet", tmp_path) as sql:
        outbox = SqlOutbox(sql.db, faulty(Bus, real, faults), "test", options=QUICK)
        outbox._rows = faulty(OutboxRows, outbox._rows, faults)
        subscription = real.subscribe("g", [topic], handle)
        await subscription.start()
        await outbox.start()
        kinds = (REFUSES, LOSES_THE_ANSWER)
        try:
            for number in range(EVENTS):

                async def unit(tx: Tx, number: int = number) -> None:
                    await outbox.add(tx, topic, b"%d" % (number % 7), "test.Event", b"%d" % number)

                await sql.db.write(unit)
                if number % 5 == 0:
                    faults.next(dice.choice((*kinds, takes(2))), "publish")
                    faults.next(dice.choice(kinds), *dice.sample(("waiting", "mark", "lease", "take", "check"), 2))
                    faults.next(dice.choice(kinds), dice.choice(("rewind", "incarnation")))
            wanted = {b"%d" % key: list(range(key, EVENTS, 7)) for key in range(7)}
            await eventually(lambda: all(set(wanted[key]) <= set(got[key]) for key in wanted), seconds=60.0)
        finally:
            faults.clear()
            await outbox.stop()
            await subscription.stop(grace=1.0)
            await real.close()
    assert {key: list(dict.fromkeys(numbers)) for key, numbers in got.items()} == wanted
    again = sum(map(len, got.values())) - EVENTS
    assert again > 0, "nothing was published twice: the test is too kind"
    print(f"{len(faults.calls)} steps; {again} deliveries were not the first")


async def test_events_that_come_again_and_late_change_nothing(
    tmp_path: Path, valkey: Valkey, cache: CacheStore
) -> None:
    """Tweets are written and deleted by two people; their counts and records are what the last event says."""
    dice = random.Random(9)
    real = RedisStreamsBus(valkey.url, options=BUS)
    bus = Replayed(real, dice)
    (tmp_path / "user").mkdir()
    (tmp_path / "tweet").mkdir()
    async with sqlite("user", tmp_path / "user") as users, sqlite("tweet", tmp_path / "tweet") as written:
        store = SqlUserStore(users.db, users.outbox)
        for user_id in (ADA, BOB):
            name = f"user{user_id}"
            session = Session(user_id.to_bytes(16, "big"), user_id, b"hash", 0, 1)
            await store.create(NewPerson(user_id, name, name, "", name), session, UserRegistered(user_id=user_id))
        people = People(store, Records(cache, USER_PREFIX), LoadingCache(cache, "username:", ttl_s=300))
        readers = user_subscriptions(bus, store, people)  # type: ignore[arg-type]  # all that a Bus is, by __getattr__
        outbox = SqlOutbox(written.db, real, "tweet", options=QUICK)
        tweets = SqlTweetStore(written.db, outbox)
        for reader in readers:
            await reader.start()
        await outbox.start()
        try:
            for number in range(100):
                author = dice.choice((ADA, BOB))
                await tweets.create(StoredTweet(1_000 + number, author, "text"), "")
                if dice.random() < 0.3:
                    await tweets.delete(1_000 + number, author)
                if dice.random() < 0.3:
                    await tweets.mark(Mark.LIKE, author, 1_000, 5_000 + number)

            async def all_told() -> bool:
                waiting = "SELECT COUNT(*) FROM outbox WHERE published_ms IS NULL"
                if await written.db.read(lambda tx: tx.scalar(waiting)):
                    return False
                return not (await real.backlog()).unhandled

            await eventually(all_told, seconds=60.0)
        finally:
            await outbox.stop()
            for reader in readers:
                await reader.stop(grace=1.0)
            await real.close()
        counted = await written.db.read(
            lambda tx: _rows(tx, "SELECT author_id, tweet_count, like_count FROM authors ORDER BY author_id")
        )
        told = await users.db.read(lambda tx: _rows(tx, "SELECT id, tweet_count, like_count FROM users ORDER BY id"))
        assert told == counted
        assert bus.repeated > 20, "nothing came twice: the test is too kind"


async def _rows(tx: Tx, query: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in (await tx.execute(query)).all()]
