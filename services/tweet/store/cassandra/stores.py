"""All ports of the tweets store on one keyspace of Cassandra."""

from __future__ import annotations

from mesh.bus.base import Bus
from mesh.db.cassandra import Cassandra
from mesh.db.cassandra_leases import CassandraLeases
from mesh.outbox.cassandra import CassandraOutbox
from mesh.outbox.relay import OutboxOptions
from services.tweet.store.cassandra.checks import CassandraCheck
from services.tweet.store.cassandra.counts import CassandraCounts
from services.tweet.store.cassandra.erasure import CassandraRemains
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.tweets import CassandraTweets
from services.tweet.store.open import Stores


async def open_cassandra(url: str, bus: Bus, source: str, options: OutboxOptions) -> Stores:
    """Opens them; the arguments are those of `Cassandra.open` and CassandraOutbox."""
    db = await Cassandra.open(url)
    return on_cassandra(db, CassandraOutbox(db, bus, source, options=options))


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
