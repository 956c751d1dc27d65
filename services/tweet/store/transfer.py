"""What the tweets store is made of, for copies to another one (mesh/transfer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from mesh.transfer.base import Kind, Transfer, Type
from mesh.transfer.sql import SqlTransfer
from services.tweet.store.sql import SqlTweetStore

_INTEGER, _TEXT, _BYTES, _BOOLEAN = Type.INTEGER, Type.TEXT, Type.BYTES, Type.BOOLEAN
_ROWS = 1_000
_LOOK_S = 3_600.0  # through all tweets

KINDS: Sequence[Kind] = (
    Kind("authors", ("author_id",), dict.fromkeys(("author_id", "tweet_count", "like_count", "version"), _INTEGER)),
    Kind(
        "tweets",
        ("id",),
        {
            "id": _INTEGER,
            "author_id": _INTEGER,
            "text": _TEXT,
            "entities": _BYTES,
            "lang": _TEXT,
            "possibly_sensitive": _BOOLEAN,
            "reply_settings": _TEXT,
            "conversation_id": _INTEGER,
            "in_reply_to_tweet_id": _INTEGER,
            "in_reply_to_user_id": _INTEGER,
            "quoted_id": _INTEGER,
            "retweeted_id": _INTEGER,
            "retweeted_author_id": _INTEGER,
            "poll_id": _INTEGER,
            "request_id": _TEXT,
            "retweet_count": _INTEGER,
            "reply_count": _INTEGER,
            "like_count": _INTEGER,
            "quote_count": _INTEGER,
            "bookmark_count": _INTEGER,
            "impression_count": _INTEGER,
            "deleted": _BOOLEAN,
            "version": _INTEGER,
            "visibility": _INTEGER,
        },
        frozenset({"entities", "request_id"}),
    ),
    Kind("mentions", ("user_id", "tweet_id"), {"user_id": _INTEGER, "tweet_id": _INTEGER}),
    Kind("likes", ("user_id", "tweet_id"), dict.fromkeys(("user_id", "tweet_id", "mark_id"), _INTEGER)),
    Kind("bookmarks", ("user_id", "tweet_id"), dict.fromkeys(("user_id", "tweet_id", "mark_id"), _INTEGER)),
    Kind("polls", ("id",), dict.fromkeys(("id", "tweet_id", "duration_minutes", "end_ms", "version"), _INTEGER)),
    Kind(
        "poll_options",
        ("poll_id", "position"),
        {"poll_id": _INTEGER, "position": _INTEGER, "label": _TEXT, "votes": _INTEGER},
    ),
    Kind("poll_votes", ("poll_id", "user_id"), dict.fromkeys(("poll_id", "user_id", "position"), _INTEGER)),
)
"""In the order in which they refer to each other."""
LEFT_OUT: Mapping[str, str] = {
    "count_changes": "added up at the source before the copy begins",
    "outbox": "moved as mesh.transfer.base.EVENTS",
    "outbox_lease": "who relays, and what they know of a bus that may be another at the target",
    "worker_leases": "of processes that have ended",
}
"""Tables that are no kind, and why."""


_SCHEMAS = Path(__file__).parents[1] / "schema"


async def open_transfer(url: str, *, target: bool) -> Transfer:
    """The tweets store behind a URL, as an end of a copy. Raises as SqlTransfer.open."""
    if url.startswith("cassandra:"):
        from services.tweet.store.cassandra.transfer import open_cassandra  # its driver is not for those without need

        return await open_cassandra(url, _SCHEMAS / "cassandra", KINDS, target=target)
    return await SqlTransfer.open(url, _SCHEMAS, KINDS, target=target, settle=_settle)


async def _settle(db: Database) -> None:
    """Takes away what hangs on deleted tweets, and adds up what waits to be counted."""
    bus = RedisStreamsBus("unix:///nowhere")  # is not asked for anything: events wait in the outbox
    tweets = SqlTweetStore(db, SqlOutbox(db, bus, "tweet"))
    after = 0
    while ids := await db.read(partial(_with_remains, after), deadline=_LOOK_S):
        for tweet_id in ids:
            while await tweets.purge(tweet_id, _ROWS) == _ROWS:
                pass
        after = ids[-1]
    while (await tweets.counts.apply(_ROWS)).changes:
        pass
    await bus.close()


async def _with_remains(after: int, tx: Tx) -> list[int]:
    """Deleted tweets with greater ids that something hangs on."""
    hangs = " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} AS r WHERE r.tweet_id = t.id)"
        for table in ("likes", "bookmarks", "mentions", "polls")
    )
    query = f"SELECT id FROM tweets AS t WHERE deleted AND id > :after AND ({hangs}) ORDER BY id LIMIT 100"
    return [row.id for row in (await tx.execute(query, {"after": after})).all()]
