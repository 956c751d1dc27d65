"""Tweets in SQL (SQLite, PostgreSQL)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import TweetCreated, TweetDeleted
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.outbox import Outbox
from services.tweet.domain import StoredTweet
from views.entry import Entry

TOPIC = "tweets"
_COLUMNS = (
    "id, author_id, text, entities, lang, possibly_sensitive, reply_settings, in_reply_to_user_id, deleted, version"
)
_BY_IDS = text(f"SELECT {_COLUMNS} FROM tweets WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
_MAX_ID = 2**63 - 1
_SOME = 64
"""Authors whose tweets one statement merges."""
# One index range an author, each cut at the limit, merged: the work is bounded by authors x limit, not by history.
_ONE_AUTHOR = (
    "SELECT * FROM (SELECT id, author_id, in_reply_to_user_id FROM tweets"
    " WHERE author_id = :author{0} AND id < :before AND id > :after AND NOT deleted"
    " ORDER BY id DESC LIMIT :limit) AS a{0}"
)


def _recent(authors: int) -> str:
    return " UNION ALL ".join(_ONE_AUTHOR.format(i) for i in range(authors)) + " ORDER BY id DESC LIMIT :limit"


def _tweet(row: Any) -> StoredTweet:
    return StoredTweet(
        id=row.id,
        author_id=row.author_id,
        text=row.text,
        entities=bytes(row.entities or b""),
        lang=row.lang,
        possibly_sensitive=bool(row.possibly_sensitive),
        reply_settings=row.reply_settings,
        in_reply_to_user_id=row.in_reply_to_user_id,
        deleted=bool(row.deleted),
        version=row.version,
    )


def _entry(row: Any) -> Entry:
    return Entry(row.id, row.author_id, row.in_reply_to_user_id)


class SqlTweetStore:
    """services.tweet.store.base.TweetStore."""

    def __init__(self, db: Database, outbox: Outbox) -> None:
        self._db = db
        self._outbox = outbox

    async def create(self, tweet: StoredTweet, request_id: str) -> StoredTweet:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet:
            done = await tx.execute(
                "INSERT INTO tweets (id, author_id, text, entities, lang, possibly_sensitive, reply_settings,"
                " in_reply_to_user_id, request_id) VALUES (:id, :author_id, :text, :entities, :lang, :sensitive,"
                " :reply_settings, :in_reply_to, :request_id)"
                " ON CONFLICT (author_id, request_id) WHERE request_id IS NOT NULL DO NOTHING",
                {
                    "id": tweet.id,
                    "author_id": tweet.author_id,
                    "text": tweet.text,
                    "entities": tweet.entities or None,
                    "lang": tweet.lang,
                    "sensitive": tweet.possibly_sensitive,
                    "reply_settings": tweet.reply_settings,
                    "in_reply_to": tweet.in_reply_to_user_id,
                    "request_id": request_id or None,
                },
            )
            if done.rowcount == 0:
                made = await self._by_request(tx, tweet.author_id, request_id)
                if made is None:
                    raise LookupError("a request id conflicts with a row that is not there")
                return made
            count, version = await self._count(tx, tweet.author_id, 1)
            event = TweetCreated(
                tweet_id=tweet.id,
                author_id=tweet.author_id,
                in_reply_to_user_id=tweet.in_reply_to_user_id,
                author_tweet_count=count,
                author_version=version,
            )
            await self._publish(tx, tweet.author_id, event)
            return tweet

        return await self._db.write(unit)

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            return await self._by_request(tx, author_id, request_id)

        return await self._db.read(unit)

    async def _by_request(self, tx: Tx, author_id: int, request_id: str) -> StoredTweet | None:
        row = (
            await tx.execute(
                f"SELECT {_COLUMNS} FROM tweets WHERE author_id = :author_id AND request_id = :request_id",
                {"author_id": author_id, "request_id": request_id},
            )
        ).first()
        return None if row is None else _tweet(row)

    async def delete(self, tweet_id: int, author_id: int) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            row = (
                await tx.execute(
                    "UPDATE tweets SET deleted = TRUE, text = '', entities = NULL, version = version + 1"
                    f" WHERE id = :id AND author_id = :author_id AND NOT deleted RETURNING {_COLUMNS}",
                    {"id": tweet_id, "author_id": author_id},
                )
            ).first()
            if row is None:
                row = (await tx.execute(f"SELECT {_COLUMNS} FROM tweets WHERE id = :id", {"id": tweet_id})).first()
                return None if row is None else _tweet(row)
            tweet = _tweet(row)
            count, version = await self._count(tx, author_id, -1)
            event = TweetDeleted(
                tweet_id=tweet_id,
                author_id=author_id,
                in_reply_to_user_id=tweet.in_reply_to_user_id,
                author_tweet_count=count,
                author_version=version,
            )
            await self._publish(tx, author_id, event)
            return tweet

        return await self._db.write(unit)

    async def _count(self, tx: Tx, author_id: int, step: int) -> tuple[int, int]:
        row = (
            await tx.execute(
                "INSERT INTO authors (author_id, tweet_count, version) VALUES (:id, :first, 1)"
                " ON CONFLICT (author_id) DO UPDATE SET tweet_count = authors.tweet_count + :step,"
                " version = authors.version + 1 RETURNING tweet_count, version",
                {"id": author_id, "first": max(step, 0), "step": step},
            )
        ).one()
        return row.tweet_count, row.version

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """See TweetStore."""

        async def unit(tx: Tx) -> list[StoredTweet]:
            return [_tweet(row) for row in (await tx.execute(_BY_IDS, {"ids": list(ids)})).all()]

        return await self._db.read(unit) if ids else []

    async def by_author(self, author_id: int, *, before: int, after: int, ascending: bool, limit: int) -> list[Entry]:
        """See TweetStore."""

        async def unit(tx: Tx) -> list[Entry]:
            rows = await tx.execute(
                "SELECT id, author_id, in_reply_to_user_id FROM tweets WHERE author_id = :author_id"
                f" AND id < :before AND id > :after AND NOT deleted ORDER BY id {'ASC' if ascending else 'DESC'}"
                " LIMIT :limit",
                {"author_id": author_id, "before": before or _MAX_ID, "after": after, "limit": limit},
            )
            return [_entry(row) for row in rows.all()]

        return await self._db.read(unit)

    async def recent(self, author_ids: Sequence[int], *, before: int, after: int, limit: int) -> list[Entry]:
        """See TweetStore."""
        authors = list(dict.fromkeys(author_ids))

        async def unit(tx: Tx) -> list[Entry]:
            found: list[list[Entry]] = []
            for start in range(0, len(authors), _SOME):
                some = authors[start : start + _SOME]
                bounds = {"before": before or _MAX_ID, "after": after, "limit": limit}
                named = {f"author{i}": author for i, author in enumerate(some)}
                rows = await tx.execute(_recent(len(some)), {**bounds, **named})
                found.append([_entry(row) for row in rows.all()])
            return heapq.nsmallest(limit, (e for part in found for e in part), key=lambda entry: -entry.tweet_id)

        return await self._db.read(unit)

    async def _publish(self, tx: Tx, author_id: int, event: Message) -> None:
        await self._outbox.add(
            tx, TOPIC, str(author_id).encode(), event.DESCRIPTOR.full_name, event.SerializeToString()
        )
