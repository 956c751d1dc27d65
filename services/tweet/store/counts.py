"""Counts of tweets and polls in SQL: changes are rows first, and are added up in batches."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import PollVotesCounted, TweetCountsChanged

from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from services.tweet.domain import ENGAGEMENT_TOPIC, VOTES, Metric, StoredPoll, StoredTweet
from services.tweet.store.base import Applied
from services.tweet.store.rows import BY_IDS, polls_of, tweet_of

_ADD = "INSERT INTO count_changes (target_id, metric, step) VALUES (:target_id, :metric, :step)"
_TAKE = (
    "DELETE FROM count_changes WHERE id IN (SELECT id FROM count_changes ORDER BY id LIMIT :limit)"
    " RETURNING target_id, metric, step"
)
# All counts in one statement: a tweet is written once a batch, whatever happened to it.
_COUNT = (
    "UPDATE tweets SET "
    + ", ".join(f"{metric} = {metric} + :{metric}" for metric in Metric)
    + ", version = version + 1 WHERE id = :id"
)
_METRICS = frozenset(Metric)
_COUNT_VOTES = "UPDATE poll_options SET votes = votes + :step WHERE poll_id = :id AND position = :position"
_CHANGE_POLL = "UPDATE polls SET version = version + 1 WHERE id = :id"


class SqlCounts:
    """services.tweet.store.base.CountStore."""

    def __init__(self, db: Database, outbox: SqlOutbox) -> None:
        self._db = db
        self._outbox = outbox
        self.changed = asyncio.Event()

    async def add(self, tx: Tx, target_id: int, metric: str, step: int) -> None:
        """Adds a change of a Metric of a tweet, or of a `vote_metric` of a poll, to the unit's transaction."""
        await tx.execute(_ADD, {"target_id": target_id, "metric": str(metric), "step": step})
        tx.on_commit(self.changed.set)

    async def add_impressions(self, counts: Mapping[int, int]) -> None:
        """See CountStore."""
        rows = [{"target_id": i, "metric": Metric.IMPRESSIONS.value, "step": step} for i, step in counts.items()]

        async def unit(tx: Tx) -> None:
            await tx.execute(_ADD, rows)
            tx.on_commit(self.changed.set)

        if rows:
            await self._db.write(unit)

    async def waiting(self) -> bool:
        """See CountStore."""

        async def unit(tx: Tx) -> bool:
            return bool(await tx.scalar("SELECT EXISTS (SELECT 1 FROM count_changes)"))

        return await self._db.read(unit)

    async def apply(self, limit: int) -> Applied:
        """See CountStore."""

        async def unit(tx: Tx) -> Applied:
            rows = (await tx.execute(_TAKE, {"limit": limit})).all()
            steps: defaultdict[int, Counter[str]] = defaultdict(Counter)
            votes: Counter[tuple[int, int]] = Counter()
            for row in rows:
                if row.metric in _METRICS:
                    steps[row.target_id][row.metric] += row.step
                elif row.metric.startswith(VOTES):
                    votes[row.target_id, int(row.metric.removeprefix(VOTES))] += row.step
            return Applied(len(rows), await self._count(tx, steps), await self._count_votes(tx, votes))

        # It decides by nothing but the rows that it takes, so that no like has to run again because of it.
        return await self._db.write(unit, blind=True)

    async def _count(self, tx: Tx, steps: Mapping[int, Counter[str]]) -> list[StoredTweet]:
        if not steps:
            return []
        await tx.execute(
            _COUNT, [{"id": i, **{metric.value: some[metric] for metric in Metric}} for i, some in steps.items()]
        )
        tweets = [tweet_of(row) for row in (await tx.execute(BY_IDS, {"ids": list(steps)})).all()]
        for tweet in tweets:
            if not tweet.deleted and steps[tweet.id].keys() != {Metric.IMPRESSIONS}:
                event = TweetCountsChanged(
                    tweet_id=tweet.id,
                    version=tweet.version,
                    retweet_count=tweet.retweet_count,
                    reply_count=tweet.reply_count,
                    like_count=tweet.like_count,
                    quote_count=tweet.quote_count,
                    bookmark_count=tweet.bookmark_count,
                )
                await self._tell(tx, tweet.id, event)
        return tweets

    async def _count_votes(self, tx: Tx, votes: Mapping[tuple[int, int], int]) -> list[StoredPoll]:
        if not votes:
            return []
        ids = list(dict.fromkeys(poll_id for poll_id, _ in votes))
        steps = [{"id": i, "position": position, "step": step} for (i, position), step in votes.items()]
        await tx.execute(_COUNT_VOTES, steps)
        await tx.execute(_CHANGE_POLL, [{"id": poll_id} for poll_id in ids])
        polls = await polls_of(tx, ids)
        for poll in polls:
            event = PollVotesCounted(poll_id=poll.id, tweet_id=poll.tweet_id, version=poll.version)
            await self._tell(tx, poll.tweet_id, event)
        return polls

    async def _tell(self, tx: Tx, tweet_id: int, event: Message) -> None:
        key, kind = str(tweet_id).encode(), event.DESCRIPTOR.full_name
        await self._outbox.add(tx, ENGAGEMENT_TOPIC, key, kind, event.SerializeToString())
