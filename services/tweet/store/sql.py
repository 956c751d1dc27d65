"""Tweets in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import (
    TweetBookmarksChanged,
    TweetDeleted,
    TweetLiked,
    TweetUnliked,
)

from mesh.db.sql import Database, Tx
from mesh.errors import NotFound
from mesh.outbox.sql import SqlOutbox
from services.tweet.domain import (
    ENGAGEMENT_TOPIC,
    TWEETS_TOPIC,
    Mark,
    Metric,
    Review,
    StoredPoll,
    StoredTweet,
    Visibility,
    created,
    visibility_changed,
)
from services.tweet.store.base import By, Marked
from services.tweet.store.counts import SqlCounts
from services.tweet.store.polls import SqlPollStore, add_poll, purge_poll
from services.tweet.store.rows import BY_IDS, COLUMNS, tweet_of
from views.entry import Entry

_ENTRY = "id, author_id, in_reply_to_user_id, retweeted_id, retweeted_author_id"
_MAX_ID = 2**63 - 1
_SOME = 64
"""Authors whose tweets one statement merges."""
# One index range an author, each cut at the limit, merged: the work is bounded by authors x limit, not by history.
_ONE_AUTHOR = (
    f"SELECT * FROM (SELECT {_ENTRY} FROM tweets"
    " WHERE author_id = :author{0} AND id < :before AND id > :after AND NOT deleted"
    " ORDER BY id {1} LIMIT :limit) AS a{0}"
)
_COUNTED = {"retweeted": Metric.RETWEETS, "quoted": Metric.QUOTES, "replied_to": Metric.REPLIES}
_EXCLUDED = {"replies": "in_reply_to_tweet_id = 0", "retweets": "retweeted_id = 0"}
_MARKS = {Mark.LIKE: ("likes", Metric.LIKES), Mark.BOOKMARK: ("bookmarks", Metric.BOOKMARKS)}

_PURGE = (
    "DELETE FROM {0} WHERE tweet_id = :tweet_id AND user_id IN"
    " (SELECT user_id FROM {0} WHERE tweet_id = :tweet_id LIMIT :limit) RETURNING user_id"
)
_PURGED = ("bookmarks", "mentions")


def _recent(authors: int, order: str) -> str:
    return (
        " UNION ALL ".join(_ONE_AUTHOR.format(i, order) for i in range(authors)) + f" ORDER BY id {order} LIMIT :limit"
    )


def _entry(row: Any) -> Entry:
    return Entry(row.id, row.author_id, row.in_reply_to_user_id, row.retweeted_id, row.retweeted_author_id)


class SqlTweetStore:
    """services.tweet.store.base.TweetStore."""

    def __init__(self, db: Database, outbox: SqlOutbox) -> None:
        self._db = db
        self._outbox = outbox
        self.counts = SqlCounts(db, outbox)
        """Where this store's changes are counted."""
        self.polls = SqlPollStore(db, self.counts)
        """The polls of its tweets."""

    async def create(
        self,
        tweet: StoredTweet,
        request_id: str,
        mentioned: Collection[int] = (),
        poll: StoredPoll | None = None,
        review: Review | None = None,
    ) -> StoredTweet:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet:
            # Neither the same request nor the same retweet makes a second row: both have a unique index.
            done = await tx.execute(
                "INSERT INTO tweets (id, author_id, text, entities, lang, possibly_sensitive, reply_settings,"
                " conversation_id, in_reply_to_tweet_id, in_reply_to_user_id, quoted_id, retweeted_id,"
                " retweeted_author_id, poll_id, request_id, visibility)"
                " VALUES (:id, :author_id, :text, :entities, :lang, :sensitive, :reply_settings, :conversation_id,"
                " :in_reply_to_tweet_id, :in_reply_to_user_id, :quoted_id, :retweeted_id,"
                " :retweeted_author_id, :poll_id, :request_id, :visibility)"
                " ON CONFLICT DO NOTHING",
                {
                    "id": tweet.id,
                    "author_id": tweet.author_id,
                    "text": tweet.text,
                    "entities": tweet.entities or None,
                    "lang": tweet.lang,
                    "sensitive": tweet.possibly_sensitive,
                    "reply_settings": tweet.reply_settings,
                    "conversation_id": tweet.conversation_id or tweet.id,
                    "in_reply_to_tweet_id": tweet.in_reply_to_tweet_id,
                    "in_reply_to_user_id": tweet.in_reply_to_user_id,
                    "quoted_id": tweet.quoted_id,
                    "retweeted_id": tweet.retweeted_id,
                    "retweeted_author_id": tweet.retweeted_author_id,
                    "poll_id": tweet.poll_id,
                    "request_id": request_id or None,
                    "visibility": tweet.visibility,
                },
            )
            if done.rowcount == 0:
                made = await self._by_request(tx, tweet.author_id, request_id) if request_id else None
                made = made or await self._retweet(tx, tweet.author_id, tweet.retweeted_id)
                if made is None:
                    raise LookupError("a tweet conflicts with a row that is not there")
                return made
            event = created(tweet, review)
            event.author_tweet_count, event.author_version = await self._count_author(tx, tweet.author_id, "tweet", 1)
            await self._publish(tx, TWEETS_TOPIC, tweet.author_id, event)
            await self._count_references(tx, tweet, 1)
            if mentioned:
                rows = [{"user_id": user_id, "tweet_id": tweet.id} for user_id in mentioned]
                await tx.execute("INSERT INTO mentions (user_id, tweet_id) VALUES (:user_id, :tweet_id)", rows)
            if poll is not None:
                await add_poll(tx, poll)
            # A retweet repeats the text: made after its original went, it would outlive the deletion of the others.
            if tweet.retweeted_id and await self._is_deleted(tx, tweet.retweeted_id) is not False:
                raise NotFound(f"Could not find tweet with tweet_id: [{tweet.retweeted_id}].")
            [stored] = (await tx.execute(BY_IDS, {"ids": [tweet.id]})).all()
            return tweet_of(stored)

        return await self._db.write(unit)

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            return await self._by_request(tx, author_id, request_id)

        return await self._db.read(unit)

    async def retweet(self, author_id: int, original_id: int) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            return await self._retweet(tx, author_id, original_id)

        return await self._db.read(unit)

    async def _by_request(self, tx: Tx, author_id: int, request_id: str) -> StoredTweet | None:
        row = (
            await tx.execute(
                f"SELECT {COLUMNS} FROM tweets WHERE author_id = :author_id AND request_id = :request_id",
                {"author_id": author_id, "request_id": request_id},
            )
        ).first()
        return None if row is None else tweet_of(row)

    async def _retweet(self, tx: Tx, author_id: int, original_id: int) -> StoredTweet | None:
        row = (
            await tx.execute(
                f"SELECT {COLUMNS} FROM tweets WHERE author_id = :author_id AND retweeted_id = :original_id"
                " AND retweeted_id <> 0 AND NOT deleted",
                {"author_id": author_id, "original_id": original_id},
            )
        ).first()
        return None if row is None else tweet_of(row)

    async def delete(self, tweet_id: int, author_id: int) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            row = (await tx.execute(BY_IDS, {"ids": [tweet_id]})).first()
            if row is None or row.deleted or row.author_id != author_id:
                return None if row is None else tweet_of(row)
            tweet = tweet_of(row)
            # Nor may what stays point at others: when they are erased, only tweets that are there are looked through.
            left = (
                await tx.execute(
                    "UPDATE tweets SET deleted = TRUE, text = '', entities = NULL, in_reply_to_user_id = 0,"
                    f" retweeted_author_id = 0, version = version + 1 WHERE id = :id RETURNING {COLUMNS}",
                    {"id": tweet_id},
                )
            ).one()
            event = TweetDeleted(
                tweet_id=tweet_id,
                author_id=author_id,
                in_reply_to_user_id=tweet.in_reply_to_user_id,
                retweeted_tweet_id=tweet.retweeted_id,
                retweeted_author_id=tweet.retweeted_author_id,
                poll_id=tweet.poll_id,
                referenced_tweet_ids=[referenced for _, referenced in tweet.references],
            )
            event.author_tweet_count, event.author_version = await self._count_author(tx, author_id, "tweet", -1)
            await self._publish(tx, TWEETS_TOPIC, author_id, event)
            await self._count_references(tx, tweet, -1)
            return tweet_of(left)

        return await self._db.write(unit)

    async def set_visibility(self, tweet_id: int, visibility: Visibility) -> StoredTweet | None:
        """See TweetStore."""

        async def unit(tx: Tx) -> StoredTweet | None:
            row = (await tx.execute(BY_IDS, {"ids": [tweet_id]})).first()
            if row is None or row.deleted:
                return None
            tweet = tweet_of(row)
            if tweet.visibility is visibility:
                return tweet
            changed = (
                await tx.execute(
                    "UPDATE tweets SET visibility = :visibility, version = version + 1 WHERE id = :id"
                    f" RETURNING {COLUMNS}",
                    {"id": tweet_id, "visibility": visibility},
                )
            ).one()
            await self._publish(tx, TWEETS_TOPIC, tweet.author_id, visibility_changed(tweet_of(changed)))
            return tweet_of(changed)

        return await self._db.write(unit)

    async def _count_author(self, tx: Tx, author_id: int, what: str, step: int) -> tuple[int, int]:
        column = f"{what}_count"
        row = (
            await tx.execute(
                f"INSERT INTO authors (author_id, {column}, version) VALUES (:id, :first, 1)"
                f" ON CONFLICT (author_id) DO UPDATE SET {column} = authors.{column} + :step,"
                f" version = authors.version + 1 RETURNING {column} AS value, version",
                {"id": author_id, "first": max(step, 0), "step": step},
            )
        ).one()
        return row.value, row.version

    async def _count_references(self, tx: Tx, tweet: StoredTweet, step: int) -> None:
        for relation, tweet_id in tweet.references:
            await self.counts.add(tx, tweet_id, _COUNTED[relation], step)

    @staticmethod
    async def _is_deleted(tx: Tx, tweet_id: int) -> bool | None:
        """None for one that never was."""
        deleted = await tx.scalar("SELECT deleted FROM tweets WHERE id = :id", {"id": tweet_id})
        return None if deleted is None else bool(deleted)

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """See TweetStore."""

        async def unit(tx: Tx) -> list[StoredTweet]:
            return [tweet_of(row) for row in (await tx.execute(BY_IDS, {"ids": list(ids)})).all()]

        return await self._db.read(unit) if ids else []

    async def page(
        self, by: By, value: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """See TweetStore."""
        conditions = "".join(f" AND {_EXCLUDED[name]}" for name in sorted(exclude))
        partial = f" AND {by.value} <> 0" if by in (By.QUOTED, By.RETWEETED) else ""

        async def unit(tx: Tx) -> list[Entry]:
            rows = await tx.execute(
                f"SELECT {_ENTRY} FROM tweets WHERE {by.value} = :value{partial} AND id < :before AND id > :after"
                f" AND NOT deleted{conditions} ORDER BY id {'ASC' if ascending else 'DESC'} LIMIT :limit",
                {"value": value, "before": before or _MAX_ID, "after": after, "limit": limit},
            )
            return [_entry(row) for row in rows.all()]

        return await self._db.read(unit)

    async def mentions(
        self, user_id: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """See TweetStore."""
        conditions = "".join(f" AND {_EXCLUDED[name]}" for name in sorted(exclude))

        async def unit(tx: Tx) -> list[Entry]:
            rows = await tx.execute(
                f"SELECT {_ENTRY} FROM mentions AS m JOIN tweets AS t ON t.id = m.tweet_id WHERE m.user_id = :user_id"
                f" AND m.tweet_id < :before AND m.tweet_id > :after AND NOT t.deleted{conditions}"
                f" ORDER BY m.tweet_id {'ASC' if ascending else 'DESC'} LIMIT :limit",
                {"user_id": user_id, "before": before or _MAX_ID, "after": after, "limit": limit},
            )
            return [_entry(row) for row in rows.all()]

        return await self._db.read(unit)

    async def purge(self, tweet_id: int, limit: int) -> int:
        """See TweetStore."""

        async def unit(tx: Tx) -> int:
            poll_id = await tx.scalar("SELECT poll_id FROM tweets WHERE id = :id AND deleted", {"id": tweet_id})
            if poll_id is None:
                return 0
            params = {"tweet_id": tweet_id, "limit": limit}
            likers = [row.user_id for row in (await tx.execute(_PURGE.format("likes"), params)).all()]
            for user_id in likers:
                count, version = await self._count_author(tx, user_id, "like", -1)
                event = TweetUnliked(user_id=user_id, tweet_id=tweet_id, like_count=count, like_version=version)
                await self._publish(tx, ENGAGEMENT_TOPIC, tweet_id, event)
            done = len(likers)
            for table in _PURGED:
                if done < limit:
                    rows = await tx.execute(_PURGE.format(table), {"tweet_id": tweet_id, "limit": limit - done})
                    done += len(rows.all())
            if poll_id and done < limit:
                done += await purge_poll(tx, poll_id, limit - done)
            return done

        return await self._db.write(unit)

    async def recent(
        self, author_ids: Sequence[int], *, before: int, after: int, limit: int, oldest_first: bool = False
    ) -> list[Entry]:
        """See TweetStore."""
        authors = list(dict.fromkeys(author_ids))
        order, sign = ("ASC", 1) if oldest_first else ("DESC", -1)

        async def unit(tx: Tx) -> list[Entry]:
            found: list[Entry] = []
            bounds = {"before": before or _MAX_ID, "after": after, "limit": limit}
            for start in range(0, len(authors), _SOME):
                some = authors[start : start + _SOME]
                named = {f"author{i}": author for i, author in enumerate(some)}
                rows = await tx.execute(_recent(len(some), order), {**bounds, **named})
                found += [_entry(row) for row in rows.all()]
                found.sort(key=lambda entry: sign * entry.tweet_id)
                del found[limit:]
                if len(found) == limit:  # of the authors that follow, only what goes before the last of these matters
                    bounds["before" if oldest_first else "after"] = found[-1].tweet_id
            return found

        return await self._db.read(unit)

    async def mark(self, mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> bool:
        """See TweetStore."""
        table, _ = _MARKS[mark]

        async def unit(tx: Tx) -> bool:
            # Looked at here, so that no mark is left behind by a deletion that comes in between.
            if await self._is_deleted(tx, tweet_id) is not False:
                raise NotFound(f"Could not find tweet with tweet_id: [{tweet_id}].")
            done = await tx.execute(
                f"INSERT INTO {table} (user_id, tweet_id, mark_id) VALUES (:user_id, :tweet_id, :mark_id)"
                " ON CONFLICT (user_id, tweet_id) DO NOTHING",
                {"user_id": user_id, "tweet_id": tweet_id, "mark_id": mark_id},
            )
            if done.rowcount:
                await self._count_mark(tx, mark, user_id, tweet_id, 1)
            return bool(done.rowcount)

        return await self._db.write(unit)

    async def unmark(self, mark: Mark, user_id: int, tweet_id: int) -> bool:
        """See TweetStore."""
        table, _ = _MARKS[mark]

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                f"DELETE FROM {table} WHERE user_id = :user_id AND tweet_id = :tweet_id",
                {"user_id": user_id, "tweet_id": tweet_id},
            )
            if done.rowcount:
                await self._count_mark(tx, mark, user_id, tweet_id, -1)
            return bool(done.rowcount)

        return await self._db.write(unit)

    async def _count_mark(self, tx: Tx, mark: Mark, user_id: int, tweet_id: int, step: int) -> None:
        if mark is Mark.LIKE:
            count, version = await self._count_author(tx, user_id, "like", step)
            kind = TweetLiked if step > 0 else TweetUnliked
            event: Message = kind(user_id=user_id, tweet_id=tweet_id, like_count=count, like_version=version)
        else:
            event = TweetBookmarksChanged(tweet_id=tweet_id)
        await self._publish(tx, ENGAGEMENT_TOPIC, tweet_id, event)
        await self.counts.add(tx, tweet_id, _MARKS[mark][1], step)

    async def marked_tweets(self, mark: Mark, user_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """See TweetStore."""
        return await self._marks(mark, "user_id", "tweet_id", user_id, before, after, limit)

    async def marking_users(self, mark: Mark, tweet_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """See TweetStore."""
        return await self._marks(mark, "tweet_id", "user_id", tweet_id, before, after, limit)

    async def _marks(
        self, mark: Mark, near: str, far: str, value: int, before: int, after: int, limit: int
    ) -> list[Marked]:
        table, _ = _MARKS[mark]
        bound, order = ("mark_id > :after", "ASC") if after else ("mark_id < :before", "DESC")

        async def unit(tx: Tx) -> list[Marked]:
            rows = await tx.execute(
                f"SELECT mark_id, {far} AS other_id FROM {table} WHERE {near} = :value AND {bound}"
                f" ORDER BY mark_id {order} LIMIT :limit",
                {"value": value, "limit": limit} | ({"after": after} if after else {"before": before or _MAX_ID}),
            )
            return [Marked(row.mark_id, row.other_id) for row in rows.all()]

        return await self._db.read(unit)

    async def _publish(self, tx: Tx, topic: str, key: int, event: Message) -> None:
        await self._outbox.add(tx, topic, str(key).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())
