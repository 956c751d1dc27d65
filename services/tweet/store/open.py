"""The tweets store that a URL names: its scheme chooses the adapter, and nothing else does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mesh.bus.base import Bus
from mesh.db.leases import SqlLeases
from mesh.db.schemes import is_cassandra
from mesh.db.sql import Database
from mesh.ids import LeaseStore
from mesh.outbox.relay import Outbox, OutboxOptions
from mesh.outbox.sql import SqlOutbox
from services.tweet.store.base import CountCheck, CountStore, PollStore, TweetStore
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
    if is_cassandra(url):
        from services.tweet.store.cassandra.stores import open_cassandra  # its driver is not for those without need

        return await open_cassandra(url, bus, _SOURCE, options)
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
