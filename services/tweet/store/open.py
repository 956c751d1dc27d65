"""The tweets store that a URL names: its scheme chooses the adapter, and nothing else does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mesh.bus.base import Bus
from mesh.db.cassandra import Cassandra
from mesh.db.cassandra_leases import CassandraLeases
from mesh.db.leases import SqlLeases
from mesh.db.sql import Database
from mesh.ids import LeaseStore
from mesh.outbox.cassandra import CassandraOutbox
from mesh.outbox.relay import Outbox, OutboxOptions
from mesh.outbox.sql import SqlOutbox
from services.tweet.store.base import CountCheck, CountStore, PollStore, TweetStore
from services.tweet.store.cassandra.checks import CassandraCheck
from services.tweet.store.cassandra.counts import CassandraCounts
from services.tweet.store.cassandra.erasure import CassandraRemains
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.tweets import CassandraTweets
from services.tweet.store.checks import SqlCountCheck
from services.tweet.store.erasure import Remains, SqlRemains
from services.tweet.store.sql import SqlTweetStore

_SOURCE = "tweet"


@dataclass(frozen=True, slots=True)
class Stores:
    """Every port of the tweets store, of one adapter."""

    tweets: TweetStore
    """The tweets."""
    polls: PollStore
    """Their polls."""
    counts: CountStore
    """What adds up."""
    check: CountCheck
    """Compares counts with rows."""
    remains: Remains
    """What is left of one person."""
    leases: LeaseStore
    """Worker numbers of ids."""
    outbox: Outbox
    """Publishes events."""
    close: Callable[[], Awaitable[None]]
    """Ends it."""
    background: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What it does all the time, by name."""
    compares_each_s: float = 1.0
    """Seconds between pages of the comparison of counts with rows."""


async def open_stores(url: str, bus: Bus, *, outbox_keep_seconds: int) -> Stores:
    """Opens the store that a URL names.

    Args:
        url: `cassandra://...` (mesh/db/cassandra.py), or of a SQL database (mesh/db/sql.py).
        bus: where events go.
        outbox_keep_seconds: how long published events are kept.

    Raises what Cassandra.open and Database.open do.
    """
    options = OutboxOptions.keeping(outbox_keep_seconds)
    if url.startswith("cassandra:"):
        cassandra = await Cassandra.open(url)
        return on_cassandra(cassandra, CassandraOutbox(cassandra, bus, _SOURCE, options=options))
    db = await Database.open(url)
    return on_sql(db, SqlOutbox(db, bus, _SOURCE, options=options))


def on_sql(db: Database, outbox: SqlOutbox) -> Stores:
    """The SQL adapter."""
    tweets = SqlTweetStore(db, outbox)
    return Stores(
        tweets,
        tweets.polls,
        tweets.counts,
        SqlCountCheck(db, outbox, tweets.counts),
        SqlRemains(db, outbox, tweets.counts),
        SqlLeases(db),
        outbox,
        db.close,
    )


def on_cassandra(db: Cassandra, outbox: CassandraOutbox, *, grace_s: float = 5.0, patience_s: float = 8.0) -> Stores:
    """The adapter for Cassandra; the times are Journal's."""
    journal = Journal(db, outbox, grace_s=grace_s, patience_s=patience_s)
    tweets = CassandraTweets(db, journal, outbox)
    counts = CassandraCounts(db, journal, outbox)

    async def close() -> None:
        await journal.close()
        await db.close()

    return Stores(
        tweets,
        tweets.polls,
        counts,
        CassandraCheck(db, journal, outbox, counts, tweets.polls),
        CassandraRemains(db, journal, outbox, tweets.polls),
        CassandraLeases(db),
        outbox,
        close,
        {"completing": journal.run},
        # Rows are counted by many small reads there, and not by one query.
        compares_each_s=5.0,
    )
