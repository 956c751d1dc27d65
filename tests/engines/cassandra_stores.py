"""The tweets store on Cassandra for tests: one keyspace for all tests of a module, empty for each."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra, Statement, now_us
from mesh.db.migrations import migrate
from mesh.errors import Unavailable
from mesh.ids import LeaseStore
from mesh.outbox.base import OutboxRows
from mesh.outbox.cassandra import CassandraOutbox, CassandraRows
from scripts.engines.control import Control
from services.tweet.domain import Mark, StoredTweet
from services.tweet.store.base import CountCheck, CountStore, PollStore, TweetStore
from services.tweet.store.cassandra.stores import on_cassandra
from services.tweet.store.cassandra.tweets import marked, rows_of
from services.tweet.store.cassandra.writes import WRITES, Row
from services.tweet.store.erasure import Remains
from services.tweet.store.open import Stores
from tests.stores.suites.events import Event
from tests.stores.suites.scale import FIRST, TweetsAtScale
from tests.stores.suites.told_it_timed_out import Told
from tests.stores.suites.tweets import TweetStores

from .engines import ROOT

_EVENTS = "SELECT at_us, topic, key, type, payload FROM outbox_waiting"
DEADLINE_S = 20.0
"""Of a statement: tests share few cores with all else."""
SCHEMA = ROOT / "services" / "tweet" / "schema" / "cassandra"


@contextmanager
def new_keyspace(control: Control) -> Iterator[str]:
    """The URL of a keyspace with the schema, which lives as long as the block."""
    name = f"test_{uuid.uuid4().hex}"
    [url] = control.engine.apart(control.place(), name).values()
    asyncio.run(migrate(url, SCHEMA))
    try:
        yield url
    finally:
        control.engine.drop(control.place(), name)


@dataclass(frozen=True, slots=True)
class Keyspace:
    """What the adapter is made of."""

    db: Cassandra
    """Where."""
    outbox: CassandraOutbox
    """It is not started: events stay where they are put."""

    async def events(self) -> list[Event]:
        """See suites.events.Events."""
        pool = descriptor_pool.Default()
        return [
            Event(
                row.topic,
                row.key.decode(),
                message_factory.GetMessageClass(pool.FindMessageTypeByName(row.type)).FromString(row.payload),
            )
            for row in sorted(await self.db.rows(_EVENTS), key=lambda row: row.at_us)
        ]


@dataclass(frozen=True, slots=True)
class CassandraMiscount:
    """suites.tweets.Miscount."""

    db: Cassandra

    async def tweet(self, tweet_id: int, **counts: int) -> None:
        """See Miscount."""
        for name, count in counts.items():
            await self.db.execute(f"UPDATE tweets SET {name} = ? WHERE id = ?", (count, tweet_id))

    async def author(self, author_id: int, *, tweet_count: int, like_count: int) -> None:
        """See Miscount."""
        change = "UPDATE journals SET tweet_count = ?, like_count = ? WHERE id = ? IF EXISTS"
        await self.db.conditional(change, (tweet_count, like_count, author_id))

    async def poll(self, poll_id: int, votes: Mapping[int, int]) -> None:
        """See Miscount."""
        [row] = await self.db.rows("SELECT votes, labels FROM polls WHERE id = ?", (poll_id,))
        counts = list(row.votes or [0] * len(row.labels))
        for position, count in votes.items():
            counts[position - 1] = count
        await self.db.execute("UPDATE polls SET votes = ? WHERE id = ?", (counts, poll_id))


async def empty(db: Cassandra) -> None:
    """Deletes all rows: quicker than TRUNCATE where there are few."""
    columns = await db.rows(
        "SELECT table_name, column_name, position FROM system_schema.columns WHERE keyspace_name = ?"
        " AND kind = 'partition_key' ALLOW FILTERING",
        (db.keyspace,),
    )
    keys: dict[str, list[str]] = {}
    for row in sorted(columns, key=lambda row: row.position):
        if not row.table_name.startswith("schema_"):
            keys.setdefault(row.table_name, []).append(row.column_name)
    await asyncio.gather(*(_empty(db, table, names) for table, names in keys.items()))


async def _empty(db: Cassandra, table: str, names: Sequence[str]) -> None:
    found = await db.rows(f"SELECT DISTINCT {', '.join(names)} FROM {table}", most=1_000_000)
    where = " AND ".join(f"{name} = ?" for name in names)
    if table in CONDITIONAL:
        for row in found:
            await db.conditional(f"DELETE FROM {table} WHERE {where} IF EXISTS", tuple(row))
    else:
        delete = f"DELETE FROM {table} USING TIMESTAMP ? WHERE {where}"
        at = now_us()
        await db.many([(delete, (at, *row)) for row in found], reads=False, deadline=DEADLINE_S)


CONDITIONAL = ("journals", "worker_leases", "outbox_lease")


@asynccontextmanager
async def opened(url: str, *, grace_s: float = 5.0) -> AsyncIterator[tuple[Keyspace, Stores]]:
    """One replica."""
    db = await Cassandra.open(url, deadline=DEADLINE_S)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    outbox = CassandraOutbox(db, bus, "tweet")
    stores = on_cassandra(db, outbox, grace_s=grace_s, patience_s=3 * DEADLINE_S)
    try:
        yield Keyspace(db, outbox), stores
    finally:
        await stores.close()
        await bus.close()


def tweet_stores(keyspace: Keyspace, stores: Stores) -> TweetStores:
    """For TweetStoreSuite."""
    miscount = CassandraMiscount(keyspace.db)
    return TweetStores(
        stores.tweets, stores.polls, stores.counts, stores.check, miscount, keyspace.events, stores.close
    )


_VOLATILE = {
    "journals": {"seq", "act", "bucket", "at", "position"},
    "count_changes": {"shard", "bucket", "act", "place"},
    "outbox_waiting": {"minute", "shard", "at_us", "event_id"},
    "outbox_published": {"minute", "shard", "at_us", "event_id", "published_ms", "gone_us"},
    "worker_leases": {"expires_ms"},
    "outbox_lease": {"expires_ms", "contended_ms"},
}
"""Columns that differ from run to run: times, random names, places in a queue, and numbers of what was tried."""
_UNDER_WAY = {"buckets", "watermarks"}
"""Tables that say where to look."""


async def content(db: Cassandra) -> dict[str, list[str]]:
    """Every row of every table, less what differs from run to run."""
    columns = await db.rows(
        "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?", (db.keyspace,)
    )
    tables: dict[str, list[str]] = {}
    for row in columns:
        if not row.table_name.startswith("schema_") and row.table_name not in _UNDER_WAY:
            tables.setdefault(row.table_name, []).append(row.column_name)

    async def of_table(table: str) -> list[str]:
        kept = sorted(set(tables[table]) - _VOLATILE.get(table, set()))
        rows = await db.rows(f"SELECT {', '.join(kept)} FROM {table}", most=1_000_000, deadline=DEADLINE_S)
        return sorted(str(dict(zip(kept, row, strict=True))) for row in rows)

    return dict(zip(tables, await asyncio.gather(*map(of_table, tables)), strict=True))


def told(keyspace: Keyspace, stores: Stores) -> Told:
    """For ToldItTimedOutSuite."""
    ports = {
        TweetStore: stores.tweets,
        PollStore: stores.polls,
        CountStore: stores.counts,
        CountCheck: stores.check,
        Remains: stores.remains,
        LeaseStore: stores.leases,
        OutboxRows: CassandraRows(keyspace.db, keep_s=600.0, clock=time.time),
    }
    miscount = CassandraMiscount(keyspace.db)

    async def miscounted() -> None:
        await miscount.tweet(100, quote_count=5)
        await miscount.author(2, tweet_count=0, like_count=5)
        await miscount.poll(300, {1: 5, 2: 5})

    return Told(ports, lambda: content(keyspace.db), miscounted)


_CHUNK = 1_000  # tweets or marks between which others have their turn
_LOADS = 20


async def _until_done(write: Callable[[], Awaitable[Any]]) -> None:
    """Writes that may be made again: a small server that is loaded with rows may need a moment."""
    for _ in range(_LOADS):
        try:
            await write()
        except Unavailable:
            continue
        return
    raise AssertionError("rows cannot be loaded")


_AT_ONCE = 100  # rows of one partition that are written as one


def at_scale(keyspace: Keyspace, stores: Stores) -> TweetsAtScale:
    """For TweetsAtScaleSuite."""
    db = keyspace.db

    async def write(rows: Iterable[Row]) -> None:
        """Rows of a partition together, as many at a time as a server takes."""
        now = now_us()
        partitions: dict[object, list[Statement]] = {}
        for name, values in dict.fromkeys(rows):
            made = WRITES[name]
            columns = _PARTITION.get(name)
            place = object() if columns is None else (name, *(values[column] for column in columns))
            partitions.setdefault(place, []).append((made.cql, made.values(now, values)))
        batches = [
            some[start : start + _AT_ONCE] for some in partitions.values() for start in range(0, len(some), _AT_ONCE)
        ]
        alone = [batch[0] for batch in batches if len(batch) == 1]
        await _until_done(lambda: db.many(alone, reads=False, concurrency=32, deadline=60.0))
        for start in range(0, len(batches), 16):
            together = [batch for batch in batches[start : start + 16] if len(batch) > 1]
            await _until_done(lambda some=together: asyncio.gather(*(db.batch(one, idempotent=True) for one in some)))

    async def write_all(tweets: Sequence[StoredTweet], mentioned: Collection[int]) -> None:
        for start in range(0, len(tweets), _CHUNK):
            await write(row for one in tweets[start : start + _CHUNK] for row in rows_of(one, "", mentioned, None))

    async def mark_all(mark: Mark, pairs: Sequence[tuple[int, int]]) -> None:
        """The one list that all of them are in. The lists of one that each is in besides would take minutes."""
        people, targets = map(set, zip(*pairs, strict=True))
        [owner] = people if len(people) == 1 else targets
        numbered = [(*pair, number) for number, pair in enumerate(pairs, FIRST)]
        for start in range(0, len(numbered), _CHUNK):
            rows = (row for one in numbered[start : start + _CHUNK] for row in marked(mark, *one))
            await write((name, values) for name, values in rows if name != "mark" and values[0] == owner)

    return TweetsAtScale(stores.tweets, write_all, mark_all)


_PARTITION = {
    "by-author": (0, 1),
    "by-relation": (0, 1, 2),
    "mention": (0, 1),
    "mark-by-tweet": (0, 1, 2),
    "mark-by-user": (0, 1, 2),
}
"""Which values are the partition's, of rows that share it with many."""
