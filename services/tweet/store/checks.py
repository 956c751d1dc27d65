"""Counts against the rows that they count, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rookery.events.v1.tweet_events_pb2 import AuthorCountsMended
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from services.tweet.domain import TWEETS_TOPIC, Metric, vote_metric
from services.tweet.store.base import Wrong
from services.tweet.store.counts import SqlCounts

_READ_S = 10.0  # counting a million rows of one index takes some tens of milliseconds
# What each count counts; impressions have no rows. Each is one range of an index.
_ROWS = {
    Metric.RETWEETS: "tweets AS r WHERE r.retweeted_id = t.id AND r.retweeted_id <> 0 AND NOT r.deleted",
    Metric.REPLIES: "tweets AS r WHERE r.in_reply_to_tweet_id = t.id AND r.in_reply_to_tweet_id <> 0 AND NOT r.deleted",
    Metric.LIKES: "likes AS r WHERE r.tweet_id = t.id",
    Metric.QUOTES: "tweets AS r WHERE r.quoted_id = t.id AND r.quoted_id <> 0 AND NOT r.deleted",
    Metric.BOOKMARKS: "bookmarks AS r WHERE r.tweet_id = t.id",
}
_TWEETS = text(
    "SELECT id, "
    + ", ".join(f"{metric}, (SELECT COUNT(*) FROM {rows}) AS rows_of_{metric}" for metric, rows in _ROWS.items())
    + " FROM tweets AS t WHERE id IN :ids AND NOT deleted"
).bindparams(bindparam("ids", expanding=True))
# A deleted tweet's poll is not compared: its votes go page by page.
_POLLS = text(
    "SELECT o.poll_id, o.position, o.votes, COUNT(v.user_id) AS rows_of_votes FROM poll_options AS o"
    " JOIN polls AS p ON p.id = o.poll_id JOIN tweets AS t ON t.id = p.tweet_id"
    " LEFT JOIN poll_votes AS v ON v.poll_id = o.poll_id AND v.position = o.position"
    " WHERE o.poll_id IN :ids AND NOT t.deleted GROUP BY o.poll_id, o.position, o.votes"
).bindparams(bindparam("ids", expanding=True))
_WAITING = text(
    "SELECT target_id, metric, SUM(step) AS step FROM count_changes WHERE target_id IN :ids GROUP BY target_id, metric"
).bindparams(bindparam("ids", expanding=True))
_AUTHORED = {
    "tweet_count": "tweets AS r WHERE r.author_id = a.author_id AND NOT r.deleted",
    "like_count": "likes AS r WHERE r.user_id = a.author_id",
}
_AUTHORS = text(
    "SELECT author_id AS id, "
    + ", ".join(f"{count}, (SELECT COUNT(*) FROM {rows}) AS rows_of_{count}" for count, rows in _AUTHORED.items())
    + " FROM authors AS a WHERE author_id IN :ids"
).bindparams(bindparam("ids", expanding=True))
_SET_AUTHOR = (
    "UPDATE authors SET tweet_count = :tweet_count, like_count = :like_count, version = version + 1"
    " WHERE author_id = :id RETURNING tweet_count, like_count, version"
)


class SqlCountCheck:
    """services.tweet.store.base.CountCheck."""

    def __init__(self, db: Database, outbox: SqlOutbox, counts: SqlCounts) -> None:
        self._db = db
        self._outbox = outbox
        self._counts = counts

    async def tweet_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT id FROM tweets WHERE id > :after AND NOT deleted ORDER BY id LIMIT :limit",
                {"after": after, "limit": limit},
            )
            return [row.id for row in rows.all()]

        return await self._db.read(unit)

    async def wrong_tweets(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            return await self._wrong_tweets(tx, ids)

        return await self._db.read(unit, deadline=_READ_S) if ids else []

    async def mend_tweet(self, tweet_id: int) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            wrong = await self._wrong_tweets(tx, [tweet_id])
            for one in wrong:
                await self._counts.add(tx, tweet_id, Metric(one.count), one.rows - one.counted)
            return wrong

        return await self._db.write(unit, deadline=_READ_S)

    @staticmethod
    async def _wrong_tweets(tx: Tx, ids: Sequence[int]) -> list[Wrong]:
        waiting = (await tx.execute(_WAITING, {"ids": list(ids)})).all()
        steps = {(row.target_id, row.metric): int(row.step) for row in waiting}
        return [
            wrong
            for row in (await tx.execute(_TWEETS, {"ids": list(ids)})).all()
            for metric in _ROWS
            if (wrong := _wrong(row, metric.value, steps.get((row.id, metric.value), 0))) is not None
        ]

    async def poll_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT id FROM polls WHERE id > :after ORDER BY id LIMIT :limit", {"after": after, "limit": limit}
            )
            return [row.id for row in rows.all()]

        return await self._db.read(unit)

    async def wrong_polls(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            return await self._wrong_polls(tx, ids)

        return await self._db.read(unit, deadline=_READ_S) if ids else []

    async def mend_poll(self, poll_id: int) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            wrong = await self._wrong_polls(tx, [poll_id])
            for one in wrong:
                await self._counts.add(tx, poll_id, one.count, one.rows - one.counted)
            return wrong

        return await self._db.write(unit, deadline=_READ_S)

    @staticmethod
    async def _wrong_polls(tx: Tx, ids: Sequence[int]) -> list[Wrong]:
        waiting = (await tx.execute(_WAITING, {"ids": list(ids)})).all()
        steps = {(row.target_id, row.metric): int(row.step) for row in waiting}
        return [
            Wrong(row.poll_id, metric, counted, row.rows_of_votes)
            for row in (await tx.execute(_POLLS, {"ids": list(ids)})).all()
            if (counted := row.votes + steps.get((row.poll_id, metric := vote_metric(row.position)), 0))
            != row.rows_of_votes
        ]

    async def author_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT author_id FROM authors WHERE author_id > :after ORDER BY author_id LIMIT :limit",
                {"after": after, "limit": limit},
            )
            return [row.author_id for row in rows.all()]

        return await self._db.read(unit)

    async def wrong_authors(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            return await self._wrong_authors(tx, ids)

        return await self._db.read(unit, deadline=_READ_S) if ids else []

    async def mend_author(self, author_id: int) -> list[Wrong]:
        """See CountCheck."""

        async def unit(tx: Tx) -> list[Wrong]:
            wrong = await self._wrong_authors(tx, [author_id])
            if wrong:
                [now] = (await tx.execute(_AUTHORS, {"ids": [author_id]})).all()
                right = {count: getattr(now, f"rows_of_{count}") for count in _AUTHORED}
                row = (await tx.execute(_SET_AUTHOR, {"id": author_id, **right})).one()
                event = AuthorCountsMended(
                    author_id=author_id, tweet_count=row.tweet_count, like_count=row.like_count, version=row.version
                )
                key, kind = str(author_id).encode(), event.DESCRIPTOR.full_name
                await self._outbox.add(tx, TWEETS_TOPIC, key, kind, event.SerializeToString())
            return wrong

        return await self._db.write(unit, deadline=_READ_S)

    @staticmethod
    async def _wrong_authors(tx: Tx, ids: Sequence[int]) -> list[Wrong]:
        return [
            wrong
            for row in (await tx.execute(_AUTHORS, {"ids": list(ids)})).all()
            for count in _AUTHORED
            if (wrong := _wrong(row, count, 0)) is not None
        ]


def _wrong(row: Any, count: str, waiting: int) -> Wrong | None:
    counted, rows = getattr(row, count) + waiting, getattr(row, f"rows_of_{count}")
    return None if counted == rows else Wrong(row.id, count, counted, rows)
