"""What is left of one person in the tweets store, on Cassandra."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from rookery.events.v1.tweet_events_pb2 import TweetRelinked

from mesh.db.cassandra import Cassandra
from mesh.outbox.relay import Outbox
from services.tweet.domain import TWEETS_TOPIC, Mark, StoredTweet, relinked
from services.tweet.store.cassandra.acts import Act, Done, Head
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.polls import CassandraPolls
from services.tweet.store.cassandra.rows import tweet_of, tweet_rows
from services.tweet.store.cassandra.tweets import CONVERSATION, RELATIONS, event, relations_of
from services.tweet.store.cassandra.windows import (
    BY_AUTHOR,
    MENTIONS,
    Listing,
    marks_by_tweet,
    marks_by_user,
    month_of,
    span_of,
    walk,
    week_of,
)
from services.tweet.store.cassandra.writes import Row
from services.tweet.store.erasure import Vote

_VOTES = "SELECT poll_id, position FROM votes_by_user WHERE user_id = ? AND poll_id > ? LIMIT ?"
_DELETED = "SELECT tweet_id FROM deleted_tweets WHERE author_id = ? LIMIT ?"
_OF_TWEET = (*RELATIONS, CONVERSATION, *(marks_by_tweet(mark).name for mark in Mark))
_OF_PERSON = (BY_AUTHOR, MENTIONS, *map(marks_by_user, Mark))


class CassandraRemains:
    """services.tweet.store.erasure.Remains."""

    def __init__(self, db: Cassandra, journal: Journal, outbox: Outbox, polls: CassandraPolls) -> None:
        self._db = db
        self._journal = journal
        self._outbox = outbox
        self._polls = polls

    async def pointing(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""
        rows = await walk(self._db, MENTIONS, user_id, before=0, after=0, ascending=False, limit=limit)
        return [row.tweet_id for row in rows]

    async def relink(self, tweet_id: int, user_id: int) -> StoredTweet | None:
        """See Remains."""
        mention: Row = ("mention-gone", (user_id, week_of(tweet_id), tweet_id))
        found = await tweet_rows(self._db, [tweet_id])

        async def decide(head: Head, at: int) -> Act[StoredTweet | None] | Done[StoredTweet | None]:
            rows = await tweet_rows(self._db, [tweet_id])
            if not rows or rows[0].deleted:
                return Act(None, [mention])
            [row] = rows
            before = tweet_of(row)
            after = relinked(before, user_id)
            named = frozenset(row.named or ()) - {user_id}
            if after == before:  # it was done before, and told; or only the list has it
                listed = user_id in (row.named or ())
                return Act(None, [mention, ("tweet-named", (named, tweet_id))]) if listed else Done(None)
            answered = after.in_reply_to_user_id
            told = TweetRelinked(
                tweet_id=tweet_id,
                author_id=before.author_id,
                old_in_reply_to_user_id=before.in_reply_to_user_id,
                in_reply_to_user_id=answered,
            )
            changes: list[Row] = [
                mention,
                ("tweet-relinked", (answered, after.entities, named, row.changes + 1, tweet_id)),
            ]
            if answered != before.in_reply_to_user_id:
                changes.append(("by-author-relinked", (answered, before.author_id, month_of(tweet_id), tweet_id)))
                changes += [("mention-relinked", (answered, other, week_of(tweet_id), tweet_id)) for other in named]
                changes += [
                    ("by-relation-relinked", (answered, other_id, relation, span_of(other_id, tweet_id), tweet_id))
                    for other_id, relation in relations_of(before)
                ]
            return Act(
                replace(after, version=after.version + 1),
                changes,
                [event(self._outbox, TWEETS_TOPIC, before.author_id, told)],
            )

        # Without the tweet nobody but the person has a journal in which it could be done.
        owner = found[0].author_id if found else user_id
        return (await self._journal.do(owner, decide))[0]

    async def votes(self, user_id: int, *, after: int, limit: int) -> list[Vote]:
        """See Remains."""
        return [Vote(row.poll_id, row.position) for row in await self._db.rows(_VOTES, (user_id, after, limit))]

    async def unvote(self, poll_id: int, user_id: int) -> None:
        """See Remains."""
        await self._polls.unvote(poll_id, user_id, counts=True)

    async def deleted(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""
        return [row.tweet_id for row in await self._db.rows(_DELETED, (user_id, limit))]

    async def remove(self, ids: Sequence[int]) -> None:
        """See Remains."""
        by_author: defaultdict[int, list[int]] = defaultdict(list)
        for row in await tweet_rows(self._db, ids):
            by_author[row.author_id].append(row.id)
        await asyncio.gather(*(self._remove(author_id, some) for author_id, some in by_author.items()))

    async def _remove(self, author_id: int, ids: Sequence[int]) -> None:
        async def decide(head: Head, at: int) -> Act[None] | Done[None]:
            gone: list[Row] = []
            for row in await tweet_rows(self._db, ids):
                if row.deleted:
                    gone += [("tweet-gone", (row.id,)), ("deleted-gone", (author_id, row.id))]
                    gone += [("windows-gone", (row.id, name)) for name in _OF_TWEET]
                    if row.request_id:
                        gone.append(("request-gone", (author_id, row.request_id)))
            return Act(None, gone) if gone else Done(None)

        await self._journal.do(author_id, decide)

    async def forget(self, user_id: int) -> None:
        """See Remains. What came meanwhile stays, and can be found by the next who erases the person."""

        async def decide(head: Head, at: int) -> Act[bool] | Done[bool]:
            left = await asyncio.gather(*(self._has(listing, user_id) for listing in _OF_PERSON))
            gone = zip(_OF_PERSON, left, strict=True)
            return Act(not any(left), [("windows-gone", (user_id, one.name)) for one, rows in gone if not rows])

        if (await self._journal.do(user_id, decide))[0]:
            await self._journal.forget(user_id)

    async def _has(self, listing: Listing, owner: int) -> bool:
        return bool(await walk(self._db, listing, owner, before=0, after=0, ascending=False, limit=1))
