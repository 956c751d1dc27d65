"""Counts of tweets in SQL: changes are rows first, and are added up in batches."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable

from rookery.events.v1.tweet_events_pb2 import TweetCountsChanged

from mesh.db.sql import Database, Tx
from mesh.outbox import Outbox
from services.tweet.domain import Metric, StoredTweet
from services.tweet.store.base import Applied
from services.tweet.store.rows import BY_IDS, ENGAGEMENT_TOPIC, tweet_of

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


class SqlCounts:
    """services.tweet.store.base.CountStore."""

    def __init__(self, db: Database, outbox: Outbox) -> None:
        self._db = db
        self._outbox = outbox
        self.changed = asyncio.Event()

    async def add(self, tx: Tx, target_id: int, metric: Metric, step: int) -> None:
        """Adds a change to the unit's transaction."""
        await tx.execute(_ADD, {"target_id": target_id, "metric": metric.value, "step": step})
        tx.on_commit(self.changed.set)

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
            for row in rows:
                if row.metric in _METRICS:
                    steps[row.target_id][row.metric] += row.step
            if not steps:
                return Applied(len(rows), [])
            await tx.execute(
                _COUNT, [{"id": i, **{metric.value: some[metric] for metric in Metric}} for i, some in steps.items()]
            )
            found = (await tx.execute(BY_IDS, {"ids": list(steps)})).all()
            tweets = [tweet_of(row) for row in found]
            await self._tell(tx, (tweet for tweet in tweets if steps[tweet.id].keys() != {Metric.IMPRESSIONS}))
            return Applied(len(rows), tweets)

        return await self._db.write(unit)

    async def _tell(self, tx: Tx, tweets: Iterable[StoredTweet]) -> None:
        for tweet in tweets:
            if tweet.deleted:
                continue
            event = TweetCountsChanged(
                tweet_id=tweet.id,
                version=tweet.version,
                retweet_count=tweet.retweet_count,
                reply_count=tweet.reply_count,
                like_count=tweet.like_count,
                quote_count=tweet.quote_count,
                bookmark_count=tweet.bookmark_count,
            )
            await self._outbox.add(
                tx,
                ENGAGEMENT_TOPIC,
                str(tweet.id).encode(),
                event.DESCRIPTOR.full_name,
                event.SerializeToString(),
            )
