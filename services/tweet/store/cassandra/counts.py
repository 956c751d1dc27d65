"""Counts of tweets and polls on Cassandra: changes are rows first, and are added up in batches.

Who adds up has a journal of its own, one for each shard, so a batch is an act like any other: what the counts were is
read, what they are is decided by the journal's number, and both the counts and the end of the changes are in the act's
intent. So a change is added once, whoever dies and however many add up; and tweets are written by no condition.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rookery.events.v1.tweet_events_pb2 import PollVotesCounted, TweetCountsChanged

from mesh.bus.base import Outgoing
from mesh.db.cassandra import Cassandra
from mesh.outbox.relay import Outbox
from services.tweet.domain import ENGAGEMENT_TOPIC, VOTES, Metric, StoredPoll, StoredTweet
from services.tweet.store.base import Applied
from services.tweet.store.cassandra.acts import Act, Done, Head
from services.tweet.store.cassandra.journal import CHANGES, SHARDS, Journal
from services.tweet.store.cassandra.rows import poll_of, poll_rows, tweet_of, tweet_rows, votes_of
from services.tweet.store.cassandra.tweets import event
from services.tweet.store.cassandra.writes import Row

_BATCH = 200  # changes of one act
_BUCKETS = 6  # that are read at once; without a backlog there are no more
_CHANGES = (
    "SELECT act, place, target_id, metric, step, WRITETIME(step) AS at FROM count_changes"
    " WHERE shard = ? AND bucket = ? LIMIT ?"
)
_FIRST = "SELECT act FROM count_changes WHERE shard = ? AND bucket = ? LIMIT 1"


def journal_of(shard: int) -> int:
    """The journal of those who add up a shard; people have ids above 0."""
    return -1 - shard


class CassandraCounts:
    """services.tweet.store.base.CountStore."""

    def __init__(self, db: Cassandra, journal: Journal, outbox: Outbox) -> None:
        self._db = db
        self._journal = journal
        self._outbox = outbox
        self.changed: asyncio.Event = journal.changed
        self._from: dict[int, int] = {}  # by shard: before this bucket nothing waits, nor ever will
        self._turn = asyncio.Lock()

    async def add_impressions(self, counts: Mapping[int, int]) -> None:
        """See CountStore."""
        if counts:
            await self._journal.change([(i, Metric.IMPRESSIONS.value, step) for i, step in counts.items()])

    async def waiting(self) -> bool:
        """See CountStore."""
        low = await self._journal.watermark()
        return any(await asyncio.gather(*(self._waits(shard, low) for shard in range(SHARDS))))

    async def _waits(self, shard: int, low: int) -> bool:
        """Whether a shard has changes; buckets that are done with are left behind."""
        for bucket in await self._buckets(shard):
            if await self._db.rows(_FIRST, (shard, bucket)):
                return True
            if bucket < low:  # it was empty after the last that could come had come
                await self._journal.leave(shard, bucket)
                self._from[shard] = bucket + 1
        return False

    async def _buckets(self, shard: int) -> list[int]:
        if shard not in self._from:
            self._from[shard] = (await self._journal.head(journal_of(shard))).position
        return await self._journal.buckets(CHANGES, shard, self._from[shard])

    async def apply(self, limit: int) -> Applied:
        """See CountStore."""
        applied = Applied(0, [])
        async with self._turn:
            shards = await asyncio.gather(*(self.changes(shard, 1) for shard in range(SHARDS)))
            for shard in [shard for shard, found in enumerate(shards) if found]:
                while applied.changes < limit:
                    some = await self._add_up(shard, min(_BATCH, limit - applied.changes))
                    applied = Applied(
                        applied.changes + some.changes,
                        _newest(applied.tweets, some.tweets),
                        _newest(applied.polls, some.polls),
                    )
                    if not some.changes or not await self.changes(shard, 1):
                        break
        return applied

    async def _add_up(self, shard: int, limit: int) -> Applied:
        async def decide(head: Head, at: int) -> Act[Applied] | Done[Applied]:
            changes = await self.changes(shard, limit)
            if not changes:
                return Done(Applied(0, []))
            steps: defaultdict[int, Counter[str]] = defaultdict(Counter)
            votes: defaultdict[int, Counter[int]] = defaultdict(Counter)
            for _, change in changes:
                if change.metric.startswith(VOTES):
                    votes[change.target_id][int(change.metric.removeprefix(VOTES))] += change.step
                else:
                    steps[change.target_id][change.metric] += change.step
            tweets, polls = await asyncio.gather(tweet_rows(self._db, steps), poll_rows(self._db, list(votes)))
            rows: list[Row] = []
            events: list[Outgoing] = []
            counted = [_count(row, steps[row.id], rows) for row in tweets]
            voted = [_count_votes(row, votes[row.id], rows) for row in polls]
            for tweet in counted:
                if not tweet.deleted and steps[tweet.id].keys() != {Metric.IMPRESSIONS.value}:
                    events.append(event(self._outbox, ENGAGEMENT_TOPIC, tweet.id, _told(tweet)))
            for poll in voted:
                told = PollVotesCounted(poll_id=poll.id, tweet_id=poll.tweet_id, version=poll.version)
                events.append(event(self._outbox, ENGAGEMENT_TOPIC, poll.tweet_id, told))
            return Act(
                Applied(len(changes), counted, voted),
                rows,
                events,
                counted=[(shard, bucket, one.act, one.place, one.at) for bucket, one in changes],
                position=max(head.position, self._from.get(shard, 0)),
            )

        return (await self._journal.do(journal_of(shard), decide))[0]

    async def changes(self, shard: int, limit: int) -> list[tuple[int, Any]]:
        """Changes of a shard that wait, each with its bucket. Raises Unavailable."""
        buckets = await self._buckets(shard)
        found: list[tuple[int, Any]] = []
        for start in range(0, len(buckets), _BUCKETS):
            some = buckets[start : start + _BUCKETS]
            pages = await asyncio.gather(*(self._db.rows(_CHANGES, (shard, bucket, limit)) for bucket in some))
            found += [(bucket, row) for bucket, rows in zip(some, pages, strict=True) for row in rows]
            if len(found) >= limit:
                break
        return found[:limit]


def _newest(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    return [*{one.id: one for one in (*before, *after)}.values()]


def _count(row: Any, steps: Counter[str], rows: list[Row]) -> StoredTweet:
    """The tweet with its new counts; what writes them goes into `rows`."""
    before = tweet_of(row)
    counts = {metric.value: getattr(before, metric.value) + steps[metric.value] for metric in Metric}
    rows.append(("tweet-counted", (*counts.values(), (row.counted or 0) + 1, row.id)))
    return replace(before, version=before.version + 1, **counts)


def _count_votes(row: Any, votes: Counter[int], rows: list[Row]) -> StoredPoll:
    counted = [before + votes[position] for position, before in enumerate(votes_of(row), 1)]
    rows.append(("poll-counted", (counted, (row.counted or 0) + 1, row.id)))
    before = poll_of(row)
    choices = tuple(replace(choice, votes=number) for choice, number in zip(before.choices, counted, strict=True))
    return replace(before, choices=choices, version=before.version + 1)


def _told(tweet: StoredTweet) -> TweetCountsChanged:
    return TweetCountsChanged(
        tweet_id=tweet.id,
        version=tweet.version,
        retweet_count=tweet.retweet_count,
        reply_count=tweet.reply_count,
        like_count=tweet.like_count,
        quote_count=tweet.quote_count,
        bookmark_count=tweet.bookmark_count,
    )
